//! Instance norm, fused with the dropout and the activation behind it, forward and backward.

use crate::layout::{Blocked, Dims, LANES, Lane};
use rayon::prelude::*;

/// Learnt scale and shift, per channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
}

/// Mean and 1 / standard deviation, per sample and block.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    mean: Vec<Lane>,
    inverse_std: Vec<Lane>,
}

/// Sums two lanes' worth of quantities over all voxels of each sample and block: `f` adds a row to f32 sums, which are
/// then added up in f64, plane by plane in order.
pub(crate) fn row_sums(
    value: &Blocked,
    f: impl Fn(usize, usize, usize, usize, &[Lane], &mut [Lane; 2]) + Sync,
) -> Vec<[[f64; LANES]; 2]> {
    let Dims { batch, extent, .. } = value.dims;
    let blocks = value.dims.blocks();
    let planes: Vec<[[f64; LANES]; 2]> = (0..batch * blocks * extent[0])
        .into_par_iter()
        .with_min_len((4096 / (extent[1] * extent[2])).max(1))
        .map(|index| {
            let (unit, z) = (index / extent[0], index % extent[0]);
            let (sample, block) = (unit / blocks, unit % blocks);
            let mut sums = [[0.0; LANES]; 2];
            for y in 0..extent[1] {
                let mut row = [Lane::ZERO; 2];
                f(sample, block, z, y, value.row(sample, block, z, y), &mut row);
                add(&mut sums, &row.map(|lane| lane.0.map(f64::from)));
            }
            sums
        })
        .collect();
    planes
        .chunks_exact(extent[0])
        .map(|planes| {
            let mut sums = [[0.0; LANES]; 2];
            for plane in planes {
                add(&mut sums, plane);
            }
            sums
        })
        .collect()
}

