//! The rules by which the FLARE challenges score a case, quirks included.
//!
//! From the scripts that the challenges of 2021, 2022 and 2023 published (`FLARE21_DSC_NSD_Eval.py` and its
//! successors):
//! * A class that is empty in both label maps scores 1 and 1; one that is empty in one scores 0 and 0.
//! * 2022 and 2023: of aorta, vena cava and oesophagus only the slices along the third axis of the file that the
//!   reference labels count, and by an off-by-one the last of them does not. A class on a single slice leaves nothing,
//!   and the script fails; here that slice counts.
//! * 2022 and 2023: a Dice below 0.2 sets the surface Dice to 0.
//! * Values are rounded to four decimals per case, before any mean, as NumPy rounds: to even, after scaling.
//! * Distances use the spacing in single precision, as it stands in the file's header.
//!
//! The script of 2023 reads labels as `int8`, so that ids above 127 wrap; no class of the challenge is concerned, and
//! that is not reproduced. Label maps must have the file's axes (z the third axis of the file), as readers leave them.

use crate::overlap::overlap_of;
use crate::surface::Pair;
use crate::{MetricsError, Overlap, SurfaceDistances, overlap_per_class};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use viscera_image::{AnnotatedClasses, LabelMap};

/// A FLARE challenge whose rules to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FlareEdition {
    /// 2021: liver, kidneys, spleen, pancreas (ids 1 to 4).
    Flare21,
    /// 2022: 13 organs (ids 1 to 13).
    Flare22,
    /// 2023: as 2022, and the lesion (id 14).
    Flare23,
}

/// Tolerances of 2022 and 2023 in mm, from id 1: liver, right kidney, spleen, pancreas, aorta, vena cava, right and
/// left adrenal gland, gallbladder, oesophagus, stomach, duodenum, left kidney, lesion.
const TOLERANCES_MM: [f64; 14] = [5.0, 3.0, 3.0, 5.0, 2.0, 2.0, 2.0, 2.0, 2.0, 3.0, 5.0, 7.0, 3.0, 2.0];
/// Aorta, vena cava, oesophagus: often drawn over a part of their length only.
const CUT_TO_REFERENCE: [u8; 3] = [5, 6, 10];
/// Below this Dice the surface Dice is 0.
const MIN_DSC: f64 = 0.2;

impl FlareEdition {
    /// The tolerance of a class's surface Dice in mm; `None` for an id that the challenge does not score.
    #[must_use]
    pub fn tolerance_mm(self, class: u8) -> Option<f64> {
        let at = usize::from(class).checked_sub(1)?;
        match self {
            Self::Flare21 => (at < 4).then_some(1.0),
            Self::Flare22 => TOLERANCES_MM[..13].get(at).copied(),
            Self::Flare23 => TOLERANCES_MM.get(at).copied(),
        }
    }
}

/// Which FLARE rules to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlareOptions {
    /// The challenge.
    pub edition: FlareEdition,
    /// Keeps the last labelled slice of aorta, vena cava and oesophagus, which the official scripts leave out by an
    /// off-by-one. Such scores do not compare with published ones.
    pub inclusive: bool,
}

/// The score of one class by a FLARE challenge's rules, rounded to four decimals as its script does.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FlareScore {
    /// Dice's coefficient, 0 to 1.
    #[serde(rename = "FLARE_DSC")]
    pub dsc: f64,
    /// Surface Dice at the challenge's tolerance, 0 to 1.
    #[serde(rename = "FLARE_NSD")]
    pub nsd: f64,
}

/// Scores the classes of `annotated` that the challenge knows, by its rules (see [`FlareOptions`] for `inclusive`).
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`](crate::check_same_grid),
/// [`MetricsError::TooManySlices`] for a class that spans more than 65 534 slices.
pub fn flare_scores(
    edition: FlareEdition,
    reference: &LabelMap,
    prediction: &LabelMap,
    annotated: &AnnotatedClasses,
    inclusive: bool,
) -> Result<BTreeMap<u8, FlareScore>, MetricsError> {
    let rules = FlareOptions { edition, inclusive };
    let overlaps = overlap_per_class(reference, prediction, annotated)?;
    let pair = Pair::of(reference, prediction);
    let mut scores = BTreeMap::new();
    for (class, overlap) in overlaps {
        if let Some(score) = rules.score(&pair, class, &overlap, None)? {
            scores.insert(class, score);
        }
    }
    Ok(scores)
}

impl FlareOptions {
    /// The score of one class, given its overlap, and its distances where they are known already.
    pub(crate) fn score(
        self,
        pair: &Pair,
        class: u8,
        overlap: &Overlap,
        distances: Option<&SurfaceDistances>,
    ) -> Result<Option<FlareScore>, MetricsError> {
        let Some(tolerance_mm) = self.edition.tolerance_mm(class) else {
            return Ok(None);
        };
        let (Some(in_reference), Some(mut bounds), 1..) =
            (pair.in_reference(class), pair.bounds(class), overlap.n_pred)
        else {
            let both = f64::from(overlap.n_ref + overlap.n_pred == 0);
            return Ok(Some(FlareScore { dsc: both, nsd: both }));
        };
        let spacing = pair.reference.geometry().spacing.map(|mm| f64::from(mm as f32));
        let mut overlap = *overlap;
        let mut distances = distances.filter(|_| spacing == pair.reference.geometry().spacing);
        if self.edition != FlareEdition::Flare21 && CUT_TO_REFERENCE.contains(&class) {
            let (first, last) = (in_reference.start[0], in_reference.end[0] - 1);
            let end = if self.inclusive { last + 1 } else { last.max(first + 1) };
            (bounds.start[0], bounds.end[0]) = (first, end);
            let slice = pair.reference.shape()[1] * pair.reference.shape()[2];
            let voxels = first * slice..end * slice;
            overlap = overlap_of(
                &pair.reference.data()[voxels.clone()],
                &pair.prediction.data()[voxels],
                class,
            );
            distances = None;
        }
        let dsc = overlap.dice().unwrap_or(0.0);
        let nsd = if self.edition != FlareEdition::Flare21 && dsc < MIN_DSC {
            0.0
        } else if let Some(distances) = distances {
            distances.surface_dice(tolerance_mm)
        } else {
            SurfaceDistances::within(pair.reference, pair.prediction, class, bounds, spacing)?
                .surface_dice(tolerance_mm)
        };
        Ok(Some(FlareScore {
            dsc: rounded(dsc),
            nsd: rounded(nsd),
        }))
    }
}

/// To four decimals as NumPy's scalars round.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round_ties_even() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_numpy_does() {
        // Python's own floats give 0.0063, 0.0187 and 0.5437.
        assert_eq!(
            [0.006_25, 0.018_75, 0.543_75, 1.0].map(rounded),
            [0.0062, 0.0188, 0.5438, 1.0]
        );
    }

    #[test]
    fn challenges_know_their_own_classes() {
        let of = |edition: FlareEdition| {
            (0..=255)
                .filter_map(move |class| edition.tolerance_mm(class))
                .sum::<f64>()
        };
        assert_eq!(
            [
                of(FlareEdition::Flare21),
                of(FlareEdition::Flare22),
                of(FlareEdition::Flare23)
            ],
            [4.0, 44.0, 46.0]
        );
        assert_eq!(FlareEdition::Flare23.tolerance_mm(12), Some(7.0));
    }
}
