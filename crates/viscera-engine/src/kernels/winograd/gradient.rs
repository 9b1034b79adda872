//! Gradient of the weights in the same form: dg = Gᵀ Σ [(A dy) ⊙ (Bᵀ d)], summed over tiles.

use super::transform::{TransformGradient, TransformInput};
use super::{Form, runs, segment_size};
use crate::Isa;
use crate::kernels::tile::{WeightRows, weight_rows};
use crate::layout::{Blocked, LANES, Lane};
use rayon::prelude::*;

/// Adds the gradient of the weights of a convolution without groups to `target`, `[out][in][z][y][x]`, where `x` is the
/// input and `dy` the output's gradient. The order of all additions depends on shapes alone.
///
/// # Panics
/// When `x` has too small a halo, or shapes do not fit: a mistake of the planner.
pub(crate) fn weight_gradient(isa: Isa, form: Form, x: &Blocked, dy: &Blocked, target: &mut [f32]) {
    let points: usize = form.points().iter().product();
    let taps: usize = form.three.iter().map(|&t| if t { 3 } else { 1 }).product();
    let (ins, outs) = (x.dims.channels, dy.dims.channels);
    assert_eq!(target.len(), outs * ins * taps, "weights do not fit");
    form.assert_halo(&x.dims, dy.dims.extent);
    let (in_blocks, out_blocks) = (x.dims.blocks(), dy.dims.blocks());
    let tiles = form.tiles(dy.dims.extent);
    let all_tiles: usize = tiles.iter().product();
    let size = segment_size(tiles);
    let segments = all_tiles.div_ceil(size) * dy.dims.batch;
    // Tasks share out the output blocks as far as these are many, because that needs no second set of sums, and else
    // the segments.
    let shares = out_blocks.div_ceil(4).min(8);
    let chunks = 16usize.div_ceil(shares).min(segments);
    let sums: Vec<Vec<Lane>> = (0..shares * chunks)
        .into_par_iter()
        .map(|task| {
            let (share, chunk) = (task / chunks, task % chunks);
            let blocks = share * out_blocks / shares..(share + 1) * out_blocks / shares;
            // [point][in block][out block][channel of the in block]
            let mut sums = vec![Lane::ZERO; points * in_blocks * blocks.len() * LANES];
            let (mut columns, mut v, mut m) = (Vec::new(), Vec::new(), Vec::new());
            for segment in chunk * segments / chunks..(chunk + 1) * segments / chunks {
                let per_sample = segments / dy.dims.batch;
                let (sample, first) = (segment / per_sample, segment % per_sample * size);
                let slots = size.min(all_tiles - first);
                let runs = runs(tiles, first, first + slots);
                columns.resize(form.columns(&runs), Lane::ZERO);
                v.resize(points * in_blocks * slots, Lane::ZERO);
                m.resize(points * blocks.len() * slots, Lane::ZERO);
                for &run in &runs {
                    for block in 0..in_blocks {
                        isa.run(TransformInput {
                            form,
                            x,
                            sample,
                            block,
                            run,
                            columns: &mut columns,
                            v: &mut v,
                            slots,
                        });
                    }
                    for (at, block) in blocks.clone().enumerate() {
                        isa.run(TransformGradient {
                            form,
                            dy,
                            sample,
                            block,
                            run,
                            columns: &mut columns,
                            m: &mut m,
                            at,
                            blocks: blocks.len(),
                            slots,
                        });
                    }
                }
                for (pair, sum) in sums.chunks_exact_mut(LANES).enumerate() {
                    let (point, pair) = (pair / (in_blocks * blocks.len()), pair % (in_blocks * blocks.len()));
                    let (block, at) = (pair / blocks.len(), pair % blocks.len());
                    let v = &v[(point * in_blocks + block) * slots..][..slots];
                    let m = &m[(point * blocks.len() + at) * slots..][..slots];
                    let args = WeightRows {
                        x: v.as_ptr(),
                        x_step: [1, 0],
                        dy: m.as_ptr(),
                        dy_row: 0,
                        rows: 1,
                        width: slots,
                    };
                    // SAFETY: both slices hold `slots` lanes.
                    #[allow(unsafe_code)]
                    unsafe {
                        weight_rows(isa, &args, &mut sum[..LANES.min(ins - block * LANES)]);
                    }
                }
            }
            sums
        })
        .collect();
    target
        .par_chunks_mut(LANES * ins * taps)
        .enumerate()
        .for_each(|(block, target)| {
            // The share that holds this block.
            let share = (0..shares)
                .rfind(|s| s * out_blocks / shares <= block)
                .unwrap_or_default();
            let first = share * out_blocks / shares;
            let blocks = (share + 1) * out_blocks / shares - first;
            for i in 0..ins {
                let mut grid = [Lane::ZERO; 64];
                for point in 0..points {
                    let place = ((point * in_blocks + i / LANES) * blocks + block - first) * LANES + i % LANES;
                    for sums in &sums[share * chunks..(share + 1) * chunks] {
                        grid[form.grid_place(point)].add_scaled(1.0, &sums[place]);
                    }
                }
                for stride in form.strides() {
                    unfilter_axis(&mut grid, stride);
                }
                for (o, target) in target.chunks_exact_mut(ins * taps).enumerate() {
                    for tap in 0..taps {
                        target[i * taps + tap] += grid[form.tap_place(tap)].0[o];
                    }
                }
            }
        });
}

/// Gᵀ along one axis of a 4×4×4 grid; leaves the filter at the first three places.
fn unfilter_axis(grid: &mut [Lane; 64], stride: usize) {
    for first in (0..64usize).filter(|i| (i / stride).is_multiple_of(4)) {
        for lane in 0..LANES {
            let [u0, u1, u2, u3]: [f32; 4] = std::array::from_fn(|k| grid[first + k * stride].0[lane]);
            let (sum, difference) = (0.5 * (u1 + u2), 0.5 * (u1 - u2));
            grid[first].0[lane] = u0 + sum;
            grid[first + stride].0[lane] = difference;
            grid[first + 2 * stride].0[lane] = sum + u3;
        }
    }
}
