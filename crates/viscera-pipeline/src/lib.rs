//! From a CT to organ masks: recipes, stages, post-processing, report.

mod check;
mod decide;
mod error;
mod hash;
mod localise;
mod memory;
pub mod model;
mod postprocess;
mod predict;
mod prepare;
pub mod recipe;
mod restore;
mod warning;

pub use check::not_hounsfield;
pub use decide::Decision;
pub use error::PipelineError;
pub use localise::{Localised, Roi};
pub use memory::peak_memory_bytes;
pub use model::{Model, ModelStore};
pub use postprocess::{Pieces, Removed, clean};
pub use predict::Logits;
pub use prepare::{NetworkInput, Oriented, network_volume, normalise};
pub use recipe::Recipe;
pub use restore::RoiLabels;
pub use warning::{Warning, Warnings};
