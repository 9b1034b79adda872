//! From a CT to organ masks: recipes, stages, post-processing, report.

mod error;
mod hash;
pub mod recipe;

pub use error::PipelineError;
pub use recipe::Recipe;
