//! Over what a norm takes its mean and variance.

use crate::layout::{Dims, LANES};

/// The channels whose moments count as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Each channel of each sample by itself.
    Channel,
    /// A channel's values in all samples.
    Batch,
    /// This many groups of neighbouring channels, per sample.
    Groups(usize),
}

impl Scope {
    /// Replaces each channel's value by the mean over its scope; `values` is one array per sample and block. Channels have
    /// equally many voxels, so this makes the scope's mean from channels' means.
    pub(crate) fn average(self, dims: &Dims, values: &mut [[f64; LANES]]) {
        let blocks = dims.blocks();
        match self {
            Self::Channel => {}
            Self::Batch => {
                for block in 0..blocks {
                    for lane in 0..LANES {
                        let sum: f64 = (0..dims.batch).map(|n| values[n * blocks + block][lane]).sum();
                        for sample in 0..dims.batch {
                            values[sample * blocks + block][lane] = sum / dims.batch as f64;
                        }
                    }
                }
            }
            Self::Groups(groups) => {
                let size = dims.channels / groups;
                for values in values.chunks_exact_mut(blocks) {
                    for group in 0..groups {
                        let channels = group * size..(group + 1) * size;
                        let sum: f64 = channels.clone().map(|c| values[c / LANES][c % LANES]).sum();
                        for c in channels {
                            values[c / LANES][c % LANES] = sum / size as f64;
                        }
                    }
                }
            }
        }
    }
}
