//! Volumes with geometry and everything computed on voxels: no files, no networks.
//!
//! Axis order is (z, y, x) in memory and in every public triple; lengths are millimetres; world points are
//! `[right, anterior, superior]` (RAS+). CT intensities are Hounsfield units (HU).

mod blur;
mod border;
mod components;
mod crop;
mod error;
mod geometry;
mod grow;
mod intensity;
mod judged;
mod label_boxes;
mod labels;
pub mod morphology;
mod orient;
pub mod phantom;
mod resample;
mod resampling;
mod settle;
mod spline;
mod volume;
mod voxel;

pub use border::{BorderFit, fit_border};
pub use components::{Component, Components, components};
pub use crop::{bounding_box, bounding_box_in, crop, cropped_geometry, paste, paste_over};
pub use error::ImageError;
pub use geometry::{Box3, Geometry};
pub use grow::{RegionGrowth, grow_region};
pub use intensity::{Histogram, Moments, histogram, moments, percentiles, window, z_score};
pub use judged::scan_rule_bytes;
pub use label_boxes::label_boxes;
pub use labels::{AnnotatedClasses, LabelEntry, LabelTable};
pub use orient::{AxisMap, Orientation};
pub use resample::{
    AxisTable, Convention, Tap, nearest_positions, resample_linear, resample_linear_part, resample_nearest,
    resampled_geometry, shape_for_spacing,
};
pub use resampling::{Interpolator, Resampling, separate_axis};
pub use settle::settle;
pub use volume::{LabelMap, Volume};
pub use voxel::{Intensity, Voxel};
