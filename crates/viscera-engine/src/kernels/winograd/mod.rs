//! Convolution with fewer multiplications: Winograd's F(2, 3) along every axis on which the kernel is three wide (Lavin
//! and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"), for stride and dilation 1.
//!
//! Along one axis, two neighbouring outputs of a three-tap filter come from four inputs with four multiplications in
//! place of six: y = Aᵀ [(G g) ⊙ (Bᵀ d)]. Three axes nest: a tile of 2×2×2 outputs takes 64 products per pair of
//! channels in place of 216. Summed over input channels, the products are 64 independent matrix products, one per
//! point:
//!
//! ```text
//! input, blocked  --Bᵀ-->  v[point][input block][tile]      by segment: a few dozen tiles, a size that caches hold
//! v, weights      --·--->  m[point][output block][tile]     the tile kernel of `tile.rs`, per point, two blocks a time
//! m               --Aᵀ-->  output, blocked
//! ```
//!
//! All factors of Aᵀ and Bᵀ are 0 and ±1, so the rounding errors stay near those of the plain sum.

mod gradient;
mod transform;

pub(crate) use gradient::weight_gradient;

use super::conv::{Shared, TapPass, Write};
use super::moments::{Moments, Partial};
use super::tile::{Start, Tap, TileArgs, cut, tile};
use crate::Isa;
use crate::layout::{Blocked, Dims, LANES, Lane};
use rayon::prelude::*;
use transform::{TransformInput, TransformOutput};

/// Which axes are transformed, and where the taps begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    three: [bool; 3],
    origin: [isize; 3],
}

impl Form {
    /// The form of a pass: `None` unless its taps fill a box of three (or one) neighbours along each axis.
    pub(crate) fn of(pass: &TapPass) -> Option<Self> {
        let bound = |a: usize, pick: fn(isize, isize) -> isize| pass.taps.iter().map(|t| t.0[a]).reduce(pick);
        let mut form = Self {
            three: [false; 3],
            origin: [0; 3],
        };
        let mut taps = 1;
        for a in 0..3 {
            form.origin[a] = bound(a, isize::min)?;
            let width = bound(a, isize::max)? - form.origin[a] + 1;
            form.three[a] = width == 3;
            if width != 3 && width != 1 {
                return None;
            }
            taps *= width as usize;
        }
        let unit = [1; 3];
        let fits = pass.in_step == unit && pass.out_step == unit && pass.out_start == [0; 3] && taps > 1;
        (fits && pass.taps.len() == taps).then_some(form)
    }

    /// Whether it pays: there are enough channels to share the transforms, and enough tiles to share the weights, of
    /// which there are 64 in place of 27.
    pub(crate) fn pays(&self, in_channels: usize, out_channels: usize, count: [usize; 3]) -> bool {
        let tiles: usize = self.tiles(count).iter().product();
        self.three.iter().filter(|&&t| t).count() > 1
            && in_channels >= LANES
            && out_channels >= LANES
            && in_channels + out_channels > 2 * LANES
            && tiles >= 24
    }

    /// Points of a tile along (z, y, x).
    fn points(&self) -> [usize; 3] {
        self.three.map(|three| if three { 4 } else { 1 })
    }

    /// Outputs of a tile along (z, y, x).
    fn step(&self) -> [usize; 3] {
        self.three.map(|three| if three { 2 } else { 1 })
    }

    /// Distances along the transformed axes of a 4×4×4 grid.
    fn strides(&self) -> impl Iterator<Item = usize> {
        let three = self.three;
        (0..3).filter(move |&a| three[a]).map(|a| [16, 4, 1][a])
    }

    /// Where a point, and where a tap, stands in a 4×4×4 grid.
    fn grid_place(&self, point: usize) -> usize {
        let [_, py, px] = self.points();
        point / (py * px) * 16 + point / px % py * 4 + point % px
    }

    fn tap_place(&self, tap: usize) -> usize {
        let [_, ty, tx] = self.three.map(|three| if three { 3 } else { 1 });
        tap / (ty * tx) * 16 + tap / tx % ty * 4 + tap % tx
    }

    /// Lanes of scratch that the transforms of these runs need.
    fn columns(&self, runs: &[Run]) -> usize {
        let (points, step) = (self.points(), self.step());
        let widest = runs.iter().map(|r| r.count).max().unwrap_or(0);
        points[0] * points[1] * (widest * step[2] + 2)
    }

    /// # Panics
    /// When an input of these dims has too small a halo for so many outputs.
    fn assert_halo(&self, input: &Dims, count: [usize; 3]) {
        for a in 0..3 {
            let reach = count[a] as isize - 1 + self.origin[a] + if self.three[a] { 2 } else { 0 };
            let halo = input.halo[a] as isize;
            assert!(-self.origin[a] <= halo, "input halo too small");
            assert!(reach < input.extent[a] as isize + halo, "input halo too small");
        }
    }

