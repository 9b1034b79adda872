//! Calibration: whether voxels labelled with a confidence of 80 % are right in 80 % of the cases.
//!
//! Confidence is the probability of the winning class, stored as a byte `q` on the grid of the label map: `q / 255`.
//! Voxels are counted per predicted class and byte, right ones and wrong ones apart, so nothing is lost in binning,
//! cases merge exactly, and all results come from whole numbers. From the winning class alone follow the top-label
//! measures only: expected and maximum calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017) and the
//! Brier score of being right (Brier, *Monthly Weather Review* 78(1), 1950); not the Brier score over all classes.

use crate::{MetricsError, check_same_grid};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use viscera_image::{AnnotatedClasses, LabelMap, Volume};

/// Bins of Guo et al.
pub const DEFAULT_BINS: u16 = 15;
/// Voxels per parallel work item, large against clearing and merging the counts of some 14 classes.
const CHUNK: usize = 1 << 20;
/// Values of a confidence.
const LEVELS: usize = 256;

/// Which voxels count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CalibrationRegion {
    /// Those where the reference or the prediction has an annotated class other than background. The default, since the
    /// background far from all organs is easy and would drown the rest.
    #[default]
    Foreground,
    /// All of them.
    Everywhere,
}

/// Counts of right and wrong voxels per predicted class and confidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Calibration {
    /// By predicted class; 0 is background. Classes without voxels have no entry.
    pub classes: BTreeMap<u8, ConfidenceCounts>,
}

/// Counts of right and wrong voxels per confidence.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ConfidenceCounts {
    /// For each confidence byte that occurs the number of wrong and of right voxels.
    pub levels: BTreeMap<u8, [u64; 2]>,
}

impl Calibration {
    /// Counts the voxels of one case.
    ///
    /// A voxel is right when the prediction's class is the reference's. Voxels predicted as a class that the reference
    /// does not annotate are left out, since nobody knows whether they are right; in the reference such classes count
    /// as background. `confidence` holds the probability of the predicted class times 255, on the same grid.
    ///
    /// # Errors
    /// [`MetricsError::ShapeMismatch`] or [`MetricsError::PlaceMismatch`] from [`check_same_grid`], of the prediction
    /// or of the confidence.
    pub fn measure(
        reference: &LabelMap,
        prediction: &LabelMap,
        confidence: &Volume<u8>,
        annotated: &AnnotatedClasses,
        region: CalibrationRegion,
    ) -> Result<Self, MetricsError> {
        check_same_grid(reference.geometry(), prediction.geometry())?;
        check_same_grid(reference.geometry(), confidence.geometry())?;
        let ids: Vec<u8> = std::iter::once(0)
            .chain(annotated.iter().filter(|&id| id > 0))
            .collect();
        // Of each id its place in `ids`; ids that are not annotated have none.
        let mut slots = [None; 256];
        for (slot, &id) in ids.iter().enumerate() {
            slots[usize::from(id)] = Some(slot);
        }
        let count = |reference: &[u8], prediction: &[u8], confidence: &[u8]| {
            let mut counts = vec![[0u64; 2]; ids.len() * LEVELS];
            for ((&r, &p), &q) in reference.iter().zip(prediction).zip(confidence) {
                let Some(slot) = slots[usize::from(p)] else { continue };
                let truth = slots[usize::from(r)].unwrap_or(0);
                if slot > 0 || truth > 0 || region == CalibrationRegion::Everywhere {
                    counts[slot * LEVELS + usize::from(q)][usize::from(slot == truth)] += 1;
                }
            }
            counts
        };
        let chunks = reference
            .data()
            .par_chunks(CHUNK)
            .zip(prediction.data().par_chunks(CHUNK));
        let counts = chunks
            .zip(confidence.data().par_chunks(CHUNK))
            .map(|((reference, prediction), confidence)| count(reference, prediction, confidence))
            .reduce_with(|mut sum, part| {
                sum.as_flattened_mut()
                    .iter_mut()
                    .zip(part.as_flattened())
                    .for_each(|(sum, part)| *sum += part);
                sum
            })
            .unwrap_or_default();
        let filled = |level: &(u8, &[u64; 2])| *level.1 != [0, 0];
        let levels = |counts: &[[u64; 2]]| (0..=u8::MAX).zip(counts).filter(filled).map(|(q, &n)| (q, n)).collect();
        Ok(Self {
            classes: ids
                .iter()
                .zip(counts.chunks(LEVELS))
                .map(|(&id, counts)| (id, ConfidenceCounts { levels: levels(counts) }))
                .filter(|(_, counts)| !counts.levels.is_empty())
                .collect(),
        })
    }

