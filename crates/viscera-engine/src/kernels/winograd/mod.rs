//! Convolution with fewer multiplications: Winograd's F(2, 3) along every axis on which the kernel is three wide, or
//! F(4, 3) along x where it pays (Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks"), for stride
//! and dilation 1.
//!
//! Along one axis, two neighbouring outputs of a three-tap filter come from four inputs with four multiplications in
//! place of six: y = Aᵀ [(G g) ⊙ (Bᵀ d)]. Three axes nest: a tile of 2×2×2 outputs takes 64 products per pair of
//! channels in place of 216, one of 2×2×4 takes 96 in place of 432. Summed over input channels, the products are 64 (96)
//! independent matrix products, one per point:
//!
//! ```text
//! input, blocked  --Bᵀ-->  v[point][input block][tile]      by segment: a few dozen tiles, a size that caches hold
//! v, weights      --·--->  m[point][output block][tile]     the tile kernel of `tile.rs`, per point
//! m               --Aᵀ-->  output, blocked
//! ```
//!
//! All factors of Aᵀ and Bᵀ of F(2, 3) are 0 and ±1, so the rounding errors stay near those of the plain sum. F(4, 3) has
//! factors up to 8 and loses about two bits; along one axis only, errors stay below 1e-5 of the largest value.

mod gradient;
mod transform;

pub(crate) use gradient::weight_gradient;

use super::conv::{Shared, TapPass, Write};
use super::moments::{Moments, Partial};
use super::packed::{Kept, Packed};
use super::tile::{Start, Tap, TileArgs, cut, cut_blocks, tile};
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, Dims, LANES, Lane};
use rayon::prelude::*;
use transform::{TransformInput, TransformOutput};

/// How the axes are transformed, and where the taps begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Form {
    /// Outputs of a tile: 1 on an axis that is not transformed, 2 for F(2, 3), 4 for F(4, 3), which is for x alone.
    step: [usize; 3],
    origin: [isize; 3],
}

/// Places of a grid that holds a filter or its points lie so far apart along (z, y, x).
const GRID: [usize; 3] = [32, 8, 1];
type Grid = [Lane; 128];

impl Form {
    /// The form of a pass: `None` unless its taps fill a box of three (or one) neighbours along each axis.
    pub(crate) fn of(pass: &TapPass) -> Option<Self> {
        let bound = |a: usize, pick: fn(isize, isize) -> isize| pass.taps.iter().map(|t| t.0[a]).reduce(pick);
        let mut form = Self {
            step: [1; 3],
            origin: [0; 3],
        };
        let mut taps = 1;
        for a in 0..3 {
            form.origin[a] = bound(a, isize::min)?;
            let width = bound(a, isize::max)? - form.origin[a] + 1;
            if width == 3 {
                form.step[a] = 2;
            }
            if width != 3 && width != 1 {
                return None;
            }
            taps *= width as usize;
        }
        let unit = [1; 3];
        let fits = pass.in_step == unit && pass.out_step == unit && pass.out_start == [0; 3] && taps > 1;
        (fits && pass.taps.len() == taps).then_some(form)
    }

    /// The variant that pays most, `None` where the plain sum is better: there must be enough channels to share the
    /// transforms, and enough tiles to share the weights, of which there are 64 or 96 in place of 27.
    pub(crate) fn best(mut self, in_channels: usize, out_channels: usize, count: [usize; 3]) -> Option<Self> {
        let tiles: usize = self.tiles(count).iter().product();
        let pays = self.step.iter().filter(|&&step| step > 1).count() > 1
            && in_channels >= LANES
            && out_channels >= LANES
            && in_channels + out_channels > 2 * LANES
            && tiles >= 24;
        // With many channels the weights would outgrow the caches.
        if self.step[2] == 2 && count[2] >= 16 && in_channels * out_channels <= 128 * 128 {
            self.step[2] = 4;
        }
        pays.then_some(self)
    }

    /// Whether x is transformed by F(4, 3).
    pub(crate) fn is_wide(&self) -> bool {
        self.step[2] == 4
    }

    /// Points of a tile along (z, y, x).
    fn points(&self) -> [usize; 3] {
        self.step.map(|step| if step > 1 { step + 2 } else { 1 })
    }

    /// Taps along (z, y, x).
    fn taps(&self) -> [usize; 3] {
        self.step.map(|step| if step > 1 { 3 } else { 1 })
    }

