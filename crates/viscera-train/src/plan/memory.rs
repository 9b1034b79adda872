//! nnU-Net's estimate of a network's memory: the number of values that all its convolutions write, against a number that
//! is known to fit.

use super::topology::Topology;
use super::{Encoder, PlanOptions, features};

/// Batch with which the reference numbers fit; no plan has less.
pub(super) const REFERENCE_BATCH: f64 = 2.0;

/// The number of values that the memory holds. For each kind of network: (GiB, values) of the references; those of the
/// residual network hold for that memory and more.
pub(super) fn budget(options: &PlanOptions) -> f64 {
    let references: &[(f64, f64)] = match options.encoder {
        Encoder::Plain => &[(8.0, 560e6)],
        Encoder::Residual => &[(8.0, 680e6), (24.0, 2100e6), (40.0, 3600e6)],
    };
    let fits = references.iter().rev().find(|(gb, _)| options.memory_gb >= *gb);
    let (gb, values) = fits.or(references.first()).copied().unwrap_or((8.0, 560e6));
    values * (options.memory_gb / gb)
}

/// Blocks per level of the encoder, and convolutions per level of the decoder.
pub(super) fn depths(encoder: Encoder, levels: usize) -> (Vec<usize>, Vec<usize>) {
    let below = levels.saturating_sub(1);
    match encoder {
        Encoder::Plain => (vec![2; levels], vec![2; below]),
        Encoder::Residual => {
            let blocks = |level: usize| [1, 3, 4].get(level).copied().unwrap_or(6);
            ((0..levels).map(blocks).collect(), vec![1; below])
        }
    }
}

/// Values that the convolutions of a network write for one patch.
pub(super) fn estimate(shape: &Topology, options: &PlanOptions) -> f64 {
    let levels = shape.strides.len();
    let features = features(levels);
    let (depths, decoder_depths) = depths(options.encoder, levels);
    let mut size = shape.patch;
    let mut total = 0;
    for level in 0..levels {
        let stride = shape.strides[level];
        size = std::array::from_fn(|a| size[a] / stride[a]);
        let voxels: usize = size.iter().product();
        let map = features[level] * voxels;
        total += map
            * match options.encoder {
                Encoder::Plain => depths[level],
                // Two per block; the stem on the finest level, the skip's convolution where a level begins.
                Encoder::Residual => 2 * depths[level] + 1,
            };
        if level + 1 < levels {
            // The decoder's convolutions, and the transposed one before them.
            total += map * (decoder_depths[levels - 2 - level] + 1);
        }
        if level == 0 {
            total += options.outputs * voxels;
        }
    }
    total as f64
}
