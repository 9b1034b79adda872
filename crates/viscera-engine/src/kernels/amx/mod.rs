//! Convolution as products of bf16 matrices, for processors that multiply whole tiles of them (AMX).
//!
//! One instruction multiplies 16 rows of 32 numbers by a tile of weights for 16 outputs. A row is what one voxel reads
//! from one tap: 32 channels side by side. Values lie in blocks of eight channels, so a task first stages what its
//! outputs read: records of up to 32 channels (`stage.rs`), voxel behind voxel, row behind row with the columns that the
//! taps reach beyond. Then every output of the strip has a place
//!
//! ```text
//! place = row · pitch + column        A(tap)[place] = staged[offset(tap) + place]
//!
//!            width         reach      sixteen places at a time are the rows of a matrix, with one distance
//! row 0   [ o o o o o o o | - - ]     between them, also across the end of a row: what the places in the
//! row 1   [ o o o o o o o | - - ]     reach (-) sum up is never stored
//! ```
//!
//! and the sum over taps and channels is one chain of products. A strided convolution stages the voxels of each residue
//! of the stride by themselves, so that neighbouring outputs read neighbouring records. Of few channels a record is 8
//! or 16 wide, and a row of 32 numbers holds the records of two or four neighbouring voxels: of taps side by side.

mod gradient;
mod multiply;
mod stage;

pub(crate) use gradient::weight_gradient;
pub(crate) use multiply::peak;

use super::conv::{Shared, TapPass, Write, halo_needed};
use super::moments::{AddRow, Moments, Partial};
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector, round};
use multiply::{PLACES, Product, ROW, Session, Tile};
use rayon::prelude::*;
use stage::{Grid, Held, sets};
use std::ops::Range;

/// Blocks of output channels that are summed up together.
const OUT_BLOCKS: usize = 4;

/// Bytes that a strip of rows may stage: a part of a second-level cache.
const STAGED_BYTES: usize = 1 << 19;

/// Weights of passes over the same inputs, in the order in which products read them.
#[derive(Debug)]
pub(crate) struct TileWeights {
    /// Channels of the inputs, one after the other.
    in_channels: Vec<usize>,
    out_channels: usize,
    passes: Vec<PassWeights>,
}

#[derive(Debug)]
struct PassWeights {
    units: Vec<Unit>,
    /// Per four (at the end up to four) blocks of outputs, per unit: a tile of weights for each two blocks.
    tiles: Vec<Tile>,
}

/// Thirty-two numbers in a row of what is staged: of one set of channels, from the voxel on that a tap reads.
#[derive(Debug)]
struct Unit {
    set: usize,
    /// The offset of the first tap.
    offset: [isize; 3],
    /// Places in the kernel: those of the tap, and of its neighbours along x where records are narrow.
    taps: Vec<Option<usize>>,
}

impl TileWeights {
    /// Packs `weight(out channel, in channel, kernel tap)` for passes over inputs of so many channels, whose channels
    /// count one after the other.
    pub(crate) fn new(
        passes: &[TapPass],
        out_channels: usize,
        in_channels: &[usize],
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let record = record_blocks(in_channels);
        let sets = sets(in_channels, record);
        let passes = passes.iter().map(|pass| {
            let units = units(pass, sets.len(), record);
            let tile_rows = out_channels.div_ceil(OUT_BLOCKS * LANES);
            let tiles = (0..tile_rows * units.len())
                .into_par_iter()
                .flat_map_iter(|index| {
                    let (chunk, unit) = (index / units.len(), &units[index % units.len()]);
                    let first = chunk * OUT_BLOCKS * LANES;
                    (0..tiles_of(out_channels, chunk)).map(move |half| (first + half * 2 * LANES, unit))
                })
                .map(|(first, unit)| {
                    let set = &sets[unit.set];
                    Tile::new(|k, out| {
                        let (neighbour, channel) = (k / (record * LANES), k % (record * LANES));
                        let tap = unit.taps.get(neighbour).copied().flatten();
                        match (tap, set.channel(channel)) {
                            (Some(tap), Some(channel)) if first + out < out_channels => {
                                round(weight(first + out, channel, tap))
                            }
                            _ => 0,
                        }
                    })
                })
                .collect();
            PassWeights { units, tiles }
        });
        Self {
            passes: passes.collect(),
            in_channels: in_channels.to_vec(),
            out_channels,
        }
    }