    fn tiles(&self, count: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|a| count[a].div_ceil(self.step[a]))
    }

    /// Where a point, and where a tap, stands in a grid.
    fn grid_place(&self, point: usize) -> usize {
        let [_, py, px] = self.points();
        point / (py * px) * GRID[0] + point / px % py * GRID[1] + point % px
    }

    fn tap_place(&self, tap: usize) -> usize {
        let [_, ty, tx] = self.taps();
        tap / (ty * tx) * GRID[0] + tap / tx % ty * GRID[1] + tap % tx
    }

    /// Every line of a grid along every transformed axis, as the place of its first value, the distance between values
    /// and the outputs of a tile.
    fn lines(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (step, extent) = (self.step, self.points());
        (0..3).filter(move |&a| step[a] > 1).flat_map(move |a| {
            let others: [usize; 2] = [[1, 2], [0, 2], [0, 1]][a];
            (0..extent[others[0]]).flat_map(move |i| {
                (0..extent[others[1]]).map(move |j| (i * GRID[others[0]] + j * GRID[others[1]], GRID[a], step[a]))
            })
        })
    }

    /// Bytes of scratch of one thread that runs [`run`] on so many outputs and input blocks.
    pub(crate) fn scratch_bytes(&self, count: [usize; 3], in_blocks: usize) -> usize {
        let tiles = self.tiles(count);
        let slots = segment_size(*self, tiles).min(tiles.iter().product());
        let points: usize = self.points().iter().product();
        let columns = self.columns(&runs(tiles, 0, slots));
        (points * slots * (in_blocks + Isa::detect().blocks()) + columns) * size_of::<Lane>()
    }

    /// Lanes of scratch that the transforms of these runs need.
    fn columns(&self, runs: &[Run]) -> usize {
        let (points, step) = (self.points(), self.step);
        let widest = runs.iter().map(|r| r.count).max().unwrap_or(0);
        points[0] * points[1] * (widest * step[2] + 2)
    }

    /// # Panics
    /// When an input of these dims has too small a halo for so many outputs.
    fn assert_halo(&self, input: &Dims, count: [usize; 3]) {
        for a in 0..3 {
            let reach = count[a] as isize - 1 + self.origin[a] + self.taps()[a] as isize - 1;
            let halo = input.halo[a] as isize;
            assert!(-self.origin[a] <= halo, "input halo too small");
            assert!(reach < input.extent[a] as isize + halo, "input halo too small");
        }
    }
}

/// Transformed weights: per group of output blocks that a tile holds, `[point][input channel][block]`.
#[derive(Debug)]
pub(crate) struct WinogradWeights {
    form: Form,
    in_channels: usize,
    groups: Vec<Group>,
    kept: Kept,
}

#[derive(Debug)]
struct Group {
    first_block: usize,
    blocks: usize,
    weights: Packed,
}

impl WinogradWeights {
    /// Bytes of the weights that [`Self::new`] makes, with so many bytes for a lane.
    pub(crate) fn bytes(form: Form, in_channels: usize, out_channels: usize, lane_bytes: usize) -> usize {
        let points: usize = form.points().iter().product();
        points * in_channels * out_channels.div_ceil(LANES) * lane_bytes
    }

    /// Transforms `weight(out channel, in channel, kernel tap)` for a path. `form` is that of `pass`.
    pub(crate) fn new(
        isa: Isa,
        form: Form,
        pass: &TapPass,
        out_channels: usize,
        in_channels: usize,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
        kept: Kept,
    ) -> Self {
        let out_blocks = out_channels.div_ceil(LANES);
        let count = form.points().iter().product::<usize>();
        let cut = cut_blocks(isa, out_blocks);
        let groups = (0..cut.len())
            .into_par_iter()
            .map(|group| {
                let (first_block, blocks) = (cut[..group].iter().sum(), cut[group]);
                let mut weights = vec![Lane::ZERO; count * in_channels * blocks];
                for i in 0..in_channels {
                    for b in 0..blocks {
                        let mut grid: Grid = [Lane::ZERO; 128];
                        for (offset, tap) in &pass.taps {
                            let place: [usize; 3] = std::array::from_fn(|a| (offset[a] - form.origin[a]) as usize);
                            grid[place[0] * GRID[0] + place[1] * GRID[1] + place[2]] =
                                Lane(std::array::from_fn(|lane| {
                                    let o = (first_block + b) * LANES + lane;
                                    if o < out_channels { weight(o, i, *tap) } else { 0.0 }
                                }));
                        }
                        for line in form.lines() {
                            filter_line(&mut grid, line);
                        }
                        for point in 0..count {
                            weights[(point * in_channels + i) * blocks + b] = grid[form.grid_place(point)];
                        }
                    }
                }
                Group {
                    first_block,
                    blocks,
                    weights: Packed::new(weights, kept),
                }
            })
            .collect();
        Self {
            form,
            in_channels,
            groups,
            kept,
        }
    }
}