    fn tiles(&self, count: [usize; 3]) -> [usize; 3] {
        let step = self.step();
        std::array::from_fn(|a| count[a].div_ceil(step[a]))
    }
}

/// Transformed weights: per pair of output blocks, `[point][input channel][block]`.
#[derive(Debug)]
pub(crate) struct WinogradWeights {
    form: Form,
    in_channels: usize,
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    first_block: usize,
    blocks: usize,
    weights: Vec<Lane>,
}

impl WinogradWeights {
    /// Transforms `weight(out channel, in channel, kernel tap)`. `form` is that of `pass`.
    pub(crate) fn new(
        form: Form,
        pass: &TapPass,
        out_channels: usize,
        in_channels: usize,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let out_blocks = out_channels.div_ceil(LANES);
        let count = form.points().iter().product::<usize>();
        let groups = (0..out_blocks.div_ceil(2))
            .into_par_iter()
            .map(|group| {
                let first_block = 2 * group;
                let blocks = (out_blocks - first_block).min(2);
                let mut weights = vec![Lane::ZERO; count * in_channels * blocks];
                for i in 0..in_channels {
                    for b in 0..blocks {
                        // Places along an axis lie 16, 4 and 1 apart.
                        let mut grid = [Lane::ZERO; 64];
                        for (offset, tap) in &pass.taps {
                            let place: [usize; 3] = std::array::from_fn(|a| (offset[a] - form.origin[a]) as usize);
                            grid[place[0] * 16 + place[1] * 4 + place[2]] = Lane(std::array::from_fn(|lane| {
                                let o = (first_block + b) * LANES + lane;
                                if o < out_channels { weight(o, i, *tap) } else { 0.0 }
                            }));
                        }
                        for stride in form.strides() {
                            filter_axis(&mut grid, stride);
                        }
                        for point in 0..count {
                            weights[(point * in_channels + i) * blocks + b] = grid[form.grid_place(point)];
                        }
                    }
                }
                Group {
                    first_block,
                    blocks,
                    weights,
                }
            })
            .collect();
        Self {
            form,
            in_channels,
            groups,
        }
    }
}

/// G along one axis of a 4×4×4 grid, whose first three places hold the filter.
fn filter_axis(grid: &mut [Lane; 64], stride: usize) {
    for first in (0..64usize).filter(|i| (i / stride).is_multiple_of(4)) {
        let [g0, g1, g2]: [Lane; 3] = std::array::from_fn(|k| grid[first + k * stride]);
        for lane in 0..LANES {
            let (outer, middle) = (g0.0[lane] + g2.0[lane], g1.0[lane]);
            grid[first + stride].0[lane] = 0.5 * (outer + middle);
            grid[first + 2 * stride].0[lane] = 0.5 * (outer - middle);
            grid[first + 3 * stride].0[lane] = g2.0[lane];
        }
    }
}

/// Neighbouring tiles of one row of tiles.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Place of the first tile, in tiles.
    tile: [usize; 3],
    /// Tiles.
    count: usize,
    /// Place of the first tile in the segment.
    slot: usize,
}

/// The runs of tiles `first..last` of a grid, in order.
fn runs(tiles: [usize; 3], first: usize, last: usize) -> Vec<Run> {
    let [_, rows, width] = tiles;
    let mut runs = Vec::new();
    let mut at = first;
    while at < last {
        let x = at % width;
        let count = (width - x).min(last - at);
        runs.push(Run {
            tile: [at / width / rows, at / width % rows, x],
            count,
            slot: at - first,
        });
        at += count;
    }
    runs
}

/// Tiles per segment: whole rows of tiles or equal parts of one, about 32.
fn segment_size(tiles: [usize; 3]) -> usize {
    const GOAL: usize = 32;
    let [_, _, width] = tiles;
    let all = tiles.iter().product::<usize>();
    if width >= GOAL {
        width.div_ceil(width.div_ceil(GOAL))
    } else {
        (GOAL / width * width).min(all)
    }
}

/// Memory of one thread, kept from segment to segment.
#[derive(Default)]
struct Scratch {
    /// `[point along z and y][column]`, on the way in and out.
    columns: Vec<Lane>,
    v: Vec<Lane>,
    m: Vec<Lane>,
}