    /// Bytes of what [`Self::new`] packs.
    pub(crate) fn bytes(passes: &[TapPass], out_channels: usize, in_channels: &[usize]) -> usize {
        let record = record_blocks(in_channels);
        let sets = sets(in_channels, record).len();
        let chunks = out_channels.div_ceil(OUT_BLOCKS * LANES);
        let tiles: usize = (0..chunks).map(|chunk| tiles_of(out_channels, chunk)).sum();
        let units: usize = passes.iter().map(|pass| units(pass, sets, record).len()).sum();
        units * tiles * size_of::<Tile>()
    }
}

/// Tiles of weights per unit of the `chunk`-th four blocks of outputs.
fn tiles_of(out_channels: usize, chunk: usize) -> usize {
    (out_channels - chunk * OUT_BLOCKS * LANES)
        .div_ceil(2 * LANES)
        .min(OUT_BLOCKS / 2)
}

/// Blocks of channels in a record, of inputs of so many channels: 1, 2 or 4.
fn record_blocks(in_channels: &[usize]) -> usize {
    let widest = in_channels.iter().map(|c| c.div_ceil(LANES)).max().unwrap_or(1);
    widest.next_power_of_two().min(ROW / LANES)
}

/// What the rows of a pass's products hold.
fn units(pass: &TapPass, sets: usize, record: usize) -> Vec<Unit> {
    let step = pass.in_step[2] as isize;
    // Taps that read neighbouring records are in one row of voxels and have the same residue.
    let mut taps = pass.taps.clone();
    taps.sort_by_key(|&([z, y, x], _)| (z, y, x.rem_euclid(step), x));
    let mut rows: Vec<([isize; 3], Vec<Option<usize>>)> = Vec::new();
    for ([z, y, x], tap) in taps {
        if let Some((first, held)) = rows.last_mut() {
            let ahead = x - first[2];
            let place = ahead / step;
            if first[..2] == [z, y] && ahead % step == 0 && place < (ROW / LANES / record) as isize {
                held.resize(place as usize, None);
                held.push(Some(tap));
                continue;
            }
        }
        rows.push(([z, y, x], vec![Some(tap)]));
    }
    let unit = |set| {
        let rows = rows.iter();
        rows.map(move |(offset, taps)| Unit {
            set,
            offset: *offset,
            taps: taps.clone(),
        })
    };
    (0..sets).flat_map(unit).collect()
}

/// How outputs are cut into tasks; depends on shapes alone.
struct Cut {
    depth: usize,
    rows: usize,
    /// Rows of outputs per strip.
    strip: usize,
    strips: usize,
    /// Parts of the planes.
    layers: usize,
    /// Parts into which the blocks of outputs of a strip are shared out.
    shares: usize,
}

impl Cut {
    fn new(passes: &[TapPass], in_channels: &[usize], batch: usize, chunks: usize) -> Self {
        let most = |a: usize| passes.iter().map(|pass| pass.count[a]).max().unwrap_or(0);
        let (depth, rows) = (most(0), most(1));
        let record = record_blocks(in_channels);
        let one = Grid::new(passes, 1);
        let row = one.len(record, sets(in_channels, record).len()) * size_of::<[u16; LANES]>();
        let reach = one.rows();
        // A row more costs a share of what the first one with its reach does.
        let strip = (STAGED_BYTES * reach / row.max(1))
            .saturating_sub(reach - 1)
            .clamp(4, rows.max(4));
        let strips = rows.div_ceil(strip).max(1);
        // Some fifty tasks; where planes are few, several share one.
        let layers = 48usize.div_ceil((batch * strips).max(1)).clamp(1, depth.max(1));
        let shares = 16usize
            .div_ceil((batch * strips * layers).max(1))
            .clamp(1, chunks.max(1));
        Self {
            depth,
            rows,
            strip: rows.div_ceil(strips).max(1),
            strips,
            layers,
            shares,
        }
    }

