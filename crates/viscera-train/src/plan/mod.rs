//! A training plan for a data set, as nnU-Net 2.8.1 makes it for `3d_fullres`: spacing, patch, batch and network follow
//! from the fingerprint and from how much GPU memory there is (Isensee et al. 2021; residual encoders: 2024).
//!
//! The target spacing is the median, or the tenth percentile along an axis that is much coarser than the others. The patch
//! begins as large as 256³ voxels with the scans' aspect ratio and is cut, along the axis that covers most of the median
//! scan, until the network's estimated memory fits. Memory that is left goes into the batch.

mod memory;
mod recipe;
mod topology;

use crate::{Fingerprint, TrainError};
use serde::{Deserialize, Serialize};
use topology::topology;

/// Spacing or extent beyond this many times the next axis's is anisotropic.
const ANISOTROPY: f64 = 3.0;
/// Channels of the finest level, doubled per level up to the most.
const BASE_FEATURES: usize = 32;
const MOST_FEATURES: usize = 320;
/// A patch with a smaller share of the median scan's voxels asks for a network of lower resolution before it.
const LOWRES_SHARE: f64 = 0.25;

/// Which network is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// nnU-Net's plain U-Net (`ExperimentPlanner`).
    Plain,
    /// The one with a residual encoder (`ResEncUNetPlanner`, and its presets M, L and XL by the memory).
    Residual,
}

/// What a plan may use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanOptions {
    /// Kind of network.
    pub encoder: Encoder,
    /// GPU memory for training in GiB, as nnU-Net counts it.
    pub memory_gb: f64,
    /// Channels of the output: classes, background, and nnU-Net's `ignore`.
    pub outputs: usize,
    /// Largest share of the data set's voxels that a batch may hold; nnU-Net takes 0.05, its presets M, L, XL 1.
    pub most_of_data: f64,
}

/// A plan. Triples are in the stage's order of axes: axis `a` is axis `axes[a]` of `[z, y, x]`, the coarsest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Kind of network.
    pub encoder: Encoder,
    /// Order of axes.
    pub axes: [usize; 3],
    /// Millimetres between voxels.
    pub spacing: [f64; 3],
    /// Median size of the scans at that spacing.
    pub median_size: [f64; 3],
    /// Voxels of a patch.
    pub patch: [usize; 3],
    /// Patches per step.
    pub batch_size: usize,
    /// Channels per level, the finest first.
    pub features: Vec<usize>,
    /// Kernel per level.
    pub kernels: Vec<[usize; 3]>,
    /// Step from the level above.
    pub strides: Vec<[usize; 3]>,
    /// Convolutions or residual blocks per level of the encoder.
    pub depths: Vec<usize>,
    /// Convolutions per level of the decoder, the coarsest first.
    pub decoder_depths: Vec<usize>,
    /// Whether Dice sums run over the batch: where scans are so much larger than the patch that nnU-Net plans a network of
    /// lower resolution as well.
    pub batch_dice: bool,
}

impl Plan {
    /// Plans for a data set.
    ///
    /// # Errors
    /// [`TrainError::DataSet`] for a fingerprint without cases or with sizes that cannot be, and [`TrainError::Settings`]
    /// for options that cannot.
    pub fn new(fingerprint: &Fingerprint, options: &PlanOptions) -> Result<Self, TrainError> {
        fingerprint.check()?;
        let share = options.most_of_data;
        if !(options.memory_gb > 0.0 && options.memory_gb.is_finite() && share > 0.0 && options.outputs >= 2) {
            return Err(TrainError::settings(format!(
                "the plan's options {options:?} cannot be"
            )));
        }
        let spacing = target_spacing(fingerprint);
        // The coarsest axis first; the others stay in their order.
        let coarsest = largest(spacing);
        let rest: Vec<usize> = (0..3).filter(|&a| a != coarsest).collect();
        let axes = [coarsest, rest[0], rest[1]];
        let turned = |v: [f64; 3]| axes.map(|a| v[a]);
        let sizes: Vec<[f64; 3]> = fingerprint
            .cases()
            .map(|(old, size)| std::array::from_fn(|a| (old[a] / spacing[a] * size[a]).round_ties_even()))
            .collect();
        let median_size = turned(std::array::from_fn(|a| median(sizes.iter().map(|s| s[a]))));
        let spacing = turned(spacing);
        let cases = sizes.len() as f64;
        let mut plan = fit(spacing, median_size, product(median_size) * cases, options);
        plan.axes = axes;
        plan.batch_dice = needs_lowres(&plan, cases, options);
        Ok(plan)
    }
}

