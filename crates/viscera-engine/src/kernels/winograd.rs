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

use super::conv::{Shared, TapPass, Write};
use super::moments::{Moments, Partial};
use super::tile::{Start, Tap, TileArgs, max_width, tile};
use crate::Isa;
use crate::layout::{Blocked, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;

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
        let points = form.points();
        let count = points.iter().product::<usize>();
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
                        for (a, stride) in [16, 4, 1].into_iter().enumerate().filter(|&(a, _)| form.three[a]) {
                            filter_axis(&mut grid, a, stride);
                        }
                        for point in 0..count {
                            let [_, py, px] = points;
                            let place = (point / (py * px)) * 16 + (point / px % py) * 4 + point % px;
                            weights[(point * in_channels + i) * blocks + b] = grid[place];
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
fn filter_axis(grid: &mut [Lane; 64], axis: usize, stride: usize) {
    for first in (0..64usize).filter(|i| (i / stride).is_multiple_of(4)) {
        debug_assert!(axis < 3 && first + 3 * stride < 64);
        let [g0, g1, g2]: [Lane; 3] = std::array::from_fn(|k| grid[first + k * stride]);
        for lane in 0..LANES {
            let (outer, middle) = (g0.0[lane] + g2.0[lane], g1.0[lane]);
            grid[first + stride].0[lane] = 0.5 * (outer + middle);
            grid[first + 2 * stride].0[lane] = 0.5 * (outer - middle);
            grid[first + 3 * stride].0[lane] = g2.0[lane];
        }
    }
}

/// Bᵀ.
#[inline(always)]
fn input_points<V: Vector>(d: [V; 4]) -> [V; 4] {
    [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])]
}

/// Aᵀ.
#[inline(always)]
fn outputs<V: Vector>(m: [V; 4]) -> [V; 2] {
    let (sum, difference) = (m[1].add(m[2]), m[1].sub(m[2]));
    [m[0].add(sum), difference.sub(m[3])]
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
    for a in 0..3 {
        let reach = count[a] as isize - 1 + form.origin[a] + if form.three[a] { 2 } else { 0 };
        let halo = x.dims.halo[a] as isize;
        assert!(-form.origin[a] <= halo, "input halo too small");
        assert!(reach < x.dims.extent[a] as isize + halo, "input halo too small");
    }
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
            let widest = runs.iter().map(|r| r.count).max().unwrap_or(0);
            scratch
                .columns
                .resize(points[0] * points[1] * (widest * step[2] + 2), Lane::ZERO);
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
                let chunks = slots.div_ceil(max_width(group.blocks));
                for point in 0..all_points {
                    let v = &scratch.v[point * in_blocks * slots..(point + 1) * in_blocks * slots];
                    let m = &mut scratch.m[point * group.blocks * slots..(point + 1) * group.blocks * slots];
                    let mut at = 0;
                    for chunk in 0..chunks {
                        let width = (slots - at).div_ceil(chunks - chunk);
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
                            };
                            tile(isa, group.blocks, width, &args);
                        }
                        at += width;
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

/// Bᵀ on a run of tiles of one input block.
struct TransformInput<'a> {
    form: Form,
    x: &'a Blocked,
    sample: usize,
    block: usize,
    run: Run,
    columns: &'a mut [Lane],
    v: &'a mut [Lane],
    slots: usize,
}

impl Kernel for TransformInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.form.three {
            [true, true, _] => self.points::<V, 4, 4>(),
            [true, false, _] => self.points::<V, 4, 1>(),
            [false, true, _] => self.points::<V, 1, 4>(),
            [false, false, _] => self.points::<V, 1, 1>(),
        }
    }
}

impl TransformInput<'_> {
    #[inline(always)]
    fn points<V: Vector, const PZ: usize, const PY: usize>(self) {
        let (step, points) = (self.form.step(), self.form.points());
        let dims = &self.x.dims;
        let from: [isize; 3] = std::array::from_fn(|a| (self.run.tile[a] * step[a]) as isize + self.form.origin[a]);
        let last = |a: usize| (dims.extent[a] + dims.halo[a]) as isize - 1;
        let width = self.run.count * step[2] + points[2] - step[2];
        // Columns past the halo feed only outputs past the end of the row; so do planes and rows.
        let inside = width.min((last(2) - from[2] + 1) as usize);
        let rows: [[&[Lane]; PY]; PZ] = std::array::from_fn(|z| {
            std::array::from_fn(|y| {
                let z = (from[0] + z as isize).min(last(0)) + dims.halo[0] as isize;
                let y = (from[1] + y as isize).min(last(1)) + dims.halo[1] as isize;
                let [block, plane, row] = dims.pitch();
                let start = (self.sample * dims.blocks() + self.block) * block
                    + z as usize * plane
                    + y as usize * row
                    + (from[2] + dims.halo[2] as isize) as usize;
                &self.x.data[start..start + inside]
            })
        });
        let columns = &mut self.columns[..PZ * PY * width];
        for column in 0..inside {
            // SAFETY: all rows are `inside` long.
            #[allow(unsafe_code)]
            let load = |z: usize, y: usize| V::load(unsafe { rows[z][y].get_unchecked(column) });
            let mut d: [[V; PY]; PZ] = std::array::from_fn(|z| std::array::from_fn(|y| load(z, y)));
            if PY == 4 {
                for line in &mut d {
                    let [a, b, c, d]: [V; 4] = std::array::from_fn(|y| line[y % PY]);
                    for (to, from) in line.iter_mut().zip(input_points([a, b, c, d])) {
                        *to = from;
                    }
                }
            }
            if PZ == 4 {
                for y in 0..PY {
                    let line = input_points(std::array::from_fn(|z| d[z % PZ][y]));
                    for (to, from) in d.iter_mut().zip(line) {
                        to[y] = from;
                    }
                }
            }
            for z in 0..PZ {
                for y in 0..PY {
                    // SAFETY: `columns` has `width` ≥ `inside` lanes per pair of points.
                    #[allow(unsafe_code)]
                    d[z][y].store(unsafe { columns.get_unchecked_mut((z * PY + y) * width + column) });
                }
            }
        }
        for line in columns.chunks_exact_mut(width) {
            line[inside..].fill(Lane::ZERO);
        }
        let in_blocks = dims.blocks();
        let (count, slots) = (self.run.count, self.slots);
        for (pair, line) in columns.chunks_exact(width).enumerate() {
            let place = |k: usize| ((pair * points[2] + k) * in_blocks + self.block) * slots + self.run.slot;
            if points[2] == 1 {
                self.v[place(0)..place(0) + count].copy_from_slice(&line[..count]);
                continue;
            }
            assert!(place(3) + count <= self.v.len() && line.len() == 2 * count + 2);
            let v = self.v.as_mut_ptr();
            let [mut d0, mut d1] = [V::load(&line[0]), V::load(&line[1])];
            for t in 0..count {
                // SAFETY: the assertion above; `place(k)` rises with k.
                #[allow(unsafe_code)]
                unsafe {
                    let d2 = V::load(line.get_unchecked(2 * t + 2));
                    let d3 = V::load(line.get_unchecked(2 * t + 3));
                    for (k, value) in input_points([d0, d1, d2, d3]).into_iter().enumerate() {
                        value.store(&mut *v.add(place(k) + t));
                    }
                    [d0, d1] = [d2, d3];
                }
            }
        }
    }
}