/// Runs one pass from `x` to `y`, whose halo is left alone. With `moments`, also gives those of everything written.
///
/// # Panics
/// When the halo of `x` is too small for the taps, or the channels do not fit: a mistake of the planner.
pub(crate) fn run(
    isa: Isa,
    packed: &WinogradWeights,
    write: Write<'_>,
    x: &Blocked,
    y: &mut Blocked,
    moments: bool,
) -> Vec<Partial> {
    let form = packed.form;
    let (points, step) = (form.points(), form.step());
    let all_points: usize = points.iter().product();
    let count = y.dims.extent;
    form.assert_halo(&x.dims, count);
    assert!(
        x.dims.batch == y.dims.batch && x.dims.channels == packed.in_channels,
        "channels or batches differ"
    );
    let in_blocks = x.dims.blocks();
    let tiles = form.tiles(count);
    let all_tiles: usize = tiles.iter().product();
    let size = segment_size(tiles);
    let segments = all_tiles.div_ceil(size);
    // Where segments are few, several tasks share one, each with some of the output blocks.
    let groups = packed.groups.len();
    let shares = 16usize.div_ceil(segments * x.dims.batch).min(groups);
    let y_dims = y.dims;
    let y_data = Shared(y.data.as_mut_ptr());
    let tasks = x.dims.batch * segments * shares;
    let partials: Vec<Vec<Partial>> = (0..tasks)
        .into_par_iter()
        .map_init(Scratch::default, |scratch, task| {
            let (segment, share) = (task / shares, task % shares);
            let (sample, segment) = (segment / segments, segment % segments);
            let first = segment * size;
            let slots = size.min(all_tiles - first);
            let runs = runs(tiles, first, first + slots);
            scratch.columns.resize(form.columns(&runs), Lane::ZERO);
            scratch.v.resize(all_points * in_blocks * slots, Lane::ZERO);
            for block in 0..in_blocks {
                for &run in &runs {
                    isa.run(TransformInput {
                        form,
                        x,
                        sample,
                        block,
                        run,
                        columns: &mut scratch.columns,
                        v: &mut scratch.v,
                        slots,
                    });
                }
            }
            let taps: Vec<Tap> = (0..in_blocks)
                .map(|block| Tap {
                    offset: (block * slots) as isize,
                    channels: LANES.min(packed.in_channels - block * LANES),
                })
                .collect();
            let mut found = Vec::new();
            for group in &packed.groups[share * groups / shares..(share + 1) * groups / shares] {
                scratch.m.resize(all_points * group.blocks * slots, Lane::ZERO);
                let per_point = packed.in_channels * group.blocks;
                for point in 0..all_points {
                    let v = &scratch.v[point * in_blocks * slots..(point + 1) * in_blocks * slots];
                    let m = &mut scratch.m[point * group.blocks * slots..(point + 1) * group.blocks * slots];
                    let mut at = 0;
                    for (tiles, width) in cut(slots, group.blocks) {
                        // SAFETY: `v` has a lane for each tap and slot, `m` for each block and slot, and nobody else
                        // has them; the weights of a point are as many as the taps want.
                        #[allow(unsafe_code)]
                        unsafe {
                            let args = TileArgs {
                                taps: &taps,
                                weights: &group.weights[point * per_point..(point + 1) * per_point],
                                x: v.as_ptr().add(at),
                                x_step: 1,
                                y: m.as_mut_ptr().add(at),
                                y_step: 1,
                                y_block: slots,
                                start: Start::Value(&[Lane::ZERO; 2]),
                                tiles,
                            };
                            tile(isa, group.blocks, width, &args);
                        }
                        at += tiles * width;
                    }
                }
                for block in 0..group.blocks {
                    let mut sums = moments.then(Moments::default);
                    for &run in &runs {
                        let place = std::array::from_fn(|a| run.tile[a] * step[a]);
                        isa.run(TransformOutput {
                            form,
                            m: &scratch.m,
                            block,
                            blocks: group.blocks,
                            slots,
                            run,
                            columns: &mut scratch.columns,
                            write: match write {
                                Write::Set(bias) => Some(bias[group.first_block + block]),
                                Write::Add => None,
                            },
                            room: std::array::from_fn(|a| count[a] - place[a]),
                            // The first output of the run: inside `y` by the assertion on channels and the tile grid.
                            y: y_data
                                .get()
                                .wrapping_add(y_dims.at(sample, group.first_block + block, place)),
                            y_pitch: y_dims.pitch(),
                            moments: &mut sums,
                        });
                    }
                    let unit = sample * y_dims.blocks() + group.first_block + block;
                    found.extend(sums.map(|sums| sums.finish(unit)));
                }
            }
            found
        })
        .collect();
    partials.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::super::conv::{PackedWeights, Window, halo_needed, run_pass};
    use super::super::moments::join;
    use super::super::weight_gradient::weight_gradient as plain_gradient;
    use super::*;
    use viscera_net::Tensor;

    fn value(dims: Dims, salt: usize) -> Blocked {
        let shape = [
            dims.batch,
            dims.channels,
            dims.extent[0],
            dims.extent[1],
            dims.extent[2],
        ];
        let noise = |i: usize| ((i * 7919 + salt * 104_729) % 2003) as f32 / 1001.0 - 1.0;
        let data = (0..shape.iter().product()).map(noise).collect();
        let mut value = Blocked {
            dims,
            data: vec![Lane::ZERO; dims.lanes()],
        };
        value.load(&Tensor::new(shape, data).unwrap());
        value
    }

    #[test]
    fn equals_the_plain_sum_on_odd_sizes() {
        let kernels = [[3, 3, 3], [1, 3, 3], [3, 3, 1], [3, 1, 3], [3, 1, 1]];
        let extents = [[5, 7, 9], [1, 1, 1], [4, 1, 6], [2, 3, 67], [9, 8, 1]];
        for (kernel, extent) in kernels.into_iter().flat_map(|k| extents.map(|e| (k, e))) {
            let window = Window {
                kernel,
                stride: [1; 3],
                padding: kernel.map(|k: usize| k / 2),
                dilation: [1; 3],
            };
            let (ins, outs) = (11, 21);
            let weight = |o: usize, i: usize, tap: usize| ((o * 31 + i * 17 + tap * 7) % 23) as f32 / 11.0 - 1.0;
            let dims = |channels, halo| Dims {
                batch: 2,
                channels,
                extent,
                halo,
            };
            // Forward, and the gradient of the input with its mirrored taps.
            for pass in [window.gather(extent), window.scatter(extent).remove(0)] {
                let halo = halo_needed(std::slice::from_ref(&pass), extent);
                let x = value(dims(ins, halo), 1);
                let packed = PackedWeights::new(&pass, outs, ins, |_, _| true, weight);
                let form = Form::of(&pass).unwrap();
                let transformed = WinogradWeights::new(form, &pass, outs, ins, weight);
                let dy = value(dims(outs, [0; 3]), 3);
                let taps = pass.taps.len();
                let mut plain = vec![0.0; outs * ins * taps];
                plain_gradient(
                    Isa::Scalar,
                    &pass,
                    &x,
                    &dy,
                    |_, _| true,
                    |o, i, tap, v| {
                        // The mirrored pass has its taps in the opposite order.
                        let place = pass.taps.iter().position(|t| t.1 == tap).unwrap();
                        let slot = if pass.taps[0].0 < pass.taps[taps - 1].0 {
                            place
                        } else {
                            taps - 1 - place
                        };
                        plain[(o * ins + i) * taps + slot] += v;
                    },
                );
                for isa in [Isa::Scalar, Isa::detect()] {
                    let mut fast = vec![0.0; plain.len()];
                    weight_gradient(isa, form, &x, &dy, &mut fast);
                    let largest = plain.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    for (a, b) in plain.iter().zip(&fast) {
                        assert!((a - b).abs() <= 1e-5 * largest, "{kernel:?} {extent:?}: {a} {b}");
                    }
                }
                let bias = [0.5, -2.0, 3.0].map(|v| Lane([v; LANES]));
                for isa in [Isa::Scalar, Isa::detect()] {
                    for write in [Write::Set(&bias), Write::Add] {
                        let (mut plain, mut fast) = (value(dims(outs, [1; 3]), 2), value(dims(outs, [1; 3]), 2));
                        let plain_parts = run_pass(Isa::Scalar, &pass, &packed, write, &x, &mut plain, true);
                        let fast_parts = run(isa, &transformed, write, &x, &mut fast, true);
                        let (a, b) = (plain.store(), fast.store());
                        let largest = a.data().iter().fold(0.0f32, |m, v| m.max(v.abs()));
                        for (a, b) in a.data().iter().zip(b.data()) {
                            assert!((a - b).abs() <= 1e-5 * largest, "{kernel:?} {extent:?}: {a} {b}");
                        }
                        let (a, b) = (join(6, &plain_parts), join(6, &fast_parts));
                        for (a, b) in a.iter().flatten().flatten().zip(b.iter().flatten().flatten()) {
                            assert!((a - b).abs() <= 1e-3 * (1.0 + a.abs()), "moments: {a} {b}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn other_passes_have_no_form() {
        let window = |kernel, stride, dilation| Window {
            kernel,
            stride: [stride; 3],
            padding: [0; 3],
            dilation: [dilation; 3],
        };
        for window in [
            window([3; 3], 2, 1),
            window([3; 3], 1, 2),
            window([1; 3], 1, 1),
            window([2, 3, 3], 1, 1),
        ] {
            assert_eq!(Form::of(&window.gather([8; 3])), None);
        }
    }
}
