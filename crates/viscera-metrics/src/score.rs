//! The scores of one case.

use crate::surface::Pair;
use crate::{EmptyRule, FlareScore, MetricsError, Overlap, ScoreOptions, SurfaceScore, overlap_per_class};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use viscera_image::{AnnotatedClasses, Geometry, LabelMap};

/// How far two corners of one grid may differ per world axis, in mm.
///
/// Programs round the transform to f32 or store it as a quaternion, which moves a far corner by some hundredths of a
/// millimetre; 0.1 mm is well below any CT voxel.
pub const GRID_TOLERANCE_MM: f64 = 0.1;

/// Checks that two label maps lie on one grid in the world, by [`Geometry::same_grid`] with [`GRID_TOLERANCE_MM`].
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] when the shapes differ, [`MetricsError::PlaceMismatch`] when the corners do.
pub fn check_same_grid(reference: &Geometry, prediction: &Geometry) -> Result<(), MetricsError> {
    if reference.shape != prediction.shape {
        return Err(MetricsError::ShapeMismatch {
            reference: reference.shape,
            prediction: prediction.shape,
        });
    }
    if !reference.same_grid(prediction, GRID_TOLERANCE_MM) {
        let gap_mm = (0..8)
            .map(|corner| corner_gap(reference, prediction, corner))
            .fold(0.0, f64::max);
        return Err(MetricsError::PlaceMismatch {
            gap_mm,
            tolerance_mm: GRID_TOLERANCE_MM,
        });
    }
    Ok(())
}

/// Distance in mm of the same corner (bit `axis` of `corner`: far end of that axis) of two grids of equal shape.
fn corner_gap(a: &Geometry, b: &Geometry, corner: usize) -> f64 {
    let index = std::array::from_fn(|axis| {
        if corner >> axis & 1 == 1 {
            a.shape[axis].saturating_sub(1) as f64
        } else {
            0.0
        }
    });
    a.world_of(index)
        .iter()
        .zip(b.world_of(index))
        .map(|(a, b)| (a - b).powi(2))
        .sum::<f64>()
        .sqrt()
}

/// The scores of one class in one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassScore {
    /// Dice's coefficient, [`Overlap::dice`], or what [`EmptyRule`] says.
    #[serde(rename = "Dice")]
    pub dice: Option<f64>,
    /// Jaccard index, [`Overlap::jaccard`], or what [`EmptyRule`] says.
    #[serde(rename = "IoU")]
    pub jaccard: Option<f64>,
    /// Voxel counts.
    #[serde(flatten)]
    pub overlap: Overlap,
    /// Volume of the reference mask in ml.
    pub volume_ref_ml: f64,
    /// Volume of the predicted mask in ml.
    pub volume_pred_ml: f64,
    /// `(prediction - reference) / reference` of the volumes; `None` when the reference is empty.
    #[serde(rename = "RVE")]
    pub relative_volume_error: Option<f64>,
    /// The part of the reference that was found, [`Overlap::sensitivity`].
    pub sensitivity: Option<f64>,
    /// The part of the prediction that is right, [`Overlap::precision`].
    pub precision: Option<f64>,
    /// Distances of the surfaces; `None` when they were not asked for.
    #[serde(flatten)]
    pub surface: Option<SurfaceScore>,
    /// Scores by a FLARE challenge's rules; `None` when they were not asked for or the challenge has no such class.
    #[serde(flatten)]
    pub flare: Option<FlareScore>,
}

/// The scores of one case: an entry of nnU-Net's `metric_per_case`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScore {
    /// Where the reference came from; a name for people, never opened.
    pub reference_file: String,
    /// Where the prediction came from; a name for people, never opened.
    pub prediction_file: String,
    /// Scores per class id, for exactly the classes that the reference annotates.
    pub metrics: BTreeMap<u8, ClassScore>,
}