/// Whether nnU-Net plans a network of lower resolution, too: spacings grow by 3 % until a patch holds a quarter of the
/// median scan; where that halves the voxels at least.
fn needs_lowres(plan: &Plan, cases: f64, options: &PlanOptions) -> bool {
    let all = product(plan.median_size);
    let mut spacing = plan.spacing;
    let mut voxels = all;
    let mut patch = plan.patch;
    while product(patch.map(|n| n as f64)) / voxels < LOWRES_SHARE {
        let most = spacing[largest(spacing)];
        // Axes that are more than twice as fine as the coarsest come first.
        let finer = spacing.map(|s| most / s > 2.0);
        for (s, finer) in spacing
            .iter_mut()
            .zip(if finer.contains(&true) { finer } else { [true; 3] })
        {
            *s *= if finer { 1.03 } else { 1.0 };
        }
        let size = std::array::from_fn(|a| plan.spacing[a] / spacing[a] * plan.median_size[a]);
        voxels = product(size);
        patch = fit(spacing, size.map(f64::round_ties_even), voxels * cases, options).patch;
    }
    all / voxels >= 2.0
}

/// The median spacing; along an axis that is much coarser, and shorter, than the others the tenth percentile, so that few
/// scans lose slices.
fn target_spacing(fingerprint: &Fingerprint) -> [f64; 3] {
    let along = |a: usize| fingerprint.cases().map(move |(spacing, _)| spacing[a]);
    let mut target: [f64; 3] = std::array::from_fn(|a| percentile(along(a), 50.0));
    let size: [f64; 3] = std::array::from_fn(|a| percentile(fingerprint.cases().map(|(_, size)| size[a]), 50.0));
    let worst = largest(target);
    let others: Vec<usize> = (0..3).filter(|&a| a != worst).collect();
    let coarsest_other = others.iter().map(|&a| target[a]).fold(0.0, f64::max);
    let shortest_other = others.iter().map(|&a| size[a]).fold(f64::INFINITY, f64::min);
    if target[worst] > ANISOTROPY * coarsest_other && size[worst] * ANISOTROPY < shortest_other {
        let fine = percentile(along(worst), 10.0);
        // Not finer than the other axes.
        target[worst] = if fine < coarsest_other {
            coarsest_other + 1e-5
        } else {
            fine
        };
    }
    target
}

/// Patch, network and batch for one spacing; `voxels` are those of the whole data set.
fn fit(spacing: [f64; 3], median_size: [f64; 3], voxels: f64, options: &PlanOptions) -> Plan {
    let inverse = spacing.map(|s| 1.0 / s);
    let scale = (16_777_216.0 / product(inverse)).powf(1.0 / 3.0);
    let first = std::array::from_fn(|a| (inverse[a] * scale).round_ties_even().min(median_size[a]));
    let mut shape = topology(spacing, first);
    let budget = memory::budget(options);
    let mut estimate = memory::estimate(&shape, options);
    while estimate > budget {
        // The axis along which the patch covers most of the median scan; the last of equals.
        let cover: [f64; 3] = std::array::from_fn(|a| shape.patch[a] as f64 / median_size[a]);
        let axis = (1..3).fold(0, |best, a| if cover[a] >= cover[best] { a } else { best });
        // One step less may need fewer halvings, and then smaller steps will do: they are found first.
        let mut less = shape.patch.map(|n| n as f64);
        less[axis] -= shape.divisor[axis] as f64;
        let step = topology(spacing, less).divisor[axis];
        let mut patch = shape.patch.map(|n| n as f64);
        patch[axis] -= step as f64;
        let next = topology(spacing, patch);
        if next.patch == shape.patch || patch[axis] < 1.0 {
            break; // nothing smaller
        }
        shape = next;
        estimate = memory::estimate(&shape, options);
    }
    let patch = product(shape.patch.map(|n| n as f64));
    let by_memory = (budget / estimate * memory::REFERENCE_BATCH).round_ties_even();
    let by_data = (voxels * options.most_of_data / patch).round_ties_even();
    let levels = shape.strides.len();
    let (depths, decoder_depths) = memory::depths(options.encoder, levels);
    Plan {
        encoder: options.encoder,
        axes: [0, 1, 2],
        spacing,
        median_size,
        patch: shape.patch,
        batch_size: by_memory.min(by_data).max(memory::REFERENCE_BATCH) as usize,
        features: features(levels),
        kernels: shape.kernels,
        strides: shape.strides,
        depths,
        decoder_depths,
        batch_dice: false,
    }
}

