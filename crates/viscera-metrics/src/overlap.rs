//! Overlap of two label maps, counted for all classes in one pass.

use crate::{MetricsError, check_same_grid};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use viscera_image::{AnnotatedClasses, LabelMap};

/// Voxels per parallel work item: large against the cost of merging three histograms.
const CHUNK: usize = 1 << 18;
/// Voxels looked at together. Most groups lie inside one structure (or outside all) and are counted at once.
const GROUP: usize = 16;

/// How the voxels of one class in a reference and in a prediction meet. Counts of voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overlap {
    /// In both.
    #[serde(rename = "TP")]
    pub tp: u64,
    /// In the prediction only.
    #[serde(rename = "FP")]
    pub fp: u64,
    /// In the reference only.
    #[serde(rename = "FN")]
    pub fn_: u64,
    /// In neither.
    #[serde(rename = "TN")]
    pub tn: u64,
    /// In the prediction: `tp + fp`.
    pub n_pred: u64,
    /// In the reference: `tp + fn_`.
    pub n_ref: u64,
}

impl Overlap {
    /// Dice's coefficient `2 TP / (2 TP + FP + FN)`, 0 to 1; `None` when both masks are empty.
    #[must_use]
    pub fn dice(&self) -> Option<f64> {
        ratio(2 * self.tp, self.n_pred + self.n_ref)
    }

    /// Jaccard index (intersection over union) `TP / (TP + FP + FN)`, 0 to 1; `None` when both masks are empty.
    #[must_use]
    pub fn jaccard(&self) -> Option<f64> {
        ratio(self.tp, self.tp + self.fp + self.fn_)
    }

    /// Sensitivity (recall) `TP / (TP + FN)`, 0 to 1; `None` when the reference is empty.
    #[must_use]
    pub fn sensitivity(&self) -> Option<f64> {
        ratio(self.tp, self.n_ref)
    }