fn add(sums: &mut [[f64; LANES]; 2], more: &[[f64; LANES]; 2]) {
    for (sums, more) in sums.iter_mut().zip(more) {
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

/// Statistics over the voxels of each sample and channel.
pub(crate) fn statistics(x: &Blocked, eps: f32) -> Statistics {
    let count = x.dims.voxels() as f64;
    // Shifted by the first voxel, so that a large mean does not drown the variance.
    let shift: Vec<Lane> = (0..x.dims.batch * x.dims.blocks())
        .map(|unit| x.row(unit / x.dims.blocks(), unit % x.dims.blocks(), 0, 0)[0])
        .collect();
    let blocks = x.dims.blocks();
    let sums = row_sums(x, |sample, block, _, _, row, sums| {
        let shift = shift[sample * blocks + block].0;
        for lane in row {
            for i in 0..LANES {
                let v = lane.0[i] - shift[i];
                sums[0].0[i] += v;
                sums[1].0[i] += v * v;
            }
        }
    });
    let (mut mean, mut inverse_std) = (Vec::new(), Vec::new());
    for (sums, shift) in sums.iter().zip(&shift) {
        let m: [f64; LANES] = std::array::from_fn(|i| sums[0][i] / count);
        mean.push(Lane(std::array::from_fn(|i| (f64::from(shift.0[i]) + m[i]) as f32)));
        inverse_std.push(Lane(std::array::from_fn(|i| {
            let variance = (sums[1][i] / count - m[i] * m[i]).max(0.0);
            (1.0 / (variance + f64::from(eps)).sqrt()) as f32
        })));
    }
    Statistics { mean, inverse_std }
}

/// What happens to x̂ = (x − mean) / std: y = act(x̂ · scale + shift) · keep, where `act` is leaky ReLU or nothing. Kept
/// channels are scaled before the activation, which is the same as after it.
#[derive(Debug)]
pub(crate) struct Tail {
    scale: Vec<Lane>,
    shift: Vec<Lane>,
    keep: Vec<Lane>,
    /// Slope of the negative part; 1 for no activation.
    slope: f32,
}

impl Tail {
    /// `keep(sample, channel)` is 0 for a dropped channel, 1 / (1 − p) for a kept one, 1 without dropout.
    pub(crate) fn new(
        dims: Dims,
        affine: Option<Affine<'_>>,
        slope: Option<f32>,
        keep: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let channel = |block: usize, lane: usize| (block * LANES + lane).min(dims.channels - 1);
        let lanes = |f: &dyn Fn(usize) -> f32| {
            (0..dims.blocks())
                .map(|block| Lane(std::array::from_fn(|lane| f(channel(block, lane)))))
                .collect()
        };
        Self {
            scale: lanes(&|c| affine.map_or(1.0, |a| a.weight[c])),
            shift: lanes(&|c| affine.map_or(0.0, |a| a.bias[c])),
            keep: (0..dims.batch)
                .flat_map(|sample| {
                    let keep = &keep;
                    (0..dims.blocks())
                        .map(move |block| Lane(std::array::from_fn(|lane| keep(sample, channel(block, lane)))))
                })
                .collect(),
            slope: slope.unwrap_or(1.0),
        }
    }
}

#[inline(always)]
fn leaky(v: f32, slope: f32) -> f32 {
    if v > 0.0 { v } else { v * slope }
}

/// y from x; `y` is a buffer of the same shape.
pub(crate) fn forward(x: &Blocked, statistics: &Statistics, tail: &Tail, y: &mut Blocked) {
    let blocks = x.dims.blocks();
    y.fill_rows(|sample, block, z, yy, row| {
        let [a, b] = fold(statistics, tail, sample * blocks + block, block);
        for (y, x) in row.iter_mut().zip(x.row(sample, block, z, yy)) {
            for i in 0..LANES {
                y.0[i] = leaky(x.0[i] * a[i] + b[i], tail.slope);
            }
        }
    });
}

/// y in place of x.
pub(crate) fn forward_in_place(x: &mut Blocked, statistics: &Statistics, tail: &Tail) {
    let blocks = x.dims.blocks();
    x.change_rows(|sample, block, _, _, row| {
        let [a, b] = fold(statistics, tail, sample * blocks + block, block);
        for x in row {
            for i in 0..LANES {
                x.0[i] = leaky(x.0[i] * a[i] + b[i], tail.slope);
            }
        }
    });
}

/// The norm, affine map and dropout as one `x · a + b`.
fn fold(statistics: &Statistics, tail: &Tail, unit: usize, block: usize) -> [[f32; LANES]; 2] {
    let (mean, inverse) = (statistics.mean[unit].0, statistics.inverse_std[unit].0);
    let (scale, shift, keep) = (tail.scale[block].0, tail.shift[block].0, tail.keep[unit].0);
    let a: [f32; LANES] = std::array::from_fn(|i| inverse[i] * scale[i] * keep[i]);
    let b = std::array::from_fn(|i| shift[i] * keep[i] - mean[i] * a[i]);
    [a, b]
}

/// Turns the gradient of y into that of x, in place, and gives the gradients of scale and shift per channel.
///
/// With g the gradient behind activation and dropout: dx = scale / std · (g − mean(g) − x̂ · mean(g · x̂)).
pub(crate) fn backward(x: &Blocked, statistics: &Statistics, tail: &Tail, dy: &mut Blocked) -> [Vec<f32>; 2] {
    let blocks = x.dims.blocks();
    let masked = |unit: usize, block: usize| {
        let [a, b] = fold(statistics, tail, unit, block);
        let keep = tail.keep[unit].0;
        let slope = tail.slope;
        move |x: &Lane, dy: &Lane| -> [f32; LANES] {
            std::array::from_fn(|i| {
                let g = if x.0[i] * a[i] + b[i] > 0.0 {
                    dy.0[i]
                } else {
                    dy.0[i] * slope
                };
                g * keep[i]
            })
        }
    };
    let sums = row_sums(dy, |sample, block, z, y, row, sums| {
        let unit = sample * blocks + block;
        let masked = masked(unit, block);
        let (mean, inverse) = (statistics.mean[unit].0, statistics.inverse_std[unit].0);
        for (x, dy) in x.row(sample, block, z, y).iter().zip(row) {
            let g = masked(x, dy);
            for i in 0..LANES {
                sums[0].0[i] += g[i];
                sums[1].0[i] += g[i] * ((x.0[i] - mean[i]) * inverse[i]);
            }
        }
    });
    let count = x.dims.voxels() as f64;
    dy.change_rows(|sample, block, z, y, row| {
        let unit = sample * blocks + block;
        let masked = masked(unit, block);
        let (mean, inverse) = (statistics.mean[unit].0, statistics.inverse_std[unit].0);
        let scale = tail.scale[block].0;
        let [mean_g, mean_gx] = sums[unit].map(|s| s.map(|v| (v / count) as f32));
        for (x, dy) in x.row(sample, block, z, y).iter().zip(row) {
            let g = masked(x, dy);
            for i in 0..LANES {
                let normalised = (x.0[i] - mean[i]) * inverse[i];
                dy.0[i] = scale[i] * inverse[i] * (g[i] - mean_g[i] - normalised * mean_gx[i]);
            }
        }
    });
    let per_channel = |which: usize| {
        (0..x.dims.channels)
            .map(|c| {
                (0..x.dims.batch)
                    .map(|sample| sums[sample * blocks + c / LANES][which][c % LANES])
                    .sum::<f64>() as f32
            })
            .collect()
    };
    [per_channel(1), per_channel(0)]
}