    /// Rows of the `index`-th strip.
    fn strip(&self, index: usize) -> Range<usize> {
        (index * self.strip).min(self.rows)..((index + 1) * self.strip).min(self.rows)
    }
}

/// Bytes of scratch of one thread that runs these passes.
pub(crate) fn scratch_bytes(passes: &[TapPass], in_channels: &[usize], batch: usize) -> usize {
    let cut = Cut::new(passes, in_channels, batch, 1);
    let grid = Grid::new(passes, cut.strip);
    let record = record_blocks(in_channels);
    grid.len(record, sets(in_channels, record).len()) * size_of::<[u16; LANES]>()
}

/// Memory of one thread, kept from task to task.
#[derive(Default)]
struct Scratch {
    staged: Vec<[u16; LANES]>,
}

impl Scratch {
    /// So many blocks that begin where a line of the cache does.
    fn staged(&mut self, blocks: usize) -> &mut [[u16; LANES]] {
        let line = ROW / LANES;
        self.staged.resize(blocks + line, [0; LANES]);
        let address = self.staged.as_ptr().addr() / size_of::<[u16; LANES]>();
        let skipped = (line - address % line) % line;
        &mut self.staged[skipped..skipped + blocks]
    }
}

/// Runs passes from the channels of all of `xs`, one after the other, to `y`, as [`super::conv::run_passes`] does, with
/// values and weights rounded to bf16 and sums in f32. All of `xs` but the last fill their blocks.
///
/// # Panics
/// When the halo of `xs` is too small for the taps, or a pass or the weights do not fit: a mistake of the planner.
pub(crate) fn run<E: Element>(
    isa: Isa,
    passes: &[TapPass],
    weights: &TileWeights,
    write: Write<'_>,
    xs: &[&Blocked<E>],
    y: &mut Blocked<E>,
    moments: bool,
) -> Vec<Partial> {
    let Some(TapPass { in_step, .. }) = passes.first() else {
        return Vec::new();
    };
    assert_eq!(passes.len(), weights.passes.len(), "passes without weights");
    let in_channels: Vec<usize> = xs.iter().map(|x| x.dims.channels).collect();
    assert_eq!(in_channels, weights.in_channels, "channels differ");
    assert_eq!(y.dims.channels, weights.out_channels, "channels differ");
    for pass in passes {
        assert_eq!(pass.in_step, *in_step, "steps differ between passes");
        for x in xs {
            assert_eq!(x.dims.batch, y.dims.batch, "unequal batches");
            let needed = halo_needed(std::slice::from_ref(pass), x.dims.extent);
            assert!((0..3).all(|a| needed[a] <= x.dims.halo[a]), "input halo too small");
        }
        assert!(
            (0..3).all(|a| pass.out_start[a] + (pass.count[a] - 1) * pass.out_step[a] < y.dims.extent[a]),
            "pass outside the output"
        );
    }
    let record = record_blocks(&in_channels);
    let sets = sets(&in_channels, record);
    let chunks = y.dims.channels.div_ceil(OUT_BLOCKS * LANES);
    let cut = Cut::new(passes, &in_channels, y.dims.batch, chunks);
    let grid = Grid::new(passes, cut.strip);
    let y_dims = y.dims;
    let y_data = Shared(y.data.as_mut_ptr());
    let moments = moments && passes.iter().all(|pass| pass.out_step == [1; 3]);
    let task = |scratch: &mut Scratch, task: usize| {
        let (share, part) = (task % cut.shares, task / cut.shares);
        let (layer, part) = (part % cut.layers, part / cut.layers);
        let (sample, strip) = (part / cut.strips, cut.strip(part % cut.strips));
        let chunks = share * chunks / cut.shares..(share + 1) * chunks / cut.shares;
        let staged = scratch.staged(grid.len(record, sets.len()));
        let mut held = Held::default();
        let mut gathered: Vec<Moments> = Vec::new();
        let session = Session::new(isa);
        for z in layer * cut.depth / cut.layers..(layer + 1) * cut.depth / cut.layers {
            grid.stage(isa, &sets, record, xs, sample, &mut held, [z, strip.start], staged);
            for (pass, packed) in passes.iter().zip(&weights.passes) {
                let rows = strip.start..strip.end.min(pass.count[1]);
                if z >= pass.count[0] || rows.is_empty() {
                    continue;
                }
                let units = packed.units.iter().map(|unit| {
                    let first = unit.set * grid.records() + grid.record_of(&held, unit.offset);
                    first * record * LANES
                });
                let strip = Strip {
                    isa,
                    session: &session,
                    pass,
                    pitch: grid.pitch(),
                    record: record * LANES,
                    units: units.collect(),
                    staged: staged.as_flattened(),
                    write,
                    y: y_data,
                    y_dims,
                    sample,
                    z,
                    rows,
                };
                for (index, chunk) in chunks.clone().enumerate() {
                    strip.run(chunk, &packed.tiles);
                    if moments {
                        strip.gather(index, chunk, &mut gathered);
                    }
                }
            }
        }
        let first = sample * y_dims.blocks() + chunks.start * OUT_BLOCKS;
        let parts = gathered.into_iter().enumerate();
        parts
            .map(|(block, sums)| sums.finish(first + block))
            .collect::<Vec<_>>()
    };
    let parts: Vec<Vec<Partial>> = (0..y_dims.batch * cut.strips * cut.layers * cut.shares)
        .into_par_iter()
        .map_init(Scratch::default, task)
        .collect();
    parts.into_iter().flatten().collect()
}