    /// Precision `TP / (TP + FP)`, 0 to 1; `None` when the prediction is empty.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        ratio(self.tp, self.n_pred)
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Counts the overlap of each class in `annotated` in one multi-threaded pass over both label maps.
///
/// `annotated` are the classes that were drawn in this reference; the result has one entry for each, also for ids that
/// occur nowhere. Id 0 (background) is counted like any other when asked for. Voxels with other ids count as "not this
/// class" and nothing more. The counts are exact and the same for any number of threads.
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`].
pub fn overlap_per_class(
    reference: &LabelMap,
    prediction: &LabelMap,
    annotated: &AnnotatedClasses,
) -> Result<BTreeMap<u8, Overlap>, MetricsError> {
    check_same_grid(reference.geometry(), prediction.geometry())?;
    let histograms = Histograms::of_all(reference.data(), prediction.data());
    Ok(annotated
        .iter()
        .map(|class| (class, histograms.overlap(class)))
        .collect())
}

/// The overlap of one class in two equally long lists of voxels.
pub(crate) fn overlap_of(reference: &[u8], prediction: &[u8], class: u8) -> Overlap {
    Histograms::of_all(reference, prediction).overlap(class)
}

/// Voxels per label id: in the reference, in the prediction, and where both agree.
struct Histograms {
    reference: [u64; 256],
    prediction: [u64; 256],
    both: [u64; 256],
}

impl Default for Histograms {
    fn default() -> Self {
        Self {
            reference: [0; 256],
            prediction: [0; 256],
            both: [0; 256],
        }
    }
}

impl Histograms {
    fn of_all(reference: &[u8], prediction: &[u8]) -> Self {
        reference
            .par_chunks(CHUNK)
            .zip(prediction.par_chunks(CHUNK))
            .map(|(reference, prediction)| Self::of(reference, prediction))
            .reduce(Self::default, Self::add)
    }

    fn overlap(&self, class: u8) -> Overlap {
        let at = usize::from(class);
        let (tp, n_ref, n_pred) = (self.both[at], self.reference[at], self.prediction[at]);
        let (fp, fn_) = (n_pred - tp, n_ref - tp);
        let total: u64 = self.reference.iter().sum();
        Overlap {
            tp,
            fp,
            fn_,
            tn: total - tp - fp - fn_,
            n_pred,
            n_ref,
        }
    }

    fn of(reference: &[u8], prediction: &[u8]) -> Self {
        let mut counts = Self::default();
        let (reference_groups, reference_rest) = reference.as_chunks::<GROUP>();
        let (prediction_groups, prediction_rest) = prediction.as_chunks::<GROUP>();
        for (r, p) in reference_groups.iter().zip(prediction_groups) {
            if *r == [r[0]; GROUP] && *p == [p[0]; GROUP] {
                counts.count(r[0], p[0], GROUP as u64);
            } else {
                r.iter().zip(p).for_each(|(&r, &p)| counts.count(r, p, 1));
            }
        }
        reference_rest
            .iter()
            .zip(prediction_rest)
            .for_each(|(&r, &p)| counts.count(r, p, 1));
        counts
    }

    fn count(&mut self, reference: u8, prediction: u8, voxels: u64) {
        self.reference[usize::from(reference)] += voxels;
        self.prediction[usize::from(prediction)] += voxels;
        if reference == prediction {
            self.both[usize::from(reference)] += voxels;
        }
    }

    fn add(mut self, other: Self) -> Self {
        let pairs = [
            (&mut self.reference, other.reference),
            (&mut self.prediction, other.prediction),
            (&mut self.both, other.both),
        ];
        for (sum, part) in pairs {
            sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use viscera_image::Geometry;

    fn classes(ids: &[u8]) -> AnnotatedClasses {
        ids.iter().copied().collect()
    }

    fn row(labels: &[u8]) -> LabelMap {
        LabelMap::new(Geometry::ras([1, 1, labels.len()], [1.0; 3]), labels.to_vec()).unwrap()
    }

    #[test]
    fn counts_by_hand() {
        let reference = row(&[0, 1, 1, 1, 2, 2, 0, 0]);
        let prediction = row(&[1, 1, 1, 0, 1, 2, 0, 3]);
        let found = overlap_per_class(&reference, &prediction, &classes(&[1, 2, 4])).unwrap();
        assert_eq!(
            found[&1],
            Overlap {
                tp: 2,
                fp: 2,
                fn_: 1,
                tn: 3,
                n_pred: 4,
                n_ref: 3
            }
        );
        assert_eq!(
            found[&2],
            Overlap {
                tp: 1,
                fp: 0,
                fn_: 1,
                tn: 6,
                n_pred: 1,
                n_ref: 2
            }
        );
        assert_eq!(
            found[&4],
            Overlap {
                tp: 0,
                fp: 0,
                fn_: 0,
                tn: 8,
                n_pred: 0,
                n_ref: 0
            }
        );
        // Class 3 was predicted, but the reference does not annotate it.
        assert_eq!(found.len(), 3);
        assert_eq!(found[&1].dice(), Some(4.0 / 7.0));
        assert_eq!(found[&1].jaccard(), Some(2.0 / 5.0));
        assert_eq!(found[&1].sensitivity(), Some(2.0 / 3.0));
        assert_eq!(found[&1].precision(), Some(1.0 / 2.0));
        assert_eq!((found[&4].sensitivity(), found[&4].precision()), (None, None));
    }

    #[test]
    fn empty_masks_follow_the_stated_rule() {
        let found = overlap_per_class(&row(&[0, 1]), &row(&[2, 0]), &classes(&[1, 2, 3])).unwrap();
        assert_eq!(
            [found[&1].dice(), found[&2].dice(), found[&3].dice()],
            [Some(0.0), Some(0.0), None]
        );
        assert_eq!(
            [found[&1].jaccard(), found[&2].jaccard(), found[&3].jaccard()],
            [Some(0.0), Some(0.0), None]
        );
    }

    #[test]
    fn work_items_add_up() {
        // Longer than one work item and no multiple of it or of a group.
        let labels: Vec<u8> = (0..2 * CHUNK + 21).map(|i| (i / 1000 % 3) as u8).collect();
        let shifted: Vec<u8> = (0..2 * CHUNK + 21).map(|i| ((i + 250) / 1000 % 3) as u8).collect();
        let found = overlap_per_class(&row(&labels), &row(&shifted), &classes(&[0, 1, 2])).unwrap();
        for class in 0..3 {
            assert_eq!(found[&class], naive(&labels, &shifted, class));
        }
    }

    fn naive(reference: &[u8], prediction: &[u8], class: u8) -> Overlap {
        let count = |r: bool, p: bool| {
            reference
                .iter()
                .zip(prediction)
                .filter(|&(&a, &b)| (a == class) == r && (b == class) == p)
                .count() as u64
        };
        let (tp, fp, fn_, tn) = (
            count(true, true),
            count(false, true),
            count(true, false),
            count(false, false),
        );
        Overlap {
            tp,
            fp,
            fn_,
            tn,
            n_pred: tp + fp,
            n_ref: tp + fn_,
        }
    }

    /// Runs of equal labels, as in a real label map, so that whole groups as well as mixed ones occur.
    fn labels(runs: &[(u8, usize)], length: usize) -> Vec<u8> {
        runs.iter()
            .cycle()
            .flat_map(|&(label, n)| std::iter::repeat_n(label, n))
            .take(length)
            .collect()
    }

    proptest! {
        #[test]
        fn agrees_with_counting_one_class_at_a_time(
            a in prop::collection::vec((prop::sample::select(vec![0u8, 1, 2, 255]), 1usize..40), 1..12),
            b in prop::collection::vec((prop::sample::select(vec![0u8, 1, 2, 255]), 1usize..40), 1..12),
            length in 1usize..400,
        ) {
            let (a, b) = (labels(&a, length), labels(&b, length));
            let found = overlap_per_class(&row(&a), &row(&b), &classes(&[0, 1, 2, 255])).unwrap();
            for (&class, overlap) in &found {
                prop_assert_eq!(*overlap, naive(&a, &b, class));
            }
        }
    }
}
