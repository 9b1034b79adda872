//! Lesion-wise detection: whether each lesion was found, and how many were made up.
//!
//! Lesions are the 26-connected components of one class in the reference; candidates are those of the prediction. A
//! lesion and a candidate match when they overlap enough ([`LesionOptions`]). A lesion is found when at least one
//! candidate matches it; a candidate is a true one when it matches at least one lesion, else a false positive. So one
//! candidate over two lesions finds both and counts once in the precision; two candidates in one lesion find it once
//! and are both true. This is the rule of autoPET's false positive and false negative volumes (Gatidis et al., *Nature
//! Machine Intelligence* 6, 2024: any overlap; its components join over faces and edges only). With a minimal IoU above
//! 0.5 a match is one to one, as in panoptic quality (Kirillov et al., CVPR 2019). BraTS dilates lesions before
//! matching; here nothing is dilated.
//!
//! Small lesions are handled as COCO handles areas out of range: a lesion below the minimal volume is ignored, and so
//! is a candidate that matches ignored lesions only, or that is itself below the minimal volume and matches nothing.
//! What is ignored counts nowhere.

use crate::{MetricsError, check_same_grid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use viscera_image::{Box3, Components, LabelMap, bounding_box, components, crop};

/// When a lesion and a candidate match, and which of them count. By default one common voxel is a match, and all count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LesionOptions {
    /// Least number of common voxels of a match; 0 counts as 1.
    pub min_overlap_voxels: u64,
    /// Least intersection over union of a match, 0 to 1.
    pub min_iou: f64,
    /// Least volume in mm³ of a lesion that counts.
    pub min_volume_mm3: f64,
}

impl Default for LesionOptions {
    fn default() -> Self {
        Self {
            min_overlap_voxels: 1,
            min_iou: 0.0,
            min_volume_mm3: 0.0,
        }
    }
}

/// Lesion-wise counts of one case or, added up, of many.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct LesionCounts {
    /// Lesions of the reference that count.
    pub lesions: u64,
    /// Lesions that were found.
    pub found: u64,
    /// Candidates of the prediction that count.
    pub candidates: u64,
    /// Candidates that match no lesion.
    pub false_positives: u64,
    /// Lesions too small to count.
    pub ignored_lesions: u64,
    /// Candidates that do not count.
    pub ignored_candidates: u64,
    /// Volume in ml of the lesions that were missed (autoPET's false negative volume).
    pub missed_ml: f64,
    /// Volume in ml of the false positive candidates (autoPET's false positive volume).
    pub false_positive_ml: f64,
}

impl LesionCounts {
    /// Share of the lesions that were found; `None` without lesions.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        ratio(self.found, self.lesions)
    }

    /// Share of the candidates that match a lesion; `None` without candidates.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        ratio(self.candidates.saturating_sub(self.false_positives), self.candidates)
    }

    /// Harmonic mean of recall and precision: 0 when one of them is 0 or undefined, `None` when both are undefined.
    #[must_use]
    pub fn f1(&self) -> Option<f64> {
        match (self.recall(), self.precision()) {
            (None, None) => None,
            (Some(r), Some(p)) if r + p > 0.0 => Some(2.0 * r * p / (r + p)),
            _ => Some(0.0),
        }
    }

    fn add(&mut self, other: &Self) {
        self.lesions += other.lesions;
        self.found += other.found;
        self.candidates += other.candidates;
        self.false_positives += other.false_positives;
        self.ignored_lesions += other.ignored_lesions;
        self.ignored_candidates += other.ignored_candidates;
        self.missed_ml += other.missed_ml;
        self.false_positive_ml += other.false_positive_ml;
    }
}

fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// Counts found, missed and made up lesions of `class` in one case. Whether the reference annotates the class is for
/// the caller to know.
///
/// Takes about one byte per voxel of the box around the class in both label maps.
///
/// ```
/// use viscera_image::{Geometry, LabelMap};
/// use viscera_metrics::{lesion_counts, LesionOptions};
/// let row = |labels: [u8; 8]| LabelMap::new(Geometry::ras([1, 1, 8], [1.0; 3]), labels.to_vec());
/// let reference = row([14, 14, 0, 14, 0, 0, 0, 0])?;
/// let prediction = row([0, 14, 0, 0, 0, 14, 0, 14])?;
/// let counts = lesion_counts(&reference, &prediction, 14, &LesionOptions::default())?;
/// assert_eq!((counts.recall(), counts.precision()), (Some(1.0 / 2.0), Some(1.0 / 3.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`]; [`MetricsError::Image`]
/// when the class reaches over a box of 2³² voxels or more.
pub fn lesion_counts(
    reference: &LabelMap,
    prediction: &LabelMap,
    class: u8,
    options: &LesionOptions,
) -> Result<LesionCounts, MetricsError> {
    check_same_grid(reference.geometry(), prediction.geometry())?;
    let boxes = [reference, prediction].map(|map| bounding_box(map, |label| label == class));
    let Some(region) = boxes.into_iter().flatten().reduce(|a, b| a.union(&b)) else {
        return Ok(LesionCounts::default());
    };
    let lesions = components_of(reference, class, &region)?;
    let candidates = components_of(prediction, class, &region)?;

    let voxel_mm3 = reference.geometry().voxel_volume_mm3();
    let volume = |voxels: usize| voxels as f64 * voxel_mm3;
    let counts = |voxels: usize| volume(voxels) >= options.min_volume_mm3;
    let mut found = vec![false; lesions.list().len()];
    // Of each candidate: whether it matches a lesion that counts, and whether it matches any.
    let mut matches = vec![(false, false); candidates.list().len()];
    for ((lesion, candidate), common) in common_voxels(&lesions, &candidates) {
        let size = lesions.list()[lesion].voxels;
        let union = size as u64 + candidates.list()[candidate].voxels as u64 - common;
        if common >= options.min_overlap_voxels && common as f64 >= options.min_iou * union as f64 {
            found[lesion] = true;
            matches[candidate].0 |= counts(size);
            matches[candidate].1 = true;
        }
    }

    let mut result = LesionCounts::default();
    for (lesion, found) in lesions.list().iter().zip(found) {
        if !counts(lesion.voxels) {
            result.ignored_lesions += 1;
            continue;
        }
        result.lesions += 1;
        if found {
            result.found += 1;
        } else {
            result.missed_ml += volume(lesion.voxels) / 1000.0;
        }
    }
    for (candidate, (matches_counted, matches_any)) in candidates.list().iter().zip(matches) {
        if matches_counted {
            result.candidates += 1;
        } else if matches_any || !counts(candidate.voxels) {
            result.ignored_candidates += 1;
        } else {
            result.candidates += 1;
            result.false_positives += 1;
            result.false_positive_ml += volume(candidate.voxels) / 1000.0;
        }
    }
    Ok(result)
}

fn components_of(map: &LabelMap, class: u8, region: &Box3) -> Result<Components, MetricsError> {
    let mask = crop(map, region)?.map(|label| u8::from(label == class));
    Ok(components(&mask)?)
}

/// For each pair of a lesion and a candidate with common voxels, how many these are.
fn common_voxels(lesions: &Components, candidates: &Components) -> BTreeMap<(usize, usize), u64> {
    let mut common = BTreeMap::new();
    let (mut left, mut right) = (lesions.runs().peekable(), candidates.runs().peekable());
    // Both sequences rise, so the run that ends first has met all it can meet.
    while let (Some((lesion, a)), Some((candidate, b))) = (left.peek(), right.peek()) {
        let length = a.end.min(b.end).saturating_sub(a.start.max(b.start));
        if length > 0 {
            *common.entry((*lesion, *candidate)).or_insert(0) += length as u64;
        }
        if a.end <= b.end {
            left.next();
        } else {
            right.next();
        }
    }
    common
}

