//! Volumes with geometry and everything computed on voxels: no files, no networks.
//!
//! Axis order is (z, y, x) in memory and in every public triple; lengths are millimetres; world points are
//! `[right, anterior, superior]` (RAS+). CT intensities are Hounsfield units (HU).

mod error;
mod geometry;
mod volume;

pub use error::ImageError;
pub use geometry::{Box3, Geometry};
pub use volume::{LabelMap, Volume};