/// Some rows of one plane of a pass's outputs, whose inputs are staged.
struct Strip<'a, E> {
    isa: Isa,
    session: &'a Session,
    pass: &'a TapPass,
    /// Places of a row, and numbers of a record.
    pitch: usize,
    record: usize,
    /// Where each unit's row of the first place begins.
    units: Vec<usize>,
    staged: &'a [u16],
    write: Write<'a>,
    y: Shared<E>,
    y_dims: Dims,
    sample: usize,
    z: usize,
    rows: Range<usize>,
}

impl<E: Element> Strip<'_, E> {
    /// The first output of a row (of the strip) of a block.
    fn row(&self, block: usize, row: usize) -> *mut E {
        let pass = self.pass;
        let out = [
            pass.out_start[0] + self.z * pass.out_step[0],
            pass.out_start[1] + (self.rows.start + row) * pass.out_step[1],
            pass.out_start[2],
        ];
        self.y.get().wrapping_add(self.y_dims.at(self.sample, block, out))
    }

    /// The blocks of the `chunk`-th four.
    fn blocks(&self, chunk: usize) -> Range<usize> {
        chunk * OUT_BLOCKS..((chunk + 1) * OUT_BLOCKS).min(self.y_dims.blocks())
    }

    /// Writes the outputs of the `chunk`-th four blocks. This and what it calls write outputs of one task alone, as tasks
    /// differ in sample, planes, rows or blocks; they lie inside `y` by the assertions of [`run`].
    fn run(&self, chunk: usize, tiles: &[Tile]) {
        let width = self.pass.count[2];
        let places = (self.rows.len() - 1) * self.pitch + width;
        let pairs = tiles_of(self.y_dims.channels, chunk);
        let before = chunk * self.units.len() * (OUT_BLOCKS / 2);
        let weights = &tiles[before..before + self.units.len() * pairs];
        let mut sums = [Lane::ZERO; PLACES * OUT_BLOCKS];
        for first in (0..places).step_by(PLACES) {
            let last = places.min(first + PLACES);
            self.session.multiply(Product {
                units: &self.units,
                staged: self.staged,
                first: first * self.record,
                record: self.record,
                places: last - first,
                weights,
                pairs,
                sums: &mut sums,
            });
            // The outputs among these places, row by row.
            let mut place = first;
            while place < last {
                let (row, column) = (place / self.pitch, place % self.pitch);
                let count = (self.pitch - column).min(last - place);
                let step = self.pass.out_step[2];
                for (at, block) in self.blocks(chunk).enumerate() {
                    self.isa.run(Spread {
                        sums: &sums[(place - first) * OUT_BLOCKS + at..],
                        count: count.min(width.saturating_sub(column)),
                        bias: match self.write {
                            Write::Set(bias) => Some(bias[block]),
                            Write::Add => None,
                        },
                        to: self.row(block, row).wrapping_add(column * step),
                        step,
                    });
                }
                place += count;
            }
        }
    }

    /// Takes the moments of what was written of the `chunk`-th four blocks, the `index`-th of the task.
    fn gather(&self, index: usize, chunk: usize, gathered: &mut Vec<Moments>) {
        for (at, block) in self.blocks(chunk).enumerate() {
            let at = index * OUT_BLOCKS + at;
            gathered.resize_with(gathered.len().max(at + 1), Moments::default);
            for row in 0..self.rows.len() {
                // SAFETY: a row that this task has just written, with a step of one.
                #[allow(unsafe_code)]
                let written =
                    unsafe { std::slice::from_raw_parts(self.row(block, row).cast_const(), self.pass.count[2]) };
                self.isa.run(AddRow(&mut gathered[at], written));
            }
        }
    }
}