/// Aᵀ on a run of tiles of one output block.
struct TransformOutput<'a> {
    form: Form,
    m: &'a [Lane],
    block: usize,
    blocks: usize,
    slots: usize,
    run: Run,
    columns: &'a mut [Lane],
    /// A bias, or `None` to add to what is there.
    write: Option<Lane>,
    /// Outputs from the first one on to the end of each axis.
    room: [usize; 3],
    y: *mut Lane,
    y_pitch: [usize; 3],
    moments: &'a mut Option<Moments>,
}

impl Kernel for TransformOutput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match self.form.three {
            [true, true, _] => self.outputs::<V, 4, 4>(),
            [true, false, _] => self.outputs::<V, 4, 1>(),
            [false, true, _] => self.outputs::<V, 1, 4>(),
            [false, false, _] => self.outputs::<V, 1, 1>(),
        }
    }
}

impl TransformOutput<'_> {
    #[inline(always)]
    fn outputs<V: Vector, const PZ: usize, const PY: usize>(self) {
        let (step, points) = (self.form.step(), self.form.points());
        let width = self.run.count * step[2];
        let columns = &mut self.columns[..PZ * PY * width];
        for (pair, line) in columns.chunks_exact_mut(width).enumerate() {
            let place = |k: usize| ((pair * points[2] + k) * self.blocks + self.block) * self.slots + self.run.slot;
            let m: [&[Lane]; 4] = std::array::from_fn(|k| {
                let place = place(k % points[2]);
                &self.m[place..place + self.run.count]
            });
            if points[2] == 1 {
                line.copy_from_slice(m[0]);
                continue;
            }
            for (t, pair) in line.chunks_exact_mut(2).enumerate() {
                let [a, b] = outputs(std::array::from_fn(|k| V::load(&m[k][t])));
                a.store(&mut pair[0]);
                b.store(&mut pair[1]);
            }
        }
        let wanted = width.min(self.room[2]);
        let [_, plane, row] = self.y_pitch;
        let [depth, height] = [step[0].min(self.room[0]), step[1].min(self.room[1])];
        let bias = self.write.as_ref().map_or(V::splat(0.0), V::load);
        let add = self.write.is_none();
        for column in 0..wanted {
            let mut m: [[V; PY]; PZ] = std::array::from_fn(|z| {
                // SAFETY: `columns` has `width` ≥ `wanted` lanes per pair of points.
                #[allow(unsafe_code)]
                std::array::from_fn(|y| V::load(unsafe { columns.get_unchecked((z * PY + y) * width + column) }))
            });
            if PZ == 4 {
                for y in 0..PY {
                    let [a, b] = outputs(std::array::from_fn(|z| m[z % PZ][y]));
                    m[0][y] = a;
                    m[1 % PZ][y] = b;
                }
            }
            for z in 0..depth {
                let line = if PY == 4 {
                    outputs(std::array::from_fn(|y| m[z % PZ][y % PY]))
                } else {
                    [m[z % PZ][0]; 2]
                };
                for y in 0..height {
                    // SAFETY: the place lies within the run's own outputs, inside the extent by `room`.
                    #[allow(unsafe_code)]
                    let to = unsafe { &mut *self.y.add(z * plane + y * row + column) };
                    let value = line[y % 2].add(if add { V::load(to) } else { bias });
                    value.store(to);
                }
            }
        }
        if let Some(moments) = self.moments {
            for z in 0..depth {
                for y in 0..height {
                    // SAFETY: as above; what was just written.
                    #[allow(unsafe_code)]
                    let written = unsafe { std::slice::from_raw_parts(self.y.add(z * plane + y * row), wanted) };
                    moments.add::<V>(written);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::conv::{PackedWeights, Window, halo_needed, run_pass};
    use super::super::moments::join;
    use super::*;
    use crate::layout::Dims;
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