    /// Adds the counts of another case, which should have been made with the same region.
    pub fn merge(&mut self, other: &Self) {
        for (&class, counts) in &other.classes {
            self.classes.entry(class).or_default().merge(counts);
        }
    }

    /// The counts of all classes together.
    #[must_use]
    pub fn overall(&self) -> ConfidenceCounts {
        let mut all = ConfidenceCounts::default();
        self.classes.values().for_each(|counts| all.merge(counts));
        all
    }
}

impl ConfidenceCounts {
    fn merge(&mut self, other: &Self) {
        for (&level, counts) in &other.levels {
            let sums = self.levels.entry(level).or_default();
            sums.iter_mut()
                .zip(counts)
                .for_each(|(sum, n)| *sum = sum.saturating_add(*n));
        }
    }

    /// The reliability diagram and its errors, with `bins` bins of equal width (clamped to 1 to 256; with 256, each
    /// confidence has its own). `None` without voxels.
    ///
    /// Bin `i` of `n` holds confidences from `i / n` up to but without `(i + 1) / n`; the last one includes 1.
    #[must_use]
    pub fn reliability(&self, bins: u16) -> Option<Reliability> {
        let n_bins = usize::from(bins).clamp(1, LEVELS);
        let mut sums = vec![BinSums::default(); n_bins];
        let mut squares = 0u128;
        for (&level, &[wrong, right]) in &self.levels {
            let (q, wrong, right) = (u128::from(level), u128::from(wrong), u128::from(right));
            let bin = usize::from(level) * n_bins / 255;
            let sum = &mut sums[bin.min(n_bins - 1)];
            sum.voxels += wrong + right;
            sum.right += right;
            sum.confidence += q * (wrong + right);
            squares += right * (255 - q).pow(2) + wrong * q.pow(2);
        }
        let mut total = BinSums::default();
        for sum in &sums {
            total.voxels += sum.voxels;
            total.right += sum.right;
            total.confidence += sum.confidence;
        }
        if total.voxels == 0 {
            return None;
        }
        let gap: u128 = sums.iter().map(BinSums::gap).sum();
        let diagram = |(i, sum): (usize, &BinSums)| ReliabilityBin {
            lower: i as f64 / n_bins as f64,
            upper: (i + 1) as f64 / n_bins as f64,
            voxels: u64::try_from(sum.voxels).unwrap_or(u64::MAX),
            accuracy: share(sum.right, sum.voxels),
            confidence: share(sum.confidence, 255 * sum.voxels),
        };
        Some(Reliability {
            voxels: u64::try_from(total.voxels).unwrap_or(u64::MAX),
            accuracy: share(total.right, total.voxels)?,
            confidence: share(total.confidence, 255 * total.voxels)?,
            ece: share(gap, 255 * total.voxels)?,
            mce: sums
                .iter()
                .filter_map(|sum| share(sum.gap(), 255 * sum.voxels))
                .fold(0.0, f64::max),
            brier: share(squares, 255 * 255 * total.voxels)?,
            bins: sums.iter().enumerate().map(diagram).collect(),
        })
    }
}

/// What a bin adds up to.
#[derive(Debug, Clone, Default)]
struct BinSums {
    voxels: u128,
    right: u128,
    /// Sum of the confidence bytes.
    confidence: u128,
}

impl BinSums {
    /// |accuracy − confidence| times 255 times the number of voxels.
    fn gap(&self) -> u128 {
        (255 * self.right).abs_diff(self.confidence)
    }
}

fn share(part: u128, whole: u128) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// How confidence and accuracy agree. All shares are 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Number of voxels.
    pub voxels: u64,
    /// Share of voxels that are right.
    pub accuracy: f64,
    /// Mean confidence; above `accuracy` means overconfident.
    pub confidence: f64,
    /// Expected calibration error: the mean over the voxels of their bin's |accuracy − confidence|.
    pub ece: f64,
    /// Maximum calibration error: the largest |accuracy − confidence| of a bin with voxels.
    pub mce: f64,
    /// Mean of (confidence − 1)² over right and confidence² over wrong voxels.
    pub brier: f64,
    /// The bins, rising.
    pub bins: Vec<ReliabilityBin>,
}