fn features(levels: usize) -> Vec<usize> {
    let wide = |level: usize| BASE_FEATURES.checked_shl(level as u32).unwrap_or(MOST_FEATURES);
    (0..levels).map(|level| wide(level).min(MOST_FEATURES)).collect()
}

/// The first of the largest.
fn largest(values: [f64; 3]) -> usize {
    (1..3).fold(0, |best, a| if values[a] > values[best] { a } else { best })
}

fn product(values: [f64; 3]) -> f64 {
    values.iter().product()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    percentile(values, 50.0)
}

/// Linear between the ranks, as NumPy's default.
fn percentile(values: impl Iterator<Item = f64>, percent: f64) -> f64 {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len().max(1) - 1) as f64 * percent / 100.0;
    let (low, t) = (place.floor(), place.fract());
    let at = |i: f64| sorted.get(i as usize).or(sorted.last()).copied().unwrap_or(f64::NAN);
    let (a, b) = (at(low), at(low + 1.0));
    if t < 0.5 {
        a + (b - a) * t
    } else {
        b - (b - a) * (1.0 - t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        fingerprint: Fingerprint,
        residual: bool,
        memory_gb: f64,
        outputs: usize,
        most_of_data: f64,
        plan: Expected,
    }
    #[derive(Deserialize)]
    struct Expected {
        transpose_forward: [usize; 3],
        spacing: [f64; 3],
        median_size: [f64; 3],
        patch: [usize; 3],
        batch_size: usize,
        batch_dice: bool,
        features: Vec<usize>,
        kernels: Vec<[usize; 3]>,
        strides: Vec<[usize; 3]>,
        depths: Vec<usize>,
        decoder_depths: Vec<usize>,
    }

    /// What nnU-Net 2.8.1 plans for isotropic, thick, flat, tiny and huge scans, with several memories.
    #[test]
    fn plans_equal_nnunets() {
        let text = include_str!("../../../../fixtures/train-plans/expected.json");
        let goldens: Vec<Golden> = serde_json::from_str(text).unwrap();
        assert!(goldens.len() >= 12);
        for (at, golden) in goldens.into_iter().enumerate() {
            let options = PlanOptions {
                encoder: if golden.residual {
                    Encoder::Residual
                } else {
                    Encoder::Plain
                },
                memory_gb: golden.memory_gb,
                outputs: golden.outputs,
                most_of_data: golden.most_of_data,
            };
            let (plan, want) = (Plan::new(&golden.fingerprint, &options).unwrap(), golden.plan);
            assert_eq!(plan.axes, want.transpose_forward, "{at}");
            assert!(
                plan.spacing.iter().zip(want.spacing).all(|(a, b)| (a - b).abs() < 1e-9),
                "{at}"
            );
            assert_eq!(plan.median_size, want.median_size, "{at}");
            assert_eq!((plan.patch, plan.batch_size), (want.patch, want.batch_size), "{at}");
            assert_eq!((plan.strides, plan.kernels), (want.strides, want.kernels), "{at}");
            assert_eq!(plan.features, want.features, "{at}");
            assert_eq!(
                (plan.depths, plan.decoder_depths),
                (want.depths, want.decoder_depths),
                "{at}"
            );
            assert_eq!(plan.batch_dice, want.batch_dice, "{at}");
        }
    }

    #[test]
    fn percentiles_are_numpys() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(percentile(values.into_iter(), 50.0), 2.5);
        assert!((percentile(values.into_iter(), 10.0) - 1.3).abs() < 1e-12);
        assert_eq!(percentile([7.0].into_iter(), 10.0), 7.0);
    }

    #[test]
    fn what_cannot_be_planned_is_named() {
        let options = PlanOptions {
            encoder: Encoder::Plain,
            memory_gb: 8.0,
            outputs: 14,
            most_of_data: 0.05,
        };
        let empty = Fingerprint::default();
        assert!(Plan::new(&empty, &options).is_err());
        let one = Fingerprint {
            spacings: vec![[1.0; 3]],
            shapes_after_crop: vec![[40, 40, 40]],
            ..Fingerprint::default()
        };
        assert!(
            Plan::new(
                &one,
                &PlanOptions {
                    memory_gb: -1.0,
                    ..options
                }
            )
            .is_err()
        );
        // However little memory there is, a plan comes out.
        let least = Plan::new(
            &one,
            &PlanOptions {
                memory_gb: 1e-6,
                ..options
            },
        )
        .unwrap();
        assert_eq!(least.batch_size, 2);
    }
}
