//! Gradient of the weights in the same form: dg = Gᵀ Σ [(A dy) ⊙ (Bᵀ d)], summed over tiles.

use super::transform::{TransformGradient, TransformInput};
use super::{Form, Grid, runs, segment_size};
use crate::Isa;
use crate::kernels::tile::{WeightRows, weight_rows};
use crate::layout::{Blocked, LANES, Lane};
use rayon::prelude::*;

/// Adds the gradient of the weights of a convolution without groups to `target`, `[out][all][z][y][x]`, where `x` is the
/// input, whose channels are those from `first_channel` on out of `all`, and `dy` the output's gradient. The order of all additions depends on shapes alone.
///
/// # Panics
/// When `x` has too small a halo, or shapes do not fit: a mistake of the planner.
pub(crate) fn weight_gradient(
    isa: Isa,
    form: Form,
    x: &Blocked,
    dy: &Blocked,
    [all, first_channel]: [usize; 2],
    target: &mut [f32],
) {
    let points: usize = form.points().iter().product();
    let taps: usize = form.taps().iter().product();
    let (ins, outs) = (x.dims.channels, dy.dims.channels);
    assert_eq!(target.len(), outs * all * taps, "weights do not fit");
    form.assert_halo(&x.dims, dy.dims.extent);
    let (in_blocks, out_blocks) = (x.dims.blocks(), dy.dims.blocks());
    let tiles = form.tiles(dy.dims.extent);
    let all_tiles: usize = tiles.iter().product();
    let size = segment_size(form, tiles);
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
                            place: [block, in_blocks],
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
        .par_chunks_mut(LANES * all * taps)
        .enumerate()
        .for_each(|(block, target)| {
            // The share that holds this block.
            let share = (0..shares)
                .rfind(|s| s * out_blocks / shares <= block)
                .unwrap_or_default();
            let first = share * out_blocks / shares;
            let blocks = (share + 1) * out_blocks / shares - first;
            for i in 0..ins {
                let mut grid: Grid = [Lane::ZERO; 128];
                for point in 0..points {
                    let place = ((point * in_blocks + i / LANES) * blocks + block - first) * LANES + i % LANES;
                    for sums in &sums[share * chunks..(share + 1) * chunks] {
                        grid[form.grid_place(point)].add_scaled(1.0, &sums[place]);
                    }
                }
                for line in form.lines() {
                    unfilter_line(&mut grid, line);
                }
                for (o, target) in target.chunks_exact_mut(all * taps).enumerate() {
                    for tap in 0..taps {
                        target[(first_channel + i) * taps + tap] += grid[form.tap_place(tap)].0[o];
                    }
                }
            }
        });
}

/// Gᵀ along one line of a grid; leaves the filter at the first three places.
fn unfilter_line(grid: &mut Grid, (first, stride, step): (usize, usize, usize)) {
    for lane in 0..LANES {
        let u: [f32; 6] = std::array::from_fn(|k| {
            if k < step + 2 {
                grid[first + k * stride].0[lane]
            } else {
                0.0
            }
        });
        let g = if step == 2 {
            let sum = 0.5 * (u[1] + u[2]);
            [u[0] + sum, 0.5 * (u[1] - u[2]), sum + u[3]]
        } else {
            let (near, far) = (-(u[1] + u[2]) / 6.0, u[3] + u[4]);
            [
                u[0] / 4.0 + near + far / 24.0,
                (u[2] - u[1]) / 6.0 + (u[3] - u[4]) / 12.0,
                near + far / 6.0 + u[5],
            ]
        };
        for (k, value) in g.into_iter().enumerate() {
            grid[first + k * stride].0[lane] = value;
        }
    }
}