/// Lesion-wise detection over many cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LesionSummary {
    /// Number of cases.
    pub cases: u64,
    /// Counts added up over all cases.
    pub total: LesionCounts,
    /// Recall of all lesions together.
    pub pooled_recall: Option<f64>,
    /// Precision of all candidates together.
    pub pooled_precision: Option<f64>,
    /// F1 of pooled recall and precision.
    pub pooled_f1: Option<f64>,
    /// Mean recall of the cases that have lesions.
    pub mean_recall: Option<f64>,
    /// Mean precision of the cases that have candidates.
    pub mean_precision: Option<f64>,
    /// Mean F1 of the cases that have lesions or candidates.
    pub mean_f1: Option<f64>,
    /// False positive candidates per case, over all cases.
    pub false_positives_per_case: Option<f64>,
    /// Number of cases with lesions that count.
    pub cases_with_lesions: u64,
    /// Number of cases without any lesion, not even an ignored one.
    pub cases_without_lesions: u64,
    /// Share of the cases with lesions in which at least one was found.
    pub case_sensitivity: Option<f64>,
    /// Share of the cases without any lesion in which there is a false positive.
    pub case_false_positive_rate: Option<f64>,
}

impl LesionSummary {
    /// Sums up the counts of many cases. A case whose lesions are all too small to count enters neither of the two
    /// case-level rates.
    #[must_use]
    pub fn of(cases: &[LesionCounts]) -> Self {
        let mut total = LesionCounts::default();
        cases.iter().for_each(|case| total.add(case));
        let n_cases = cases.len() as u64;
        let with: Vec<_> = cases.iter().filter(|c| c.lesions > 0).collect();
        let without: Vec<_> = cases.iter().filter(|c| c.lesions + c.ignored_lesions == 0).collect();
        let (n_with, n_without) = (with.len() as u64, without.len() as u64);
        let hit = with.iter().filter(|c| c.found > 0).count() as u64;
        let false_alarms = without.iter().filter(|c| c.false_positives > 0).count() as u64;
        Self {
            cases: n_cases,
            pooled_recall: total.recall(),
            pooled_precision: total.precision(),
            pooled_f1: total.f1(),
            mean_recall: mean(cases.iter().filter_map(LesionCounts::recall)),
            mean_precision: mean(cases.iter().filter_map(LesionCounts::precision)),
            mean_f1: mean(cases.iter().filter_map(LesionCounts::f1)),
            false_positives_per_case: ratio(total.false_positives, n_cases),
            cases_with_lesions: n_with,
            cases_without_lesions: n_without,
            case_sensitivity: ratio(hit, n_with),
            case_false_positive_rate: ratio(false_alarms, n_without),
            total,
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0u64), |(sum, n), value| (sum + value, n + 1));
    (n > 0).then(|| sum / n as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;

    fn row(labels: &[u8]) -> LabelMap {
        LabelMap::new(Geometry::ras([1, 1, labels.len()], [10.0, 1.0, 1.0]), labels.to_vec()).unwrap()
    }

    fn count(reference: &[u8], prediction: &[u8], options: LesionOptions) -> LesionCounts {
        lesion_counts(&row(reference), &row(prediction), 1, &options).unwrap()
    }

    /// Lesions, found, candidates, false positives, ignored lesions, ignored candidates.
    fn numbers(counts: &LesionCounts) -> [u64; 6] {
        [
            counts.lesions,
            counts.found,
            counts.candidates,
            counts.false_positives,
            counts.ignored_lesions,
            counts.ignored_candidates,
        ]
    }

    #[test]
    fn many_to_one_and_one_to_many() {
        let bridge = count(&[1, 1, 0, 1, 1, 0], &[0, 1, 1, 1, 0, 0], LesionOptions::default());
        assert_eq!(numbers(&bridge), [2, 2, 1, 0, 0, 0]);
        let split = count(&[0, 1, 1, 1, 0, 0], &[1, 1, 0, 1, 0, 1], LesionOptions::default());
        assert_eq!(numbers(&split), [1, 1, 3, 1, 0, 0]);
        assert_eq!(split.f1(), Some(2.0 * (2.0 / 3.0) / (1.0 + 2.0 / 3.0)));
        assert_eq!((split.missed_ml, split.false_positive_ml), (0.0, 0.01));
    }

    #[test]
    fn thresholds_include_their_value() {
        // Two common voxels of five in the union.
        let (reference, prediction) = ([1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0]);
        let with = |min_overlap_voxels, min_iou| LesionOptions {
            min_overlap_voxels,
            min_iou,
            ..LesionOptions::default()
        };
        for (options, found) in [
            (with(0, 0.4), 1),
            (with(2, 0.0), 1),
            (with(3, 0.0), 0),
            (with(0, 0.41), 0),
        ] {
            let counts = count(&reference, &prediction, options);
            assert_eq!(numbers(&counts), [1, found, 1, 1 - found, 0, 0], "{options:?}");
        }
    }

    #[test]
    fn small_lesions_are_ignored_with_their_candidates() {
        let options = LesionOptions {
            min_volume_mm3: 20.0, // two voxels
            ..LesionOptions::default()
        };
        // A small lesion with a large candidate; a large lesion found by one voxel; one voxel and two voxels of
        // nothing.
        let reference = [0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0];
        let prediction = [1, 1, 0, 0, 0, 1, 0, 1, 0, 1, 1];
        assert_eq!(numbers(&count(&reference, &prediction, options)), [1, 1, 2, 1, 1, 2]);
    }

    #[test]
    fn other_classes_do_not_count_and_do_not_join() {
        let counts = count(&[1, 2, 1, 0], &[2, 2, 1, 3], LesionOptions::default());
        assert_eq!(numbers(&counts), [2, 1, 1, 0, 0, 0]);
        assert_eq!(
            count(&[2, 0], &[0, 3], LesionOptions::default()),
            LesionCounts::default()
        );
    }

    #[test]
    fn another_grid_is_refused() {
        let error = lesion_counts(&row(&[1]), &row(&[1, 1]), 1, &LesionOptions::default());
        assert!(matches!(error, Err(MetricsError::ShapeMismatch { .. })));
    }

    #[test]
    fn cases_are_pooled_and_averaged() {
        let case = |lesions, found, candidates, false_positives, ignored_lesions| LesionCounts {
            lesions,
            found,
            candidates,
            false_positives,
            ignored_lesions,
            ..LesionCounts::default()
        };
        let summary = LesionSummary::of(&[
            case(4, 1, 2, 1, 0),
            case(1, 0, 0, 0, 0), // missed
            case(0, 0, 3, 3, 0), // false alarm
            case(0, 0, 0, 0, 0), // rightly empty
            case(0, 0, 1, 1, 2), // too small: neither with nor without lesions
        ]);
        assert_eq!(summary.cases, 5);
        assert_eq!(
            (summary.pooled_recall, summary.pooled_precision),
            (Some(0.2), Some(1.0 / 6.0))
        );
        assert_eq!(
            (summary.mean_recall, summary.mean_precision),
            (Some(0.125), Some(0.5 / 3.0))
        );
        assert_eq!(summary.mean_f1, Some((2.0 * 0.25 * 0.5 / 0.75) / 4.0));
        assert_eq!(summary.false_positives_per_case, Some(1.0));
        assert_eq!((summary.cases_with_lesions, summary.cases_without_lesions), (2, 2));
        assert_eq!(
            (summary.case_sensitivity, summary.case_false_positive_rate),
            (Some(0.5), Some(0.5))
        );
        let json = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<LesionSummary>(&json).unwrap(), summary);
    }

    #[test]
    fn no_cases() {
        let summary = LesionSummary::of(&[]);
        assert_eq!(
            (summary.cases, summary.mean_f1, summary.case_sensitivity),
            (0, None, None)
        );
    }
}