/// G along one line of a grid, whose first three places hold the filter.
fn filter_line(grid: &mut Grid, (first, stride, step): (usize, usize, usize)) {
    let [g0, g1, g2]: [Lane; 3] = std::array::from_fn(|k| grid[first + k * stride]);
    for lane in 0..LANES {
        let [g0, g1, g2] = [g0.0[lane], g1.0[lane], g2.0[lane]];
        let mut set = |k: usize, value: f32| grid[first + k * stride].0[lane] = value;
        let outer = g0 + g2;
        if step == 2 {
            set(1, 0.5 * (outer + g1));
            set(2, 0.5 * (outer - g1));
            set(3, g2);
        } else {
            set(0, g0 / 4.0);
            set(1, -(outer + g1) / 6.0);
            set(2, -(outer - g1) / 6.0);
            set(3, g0 / 24.0 + g1 / 12.0 + g2 / 6.0);
            set(4, g0 / 24.0 - g1 / 12.0 + g2 / 6.0);
            set(5, g2);
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

/// Tiles per segment: whole rows of tiles or equal parts of one, about 32 (24 of the larger ones).
fn segment_size(form: Form, tiles: [usize; 3]) -> usize {
    let goal = if form.is_wide() { 24 } else { 32 };
    let [_, _, width] = tiles;
    let all = tiles.iter().product::<usize>();
    if width >= goal {
        width.div_ceil(width.div_ceil(goal))
    } else {
        (goal / width * width).min(all)
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

/// Runs one pass from the channels of all of `xs`, one after the other, to `y`, whose halo is left alone. All of `xs` but
/// the last fill their blocks. With `moments`, also gives those of everything written.
///
/// # Panics
/// When a halo of `xs` is too small for the taps, or the channels do not fit: a mistake of the planner.
pub(crate) fn run<E: Element>(
    isa: Isa,
    packed: &WinogradWeights,
    write: Write<'_>,
    xs: &[&Blocked<E>],
    y: &mut Blocked<E>,
    moments: bool,
) -> Vec<Partial> {
    let form = packed.form;
    let (points, step) = (form.points(), form.step);
    let all_points: usize = points.iter().product();
    let count = y.dims.extent;
    // Every block of input, as its value and its place in it.
    let mut sources: Vec<(&Blocked<E>, usize)> = Vec::new();
    for x in xs {
        form.assert_halo(&x.dims, count);
        assert_eq!(x.dims.batch, y.dims.batch, "batches differ");
        sources.extend((0..x.dims.blocks()).map(|block| (*x, block)));
    }
    let in_blocks = sources.len();
    assert_eq!(in_blocks, packed.in_channels.div_ceil(LANES), "channels differ");
    let batch = y.dims.batch;
    let tiles = form.tiles(count);
    let all_tiles: usize = tiles.iter().product();
    let size = segment_size(form, tiles);
    let segments = all_tiles.div_ceil(size);
    // Where segments are few, several tasks share one, each with some of the output blocks.
    let groups = packed.groups.len();
    let shares = 16usize.div_ceil(segments * batch).min(groups);
    let y_dims = y.dims;
    let y_data = Shared(y.data.as_mut_ptr());
    let tasks = batch * segments * shares;
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
            for (place, &(x, block)) in sources.iter().enumerate() {
                for &run in &runs {
                    isa.run(TransformInput {
                        form,
                        x,
                        sample,
                        block,
                        place: [place, in_blocks],
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
                    for (tiles, width) in cut(isa, slots, group.blocks) {
                        // SAFETY: `v` has a lane for each tap and slot, `m` for each block and slot, and nobody else
                        // has them; the weights of a point are as many as the taps want.
                        #[allow(unsafe_code)]
                        unsafe {
                            let args = TileArgs {
                                taps: &taps,
                                weights: group.weights.slice(point * per_point..(point + 1) * per_point),
                                x: v.as_ptr().add(at),
                                x_step: 1,
                                y: m.as_mut_ptr().add(at),
                                y_step: 1,
                                y_block: slots,
                                start: Start::Value(&[Lane::ZERO; 4]),
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
                            unit: packed.kept.unit(),
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
    use super::super::conv::{PackedWeights, Window, halo_needed, run_passes};
    use super::super::moments::join;
    use super::super::weight_gradient::weight_gradient as plain_gradient;
    use super::*;
    use crate::element::{Half, rounded};
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
        let mut value = Blocked::new(dims);
        value.load(Isa::Scalar, &Tensor::new(shape, data).unwrap());
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
                let packed = PackedWeights::new(Isa::Scalar, &pass, outs, ins, |_, _| true, weight, Kept::Full);
                let plain_form = Form::of(&pass).unwrap();
                let mut wide_form = plain_form;
                wide_form.step[2] = if plain_form.step[2] == 2 { 4 } else { 1 };
                for form in [plain_form, wide_form] {
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
                    for isa in Isa::available() {
                        let mut fast = vec![0.0; plain.len()];
                        weight_gradient(isa, form, &x, &dy, [ins, 0], &mut fast);
                        let largest = plain.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                        for (a, b) in plain.iter().zip(&fast) {
                            assert!((a - b).abs() <= 1e-5 * largest, "{kernel:?} {extent:?}: {a} {b}");
                        }
                    }
                    let bias = [0.5, -2.0, 3.0].map(|v| Lane([v; LANES]));
                    for isa in Isa::available() {
                        let transformed = WinogradWeights::new(isa, form, &pass, outs, ins, weight, Kept::Full);
                        for write in [Write::Set(&bias), Write::Add] {
                            let (mut plain, mut fast) = (value(dims(outs, [1; 3]), 2), value(dims(outs, [1; 3]), 2));
                            let passes = [(&pass, std::slice::from_ref(&packed))];
                            let plain_parts = run_passes(Isa::Scalar, &passes, write, &[&x], &mut plain, true);
                            let fast_parts = run(isa, &transformed, write, &[&x], &mut fast, true);
                            let (a, b) = (plain.store(isa), fast.store(isa));
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
    }

    /// Values stored in bf16 give what their widened copies give, but for the rounding of the result.
    #[test]
    fn rounded_values_give_the_rounded_result() {
        for (kernel, extent) in [([3, 3, 3], [5, 7, 19]), ([1, 3, 3], [2, 4, 6]), ([3, 3, 1], [4, 5, 3])] {
            let window = Window {
                kernel,
                stride: [1; 3],
                padding: kernel.map(|k: usize| k / 2),
                dilation: [1; 3],
            };
            let pass = window.gather(extent);
            let halo = halo_needed(std::slice::from_ref(&pass), extent);
            let dims = |channels, halo| Dims {
                batch: 2,
                channels,
                extent,
                halo,
            };
            let weight = |o: usize, i: usize, tap: usize| ((o * 31 + i * 17 + tap * 7) % 23) as f32 / 11.0 - 1.0;
            let mut form = Form::of(&pass).unwrap();
            for step in [2, 4] {
                if form.step[2] > 1 {
                    form.step[2] = step;
                }
                let bias = [0.5, -2.0, 3.0].map(|v| Lane([v; LANES]));
                for isa in Isa::available() {
                    let packed = WinogradWeights::new(isa, form, &pass, 21, 19, weight, Kept::Full);
                    // Two inputs, of which the first fills its blocks.
                    let halves = [8, 11].map(|channels| rounded(isa, &value(dims(channels, halo), channels)));
                    let lanes = halves.each_ref().map(|half| half.widened(isa).into_owned());
                    let mut plain = Blocked::new(dims(21, [1; 3]));
                    let mut half = Blocked::<Half>::new(plain.dims);
                    let write = Write::Set(&bias);
                    let plain_parts = run(isa, &packed, write, &lanes.each_ref(), &mut plain, true);
                    let half_parts = run(isa, &packed, write, &halves.each_ref(), &mut half, true);
                    assert_eq!(half.data, rounded(isa, &plain).data);
                    // So do weights in f16, nearly.
                    let short = WinogradWeights::new(isa, form, &pass, 21, 19, weight, Kept::Half { unit: 0.125 });
                    run(isa, &short, write, &lanes.each_ref(), &mut plain, false);
                    let (a, b) = (plain.store(isa), half.store(isa));
                    let largest = a.data().iter().fold(0.0f32, |m, v| m.max(v.abs()));
                    for (a, b) in a.data().iter().zip(b.data()) {
                        assert!((a - b).abs() <= 5e-3 * largest, "{kernel:?}: {a} {b}");
                    }
                    let (a, b) = (join(6, &plain_parts), join(6, &half_parts));
                    for (a, b) in a.iter().flatten().flatten().zip(b.iter().flatten().flatten()) {
                        assert!((a - b).abs() <= 1e-2 * (1.0 + a.abs()), "moments: {a} {b}");
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
