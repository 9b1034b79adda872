//! The distances of surfaces as scores of one class.

use super::Pair;
use crate::{EmptyDistance, EmptyRule, Overlap, ScoreOptions, SurfaceDistances};
use serde::{Deserialize, Serialize};

/// How far the surfaces of one class in reference and prediction lie apart.
///
/// Values are `None` where a mask is empty and no rule of [`ScoreOptions`] gives a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SurfaceScore {
    /// Tolerance of the surface Dice in mm.
    #[serde(rename = "NSD_tolerance_mm")]
    pub tolerance_mm: f64,
    /// Surface Dice: the part of both surfaces that lies within the tolerance of the other, 0 to 1.
    #[serde(rename = "NSD")]
    pub nsd: Option<f64>,
    /// Hausdorff distance in mm: the largest distance of either surface from the other.
    #[serde(rename = "HD")]
    pub hausdorff_mm: Option<f64>,
    /// The 95th percentile instead of the largest distance, in mm; [`SurfaceDistances::robust_hausdorff`].
    #[serde(rename = "HD95")]
    pub hausdorff95_mm: Option<f64>,
    /// Average distance of both surfaces from the other in mm, [`SurfaceDistances::assd`].
    #[serde(rename = "ASSD")]
    pub assd_mm: Option<f64>,
    /// Average distance of the reference's surface from the prediction's, in mm.
    #[serde(rename = "ASD_ref_to_pred")]
    pub ref_to_pred_mm: Option<f64>,
    /// Average distance of the prediction's surface from the reference's, in mm.
    #[serde(rename = "ASD_pred_to_ref")]
    pub pred_to_ref_mm: Option<f64>,
}

impl SurfaceScore {
    /// The scores of a class from its distances; `None` where a mask is empty.
    pub(crate) fn of(
        distances: Option<&SurfaceDistances>,
        overlap: &Overlap,
        pair: &Pair,
        class: u8,
        options: &ScoreOptions,
    ) -> Self {
        let tolerance_mm = options.tolerances.of(class);
        let same = |nsd, distance_mm| Self {
            tolerance_mm,
            nsd,
            hausdorff_mm: distance_mm,
            hausdorff95_mm: distance_mm,
            assd_mm: distance_mm,
            ref_to_pred_mm: distance_mm,
            pred_to_ref_mm: distance_mm,
        };
        match distances {
            Some(distances) => {
                let [ref_to_pred, pred_to_ref] = distances.average();
                Self {
                    tolerance_mm,
                    nsd: Some(distances.surface_dice(tolerance_mm)),
                    hausdorff_mm: Some(distances.hausdorff()),
                    hausdorff95_mm: Some(distances.robust_hausdorff(95.0)),
                    assd_mm: Some(distances.assd()),
                    ref_to_pred_mm: Some(ref_to_pred),
                    pred_to_ref_mm: Some(pred_to_ref),
                }
            }
            _ if overlap.n_ref + overlap.n_pred > 0 => {
                let distance = match options.one_empty {
                    EmptyDistance::Skip => None,
                    EmptyDistance::Infinite => Some(f64::INFINITY),
                    EmptyDistance::Diagonal => Some(diagonal(pair)),
                };
                same(Some(0.0), distance)
            }
            _ => match options.both_empty {
                EmptyRule::Skip => same(None, None),
                EmptyRule::One => same(Some(1.0), Some(0.0)),
            },
        }
    }
}

/// From outer corner to outer corner of the image, in mm.
fn diagonal(pair: &Pair) -> f64 {
    let geometry = pair.reference.geometry();
    (0..3)
        .map(|axis| (geometry.shape[axis] as f64 * geometry.spacing[axis]).powi(2))
        .sum::<f64>()
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CaseScore;
    use viscera_image::{Geometry, LabelMap};

    fn score(reference: [u8; 4], prediction: [u8; 4], options: &ScoreOptions) -> SurfaceScore {
        let map = |data: [u8; 4]| LabelMap::new(Geometry::ras([1, 2, 2], [6.0, 4.0, 1.5]), data.to_vec()).unwrap();
        let annotated = [1].into_iter().collect();
        let case = CaseScore::measure("r", "p", &map(reference), &map(prediction), &annotated, options).unwrap();
        case.metrics[&1].surface.clone().unwrap()
    }

    #[test]
    fn rules_stand_in_where_a_mask_is_empty() {
        let mut options = ScoreOptions::default();
        for (rule, distance) in [
            (EmptyDistance::Skip, None),
            (EmptyDistance::Infinite, Some(f64::INFINITY)),
            (EmptyDistance::Diagonal, Some((36.0_f64 + 64.0 + 9.0).sqrt())),
        ] {
            options.one_empty = rule;
            for found in [
                score([1, 0, 0, 0], [2; 4], &options),
                score([2; 4], [1, 0, 0, 0], &options),
            ] {
                assert_eq!(
                    (found.nsd, found.hausdorff95_mm, found.assd_mm),
                    (Some(0.0), distance, distance)
                );
            }
        }
        let skipped = score([0; 4], [2; 4], &options);
        assert_eq!((skipped.nsd, skipped.hausdorff_mm), (None, None));
        options.both_empty = EmptyRule::One;
        let best = score([0; 4], [2; 4], &options);
        assert_eq!((best.nsd, best.hausdorff_mm), (Some(1.0), Some(0.0)));
    }

    #[test]
    fn tolerances_are_of_the_class() {
        let mut options = ScoreOptions::default();
        options.tolerances.classes_mm.insert(1, 1.4);
        let found = score([1, 0, 0, 0], [0, 1, 0, 0], &options);
        assert_eq!((found.tolerance_mm, found.hausdorff_mm), (1.4, Some(1.5)));
        assert!((found.nsd.unwrap() - 0.5).abs() < 1e-12);
    }
}
