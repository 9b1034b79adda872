//! What can be known of a data set before hours are spent on it: its fingerprint, its faults, and how it is split.

mod check;
mod fingerprint;
mod split;

pub use check::{DataReport, Finding, FindingKind, check_data};
pub use fingerprint::{Fingerprint, Intensities};
pub use split::{Fold, SplitBy, folds, load_folds};

use crate::TrainError;
use viscera_image::{AxisMap, LabelMap, Volume};
use viscera_io::{Case, ReadOptions, read_image, read_label_map};

/// A case as it lies in its files, turned to RAS+.
pub(crate) struct Read {
    pub(crate) image: Volume<f32>,
    pub(crate) labels: Option<LabelMap>,
}

impl Read {
    /// # Errors
    /// [`TrainError::Io`], and [`TrainError::Case`] for an image and labels on different grids.
    pub(crate) fn new(case: &Case) -> Result<Self, TrainError> {
        let image = read_image(&case.image, &ReadOptions::default())?.image.into_f32();
        let labels = case.labels.as_deref().map(read_label_map).transpose()?;
        if let Some(labels) = &labels {
            same_grid(&case.name, image.geometry(), labels)?;
        }
        let map = AxisMap::to_ras(image.geometry());
        Ok(Self {
            image: map.apply(&image),
            labels: labels.map(|labels| map.apply(&labels)),
        })
    }
}

/// Checks that labels lie on the image's grid. Headers are written in single precision, so a tenth of a voxel is no
/// difference.
///
/// # Errors
/// [`TrainError::Case`].
pub(crate) fn same_grid(case: &str, image: &viscera_image::Geometry, labels: &LabelMap) -> Result<(), TrainError> {
    let tolerance = 0.1 * image.spacing.iter().copied().fold(f64::INFINITY, f64::min);
    if image.same_grid(labels.geometry(), tolerance) {
        return Ok(());
    }
    Err(TrainError::Case {
        case: case.to_owned(),
        reason: format!(
            "image ({:?} voxels) and labels ({:?} voxels) lie on different grids",
            image.shape,
            labels.shape()
        ),
    })
}
