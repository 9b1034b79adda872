//! Gradient of a convolution with respect to its weights: for each pair of blocks and each tap, a sum of outer products
//! over all voxels.

use super::conv::{TapPass, halo_needed};
use super::tile::{WeightRows, weight_rows};
use crate::Isa;
use crate::layout::{Blocked, Dims, LANES, Lane};
use rayon::prelude::*;

/// Voxels that one call of the inner kernel sums, at least: it keeps its sums in registers for so long.
const STRIP_VOXELS: usize = 512;

/// Adds the gradient of every weight through `add(lane channel, broadcast channel, kernel tap, value)`.
///
/// `broadcast` is the value that the taps of `pass` reach into, `lanes` the one that lies on the pass's grid: for a
/// convolution the input and the output's gradient, for a transposed one the output's gradient and the input.
/// `connected(lane channel, broadcast channel)` leaves out pairs that no weight joins.
///
/// The order of all additions depends on shapes alone.
///
/// # Panics
/// When the halo of `broadcast` is too small for the taps: a mistake of the planner.
pub(crate) fn weight_gradient(
    isa: Isa,
    pass: &TapPass,
    broadcast: &Blocked,
    lanes: &Blocked,
    connected: impl Fn(usize, usize) -> bool,
    mut add: impl FnMut(usize, usize, usize, f32),
) {
    assert_fits(pass, &broadcast.dims, &lanes.dims);
    let channels_of = |dims: &Dims, block: usize| LANES.min(dims.channels - block * LANES);
    let pairs: Vec<(usize, usize)> = (0..lanes.dims.blocks())
        .flat_map(|l| (0..broadcast.dims.blocks()).map(move |b| (l, b)))
        .filter(|&(l, b)| {
            (0..channels_of(&lanes.dims, l))
                .any(|i| (0..channels_of(&broadcast.dims, b)).any(|j| connected(l * LANES + i, b * LANES + j)))
        })
        .collect();
    let [depth, rows, width] = pass.count;
    // Planes of all samples are cut into chunks, so that there are some thirty tasks also where blocks are few.
    let planes = lanes.dims.batch * depth;
    let chunks = 32usize.div_ceil(pairs.len().max(1)).min(planes);
    let strip = STRIP_VOXELS.div_ceil(width).min(rows);
    let taps = pass.taps.len();
    let [_, _, x_row] = broadcast.dims.pitch();
    let [_, x_plane, _] = broadcast.dims.pitch();
    let [_, _, dy_row] = lanes.dims.pitch();
    let partial: Vec<Vec<Lane>> = (0..pairs.len() * chunks)
        .into_par_iter()
        .map(|task| {
            let (l, b) = pairs[task / chunks];
            let chunk = task % chunks;
            let channels = channels_of(&broadcast.dims, b);
            let mut sums = vec![Lane::ZERO; taps * channels];
            for plane in chunk * planes / chunks..(chunk + 1) * planes / chunks {
                let (sample, z) = (plane / depth, plane % depth);
                for first in (0..rows).step_by(strip) {
                    let from = [z * pass.in_step[0], first * pass.in_step[1], 0];
                    let x = broadcast.dims.at(sample, b, from);
                    let dy = lanes.dims.at(sample, l, [z, first, 0]);
                    for ((offset, _), sum) in pass.taps.iter().zip(sums.chunks_exact_mut(channels)) {
                        let offset = offset[0] * x_plane as isize + offset[1] * x_row as isize + offset[2];
                        let args = WeightRows {
                            x: broadcast.data.as_ptr().wrapping_add(x).wrapping_offset(offset),
                            x_step: [pass.in_step[2], pass.in_step[1] * x_row],
                            dy: lanes.data.as_ptr().wrapping_add(dy),
                            dy_row,
                            rows: strip.min(rows - first),
                            width,
                        };
                        // SAFETY: the asserts above show that every tap of every voxel lies within `broadcast`.
                        #[allow(unsafe_code)]
                        unsafe {
                            weight_rows(isa, &args, sum);
                        }
                    }
                }
            }
            sums
        })
        .collect();
    for (&(l, b), chunks) in pairs.iter().zip(partial.chunks_exact(chunks)) {
        let channels = channels_of(&broadcast.dims, b);
        for (slot, &(_, tap)) in pass.taps.iter().enumerate() {
            for channel in 0..channels {
                for lane in 0..channels_of(&lanes.dims, l) {
                    let (i, j) = (l * LANES + lane, b * LANES + channel);
                    if connected(i, j) {
                        let value = chunks.iter().map(|sums| sums[slot * channels + channel].0[lane]).sum();
                        add(i, j, tap, value);
                    }
                }
            }
        }
    }
}

/// # Panics
/// When the halo of `broadcast` is too small for the taps, or the pass is not that of `lanes`.
pub(super) fn assert_fits(pass: &TapPass, broadcast: &Dims, lanes: &Dims) {
    let needed = halo_needed(std::slice::from_ref(pass), broadcast.extent);
    assert!((0..3).all(|a| needed[a] <= broadcast.halo[a]), "input halo too small");
    assert_eq!(pass.count, lanes.extent, "pass and gradient differ");
    assert_eq!(broadcast.batch, lanes.batch, "unequal batches");
}

/// Gradient of a bias: the sum over all voxels, per channel.
pub(crate) fn bias_gradient(dy: &Blocked) -> Vec<f32> {
    let sums = super::norm::row_sums(dy, |_, _, _, _, row, sums| {
        for lane in row {
            sums[0].add_scaled(1.0, lane);
        }
    });
    (0..dy.dims.channels)
        .map(|channel| {
            (0..dy.dims.batch)
                .map(|sample| sums[sample * dy.dims.blocks() + channel / LANES][0][channel % LANES])
                .sum::<f64>() as f32
        })
        .collect()
}