/// One bar of a reliability diagram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Least confidence.
    pub lower: f64,
    /// Confidence where the next bin begins.
    pub upper: f64,
    /// Number of voxels.
    pub voxels: u64,
    /// Share of voxels that are right; `None` without voxels.
    pub accuracy: Option<f64>,
    /// Mean confidence; `None` without voxels.
    pub confidence: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::Geometry;

    fn row(values: &[u8]) -> LabelMap {
        LabelMap::new(Geometry::ras([1, 1, values.len()], [1.0; 3]), values.to_vec()).unwrap()
    }

    fn classes(ids: &[u8]) -> AnnotatedClasses {
        ids.iter().copied().collect()
    }

    fn measure(reference: &[u8], prediction: &[u8], confidence: &[u8], region: CalibrationRegion) -> Calibration {
        let maps = [reference, prediction, confidence].map(row);
        Calibration::measure(&maps[0], &maps[1], &maps[2], &classes(&[1, 2]), region).unwrap()
    }

    #[test]
    fn which_voxels_count() {
        let reference = [0, 0, 1, 1, 9, 1, 0];
        let prediction = [0, 1, 1, 0, 1, 9, 0];
        let confidence = [10, 20, 30, 40, 50, 60, 10];
        let foreground = measure(&reference, &prediction, &confidence, CalibrationRegion::Foreground);
        // The 9 of the reference is background, the 9 of the prediction is left out.
        let levels = |found: &Calibration, class: u8| Vec::from_iter(found.classes[&class].levels.clone());
        assert_eq!(levels(&foreground, 0), [(40, [1, 0])]);
        assert_eq!(levels(&foreground, 1), [(20, [1, 0]), (30, [0, 1]), (50, [1, 0])]);
        let everywhere = measure(&reference, &prediction, &confidence, CalibrationRegion::Everywhere);
        assert_eq!(levels(&everywhere, 0), [(10, [0, 2]), (40, [1, 0])]);
        assert_eq!(everywhere.classes[&1], foreground.classes[&1]);
        for found in [foreground, everywhere] {
            assert_eq!(Vec::from_iter(found.classes.keys().copied()), [0, 1]);
        }
    }

    #[test]
    fn errors_by_hand() {
        // Confidence 0.2 and right, 0.4 and wrong in one bin; twice 1 and right in another.
        let found = measure(
            &[1, 1, 2, 2],
            &[1, 2, 2, 2],
            &[51, 102, 255, 255],
            CalibrationRegion::default(),
        );
        let all = found.overall().reliability(2).unwrap();
        assert_eq!((all.voxels, all.accuracy, all.confidence), (4, 0.75, 0.65));
        assert_eq!((all.ece, all.mce, all.brier), (0.1, 0.2, 0.2));
        let bin = &all.bins[0];
        assert_eq!((bin.lower, bin.upper, bin.voxels), (0.0, 0.5, 2));
        assert_eq!((bin.accuracy, bin.confidence), (Some(0.5), Some(0.3)));
        let first = found.classes[&1].reliability(DEFAULT_BINS).unwrap();
        assert_eq!((first.voxels, first.ece, first.mce), (1, 0.8, 0.8));
        assert_eq!(first.bins[0].accuracy, None);
    }

    #[test]
    fn each_level_has_its_own_bin_of_256() {
        let levels = (0..=u8::MAX).map(|q| (q, [1, 0])).collect();
        for (bins, expected) in [(256, 1), (512, 1), (1, 256), (0, 256)] {
            let found = ConfidenceCounts {
                levels: BTreeMap::clone(&levels),
            }
            .reliability(bins)
            .unwrap();
            assert!(found.bins.iter().all(|bin| bin.voxels == expected), "{bins}");
        }
    }

    #[test]
    fn work_items_and_cases_add_up() {
        let n = 2 * CHUNK + 77;
        let value = |i: usize, factor: usize| (i * factor / 1000 % 3) as u8;
        let columns = |range: std::ops::Range<usize>| {
            let reference: Vec<u8> = range.clone().map(|i| value(i, 7)).collect();
            let prediction: Vec<u8> = range.clone().map(|i| value(i, 8)).collect();
            let confidence: Vec<u8> = range.map(|i| (i * 31 % 256) as u8).collect();
            measure(&reference, &prediction, &confidence, CalibrationRegion::Everywhere)
        };
        let whole = columns(0..n);
        assert_eq!(whole.overall().reliability(1).unwrap().voxels, n as u64);
        let mut merged = columns(0..1000);
        merged.merge(&columns(1000..n));
        assert_eq!(merged, whole);
        let json = serde_json::to_string(&whole).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&json).unwrap(), whole);
    }

    #[test]
    fn nothing_to_calibrate() {
        let empty = measure(&[0, 0], &[0, 0], &[255, 255], CalibrationRegion::Foreground);
        assert_eq!((empty.classes.len(), empty.overall().reliability(15)), (0, None));
    }

    #[test]
    fn another_grid_is_refused() {
        let (labels, confidence) = (row(&[1, 1]), row(&[255]));
        let found = Calibration::measure(
            &labels,
            &labels,
            &confidence,
            &classes(&[1]),
            CalibrationRegion::default(),
        );
        assert!(matches!(found, Err(MetricsError::ShapeMismatch { .. })));
    }
}