impl CaseScore {
    /// Scores `prediction` against `reference` for the classes in `annotated`.
    ///
    /// `annotated` names every class that was drawn in this reference, whether or not it occurs; see the crate's
    /// documentation for the rules. Volumes are voxel counts times the reference's voxel volume. The two names are
    /// stored as they are. Distances need two bytes per voxel of the largest class's box, see [`surface_distances`].
    ///
    /// # Errors
    /// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`],
    /// [`MetricsError::TooManySlices`] from [`surface_distances`].
    ///
    /// [`surface_distances`]: crate::surface_distances
    pub fn measure(
        reference_file: impl Into<String>,
        prediction_file: impl Into<String>,
        reference: &LabelMap,
        prediction: &LabelMap,
        annotated: &AnnotatedClasses,
        options: &ScoreOptions,
    ) -> Result<Self, MetricsError> {
        let ml = reference.geometry().voxel_volume_mm3() / 1000.0;
        let empty_ratio = (options.both_empty == EmptyRule::One).then_some(1.0);
        let overlaps = overlap_per_class(reference, prediction, annotated)?;
        let wants_bounds = options.surface || options.flare.is_some();
        let pair = wants_bounds.then(|| Pair::of(reference, prediction));
        let mut metrics = BTreeMap::new();
        for (class, overlap) in overlaps {
            let (mut surface, mut flare) = (None, None);
            if let Some(pair) = &pair {
                let both = overlap.n_ref > 0 && overlap.n_pred > 0;
                let distances = if options.surface && both {
                    pair.distances(class)?
                } else {
                    None
                };
                if options.surface {
                    surface = Some(SurfaceScore::of(distances.as_ref(), &overlap, pair, class, options));
                }
                if let Some(rules) = options.flare {
                    flare = rules.score(pair, class, &overlap, distances.as_ref())?;
                }
            }
            let (n_ref, n_pred) = (overlap.n_ref as f64, overlap.n_pred as f64);
            let score = ClassScore {
                dice: overlap.dice().or(empty_ratio),
                jaccard: overlap.jaccard().or(empty_ratio),
                overlap,
                volume_ref_ml: n_ref * ml,
                volume_pred_ml: n_pred * ml,
                relative_volume_error: (overlap.n_ref > 0).then(|| (n_pred - n_ref) / n_ref),
                sensitivity: overlap.sensitivity(),
                precision: overlap.precision(),
                surface,
                flare,
            };
            metrics.insert(class, score);
        }
        Ok(Self {
            reference_file: reference_file.into(),
            prediction_file: prediction_file.into(),
            metrics,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn liver() -> AnnotatedClasses {
        [1].into_iter().collect()
    }

    fn map(geometry: Geometry, data: &[u8]) -> LabelMap {
        LabelMap::new(geometry, data.to_vec()).unwrap()
    }

    #[test]
    fn volumes_are_in_ml() {
        let grid = Geometry::ras([1, 2, 2], [5.0, 2.0, 0.5]);
        let score = CaseScore::measure(
            "r",
            "p",
            &map(grid.clone(), &[1, 1, 1, 0]),
            &map(grid, &[1, 0, 0, 0]),
            &liver(),
            &ScoreOptions::default(),
        );
        let class = &score.unwrap().metrics[&1];
        assert_eq!((class.volume_ref_ml, class.volume_pred_ml), (0.015, 0.005));
    }

    #[test]
    fn rounding_of_a_header_passes_and_a_shift_does_not() {
        let grid = Geometry::ras([40, 50, 60], [2.0, 0.7, 0.7]);
        let mut rounded = grid.clone();
        rounded.spacing = [2.000_2, 0.700_1, 0.699_9];
        assert_eq!(check_same_grid(&grid, &rounded), Ok(()));
        let mut shifted = grid.clone();
        shifted.origin = [3.0, 0.0, 4.0];
        assert_eq!(
            check_same_grid(&grid, &shifted),
            Err(MetricsError::PlaceMismatch {
                gap_mm: 5.0,
                tolerance_mm: GRID_TOLERANCE_MM
            })
        );
    }

    #[test]
    fn a_mirrored_grid_is_refused_though_its_first_voxel_fits() {
        let grid = Geometry::ras([4, 5, 6], [1.0; 3]);
        let mut mirrored = grid.clone();
        mirrored.direction[2] = [-1.0, 0.0, 0.0];
        assert_eq!(
            check_same_grid(&grid, &mirrored),
            Err(MetricsError::PlaceMismatch {
                gap_mm: 10.0,
                tolerance_mm: GRID_TOLERANCE_MM
            })
        );
    }

    #[test]
    fn another_shape_is_refused() {
        let a = map(Geometry::ras([1, 2, 3], [1.0; 3]), &[0; 6]);
        let b = map(Geometry::ras([3, 2, 1], [1.0; 3]), &[0; 6]);
        let error = CaseScore::measure("r", "p", &a, &b, &liver(), &ScoreOptions::default()).unwrap_err();
        assert_eq!(
            error,
            MetricsError::ShapeMismatch {
                reference: [1, 2, 3],
                prediction: [3, 2, 1]
            }
        );
    }
}