/// Stores sums of one block as elements, `step` apart.
///
/// Whoever makes one promises that all of these places can be written and that nobody else touches them.
struct Spread<'a, E> {
    /// Of every place [`OUT_BLOCKS`] lanes, of which the first counts.
    sums: &'a [Lane],
    count: usize,
    /// A bias, or `None` to add to what is there.
    bias: Option<Lane>,
    to: *mut E,
    step: usize,
}

impl<E: Element> Kernel for Spread<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let bias = self.bias.as_ref().map_or(V::splat(0.0), V::load);
        let add = self.bias.is_none();
        for (voxel, lanes) in self.sums.chunks(OUT_BLOCKS).take(self.count).enumerate() {
            // SAFETY: promised by the maker.
            #[allow(unsafe_code)]
            let to = unsafe { &mut *self.to.add(voxel * self.step) };
            let before = if add { to.load::<V>() } else { bias };
            to.store(V::load(&lanes[0]).add(before));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::Half;
    use crate::kernels::conv::{PackedWeights, Window, run_passes};
    use crate::kernels::moments::join;
    use crate::kernels::packed::Kept;
    use crate::kernels::weight_gradient::weight_gradient as plain_gradient;
    use viscera_net::Tensor;

    fn dims(channels: usize, extent: [usize; 3], halo: [usize; 3]) -> Dims {
        Dims {
            batch: 2,
            channels,
            extent,
            halo,
        }
    }

    /// Values that bf16 holds exactly, and others past the last channel that nobody may read.
    fn value(dims: Dims, salt: usize) -> Blocked<Half> {
        let [z, y, x] = dims.extent;
        let shape = [dims.batch, dims.channels, z, y, x];
        let noise = |i: usize| ((i * 7919 + salt * 104_729) % 251) as f32 / 128.0 - 1.0;
        let data = (0..shape.iter().product()).map(noise).collect();
        let mut value = Blocked::<Half>::new(dims);
        value.load(Isa::Scalar, &Tensor::new(shape, data).unwrap());
        let last = dims.blocks() - 1;
        let kept = dims.channels - last * LANES;
        value.change_rows(|_, block, _, _, row| {
            if block == last {
                row.iter_mut().for_each(|half| half.0[kept..].fill(round(f32::NAN)));
            }
        });
        value
    }

    fn weight(o: usize, i: usize, tap: usize) -> f32 {
        ((o * 31 + i * 17 + tap * 7) % 23) as f32 / 16.0 - 0.7
    }

    fn rounded_weight(o: usize, i: usize, tap: usize) -> f32 {
        f32::from_bits(u32::from(round(weight(o, i, tap))) << 16)
    }

    fn paths() -> impl Iterator<Item = Isa> {
        Isa::available().filter(|isa| isa.multiplies_tiles())
    }

    fn assert_close(a: &[f32], b: &[f32], tolerance: f32, what: &str) {
        let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest > 0.0, "{what}");
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance * largest, "{what}: {a} {b}");
        }
    }

    /// Windows, extents of the input, channels of its parts and of the output.
    fn cases() -> Vec<(Window, [usize; 3], Vec<usize>, usize)> {
        let window = |kernel, stride, padding, dilation| Window {
            kernel,
            stride,
            padding,
            dilation,
        };
        let same = |kernel: [usize; 3]| window(kernel, [1; 3], kernel.map(|k| k / 2), [1; 3]);
        vec![
            (same([3; 3]), [3, 5, 9], vec![11], 21),
            (same([3; 3]), [1, 1, 1], vec![33], 8),
            (same([3; 3]), [2, 9, 1], vec![8], 40),
            (same([1, 3, 3]), [2, 3, 67], vec![16], 37),
            (same([3, 1, 1]), [4, 2, 33], vec![20], 9),
            (same([1; 3]), [2, 3, 37], vec![40], 14),
            (same([3; 3]), [2, 4, 5], vec![16, 11], 17),
            (same([3; 3]), [2, 3, 6], vec![40, 8, 35], 70),
            (window([3; 3], [2; 3], [1; 3], [1; 3]), [5, 7, 10], vec![19], 24),
            (window([1, 3, 3], [1, 2, 2], [0, 1, 1], [1; 3]), [3, 8, 9], vec![8], 16),
            (window([2; 3], [2; 3], [0; 3], [1; 3]), [4, 6, 8], vec![13], 12),
            (window([3, 2, 4], [1, 2, 3], [2, 0, 1], [1; 3]), [3, 6, 14], vec![9], 11),
            (window([3; 3], [1; 3], [2; 3], [2; 3]), [4, 5, 6], vec![8], 8),
            (
                window([1, 1, 3], [1; 3], [0, 0, 3], [1, 1, 3]),
                [1, 2, 40],
                vec![10],
                16,
            ),
            // Several planes to a task, of which each leaves some to the next; several strips.
            (same([3, 1, 1]), [60, 2, 3], vec![9], 8),
            (window([3, 1, 1], [2, 1, 1], [0; 3], [1; 3]), [121, 1, 2], vec![9], 8),
            (same([1, 3, 1]), [1, 6, 2600], vec![33], 8),
        ]
    }

    fn outputs(window: &Window, extent: [usize; 3]) -> [usize; 3] {
        std::array::from_fn(|a| {
            let reach = window.dilation[a] * (window.kernel[a] - 1);
            (extent[a] + 2 * window.padding[a] - reach - 1) / window.stride[a] + 1
        })
    }

    #[test]
    fn agrees_with_the_plain_sum_on_odd_sizes() {
        for (window, extent, ins, outs) in cases() {
            let count = outputs(&window, extent);
            for (passes, from, to) in [
                (vec![window.gather(count)], extent, count),
                (window.scatter(extent), count, extent),
            ] {
                let halo = halo_needed(&passes, from);
                // All inputs but the last fill their blocks.
                let mut channels: Vec<usize> = ins.iter().map(|c| c.next_multiple_of(LANES)).collect();
                *channels.last_mut().unwrap() = *ins.last().unwrap();
                let xs: Vec<_> = channels.iter().map(|&c| value(dims(c, from, halo), c)).collect();
                let xs: Vec<&Blocked<Half>> = xs.iter().collect();
                let bias: Vec<Lane> = (0..outs.div_ceil(LANES))
                    .map(|b| Lane([b as f32 - 0.5; LANES]))
                    .collect();
                let pack = |pass: &TapPass, input: usize| {
                    let first: usize = channels[..input].iter().sum();
                    let weight = |o: usize, i: usize, tap: usize| rounded_weight(o, first + i, tap);
                    PackedWeights::new(
                        Isa::Scalar,
                        pass,
                        outs,
                        channels[input],
                        |_, _| true,
                        weight,
                        Kept::Full,
                    )
                };
                let packed: Vec<Vec<_>> = passes
                    .iter()
                    .map(|pass| (0..channels.len()).map(|input| pack(pass, input)).collect())
                    .collect();
                let plain_passes: Vec<_> = passes.iter().zip(packed.iter().map(|p| &p[..])).collect();
                let tiles = TileWeights::new(&passes, outs, &channels, weight);
                assert_eq!(
                    tiles
                        .passes
                        .iter()
                        .map(|p| p.tiles.len() * size_of::<Tile>())
                        .sum::<usize>(),
                    TileWeights::bytes(&passes, outs, &channels)
                );
                for isa in paths() {
                    let what = format!("{isa:?} {window:?} {extent:?} {channels:?}");
                    let write = Write::Set(&bias);
                    let mut plain = value(dims(outs, to, [0, 1, 2]), 5);
                    let mut fast = plain.clone();
                    let before = fast.clone();
                    let plain_parts = run_passes(isa, &plain_passes, write, &xs, &mut plain, true);
                    let fast_parts = run(isa, &passes, &tiles, write, &xs, &mut fast, true);
                    assert_close(plain.store(isa).data(), fast.store(isa).data(), 1e-2, &what);
                    let (a, b) = (join(2 * 9, &plain_parts), join(2 * 9, &fast_parts));
                    for (a, b) in a.iter().flatten().flatten().zip(b.iter().flatten().flatten()) {
                        assert!((a - b).abs() <= 2e-2 * (1.0 + a.abs()), "{what}: moments: {a} {b}");
                    }
                    // The halo is left alone.
                    let mut halo = before.clone();
                    halo.change_rows(|sample, block, z, y, row| row.copy_from_slice(fast.row(sample, block, z, y)));
                    assert_eq!(halo.data, fast.data, "{what}");
                    // Into f32, from f32 that is to be rounded, and added to what is there.
                    let wide: Vec<_> = xs.iter().map(|x| x.widened(isa).into_owned()).collect();
                    let wide: Vec<&Blocked> = wide.iter().collect();
                    for write in [write, Write::Add] {
                        let (mut plain, mut fast) =
                            (before.widened(isa).into_owned(), before.widened(isa).into_owned());
                        run_passes(isa, &plain_passes, write, &wide, &mut plain, false);
                        run(isa, &passes, &tiles, write, &wide, &mut fast, false);
                        assert_close(plain.store(isa).data(), fast.store(isa).data(), 1e-5, &what);
                    }
                }
            }
        }
    }

    #[test]
    fn weights_have_the_gradient_of_the_plain_sum() {
        for (window, extent, ins, outs) in cases() {
            let count = outputs(&window, extent);
            let pass = window.gather(count);
            let halo = halo_needed(std::slice::from_ref(&pass), extent);
            let x = value(dims(ins[0], extent, halo), 1);
            let dy = value(dims(outs, count, [1, 0, 2]), 2);
            let taps = pass.taps.len();
            for isa in paths() {
                let [mut plain, mut fast] = [0, 1].map(|_| vec![0.0; outs * ins[0] * taps]);
                let (wide_x, wide_dy) = (x.widened(isa), dy.widened(isa));
                let place = |o: usize, i: usize, tap: usize| (o * ins[0] + i) * taps + tap;
                let add = |o, i, tap, v: f32| plain[place(o, i, tap)] += v;
                plain_gradient(isa, &pass, &wide_x, &wide_dy, |_, _| true, add);
                weight_gradient(isa, &pass, &x, &wide_dy, |o, i, tap, v| fast[place(o, i, tap)] += v);
                // Sums over thirty thousand voxels differ by what each addition rounds.
                let tolerance = if dy.dims.voxels() > 4096 { 3e-4 } else { 1e-5 };
                assert_close(&plain, &fast, tolerance, &format!("{isa:?} {window:?} {extent:?}"));
            }
        }
    }

    /// Of few channels, neighbouring taps share a row.
    #[test]
    fn narrow_records_hold_several_taps() {
        let window = Window {
            kernel: [3; 3],
            stride: [1; 3],
            padding: [1; 3],
            dilation: [1; 3],
        };
        let pass = window.gather([8; 3]);
        let count = |channels: usize| {
            let record = record_blocks(&[channels]);
            units(&pass, sets(&[channels], record).len(), record).len()
        };
        assert_eq!([8, 16, 32, 64].map(count), [9, 18, 27, 54]);
    }
}
