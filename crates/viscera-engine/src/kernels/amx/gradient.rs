//! Gradient of the weights of a convolution: per tap, the product of the input, transposed, and the output's gradient.
//!
//! Here the numbers that are summed up are voxels. A strip of the input is staged with its channels apart, so that a row
//! of 32 numbers is one channel of neighbouring places; another tap is the same row from another place on. The gradient
//! is staged as tiles, zero at places that are no outputs.

use super::multiply::{PLACES, Product, ROW, Session, Tile};
use super::stage::{Grid, Held, line, sets};
use super::{Cut, OUT_BLOCKS};
use crate::Isa;
use crate::element::Element;
use crate::kernels::conv::TapPass;
use crate::kernels::weight_gradient::assert_fits;
use crate::layout::{Blocked, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;

/// Adds the gradient of every weight of a convolution without groups, as [`super::super::weight_gradient`] does, with
/// both values rounded to bf16 and sums in f32. The order of all additions depends on shapes alone.
///
/// # Panics
/// When the halo of `broadcast` is too small for the taps: a mistake of the planner.
pub(crate) fn weight_gradient<X: Element, Y: Element>(
    isa: Isa,
    pass: &TapPass,
    broadcast: &Blocked<X>,
    lanes: &Blocked<Y>,
    mut add: impl FnMut(usize, usize, usize, f32),
) {
    assert_fits(pass, &broadcast.dims, &lanes.dims);
    let passes = std::slice::from_ref(pass);
    let sets = sets(&[broadcast.dims.channels], ROW / LANES);
    let [depth, _, width] = pass.count;
    let batch = lanes.dims.batch;
    let cut = Cut::new(passes, &[ROW], batch, 1);
    let grid = Grid::new(passes, cut.strip);
    let pitch = grid.pitch();
    let apart = apart(&grid);
    let chunks = lanes.dims.channels.div_ceil(OUT_BLOCKS * LANES);
    let strips = batch * depth * cut.strips;
    // Some sixteen tasks also where sets are few.
    let parts = 16usize.div_ceil(sets.len()).min(strips);
    let per_tap = chunks * PLACES * OUT_BLOCKS;
    let partial: Vec<Vec<Lane>> = (0..sets.len() * parts)
        .into_par_iter()
        .map(|task| {
            let (set, part) = (&sets[task / parts], task % parts);
            let channels = set.len();
            let mut total = vec![Lane::ZERO; pass.taps.len() * per_tap];
            let mut numbers = vec![0u16; channels.next_multiple_of(PLACES / 2) * apart];
            let mut tiles = Vec::new();
            let mut sums = [Lane::ZERO; PLACES * OUT_BLOCKS];
            let mut held = Held::default();
            for unit in part * strips / parts..(part + 1) * strips / parts {
                let (strip, z) = (unit / depth, unit % depth);
                if z == 0 {
                    held = Held::default();
                }
                let (sample, rows) = (strip / cut.strips, cut.strip(strip % cut.strips));
                if rows.is_empty() {
                    continue;
                }
                grid.slide(&mut held, [z, rows.start], |at, from| {
                    for block in 0..channels.div_ceil(LANES) {
                        let kept = LANES.min(channels - block * LANES);
                        let to = &mut numbers[block * LANES * apart..][..kept * apart];
                        let step = pass.in_step[2];
                        let found = line(&broadcast.dims, sample, set.block + block, from, step, pitch);
                        // Places outside the halo are read for no output, and must be numbers.
                        let inside = found.as_ref().map_or(0..0, |(columns, _)| columns.clone());
                        for channel in to.chunks_exact_mut(apart) {
                            channel[at..at + inside.start].fill(0);
                            channel[at + inside.end..at + pitch].fill(0);
                        }
                        if let Some((columns, first)) = found {
                            isa.run(Transpose {
                                row: &broadcast.data[first..=first + (columns.len() - 1) * step],
                                step,
                                first: at + columns.start,
                                apart,
                                to,
                            });
                        }
                    }
                });
                let places = (rows.len() - 1) * pitch + width;
                let units: Vec<usize> = (0..places).step_by(ROW).collect();
                // [four blocks][unit][two blocks]
                let pairs = |chunk| super::tiles_of(lanes.dims.channels, chunk);
                let first_tile = |chunk: usize| chunk * units.len() * (OUT_BLOCKS / 2);
                tiles.clear();
                tiles.resize(first_tile(chunks - 1) + units.len() * pairs(chunks - 1), Tile::ZERO);
                for block in 0..lanes.dims.blocks() {
                    let (chunk, at) = (block / OUT_BLOCKS, block % OUT_BLOCKS);
                    for row in 0..rows.len() {
                        isa.run(IntoTiles {
                            row: lanes.row(sample, block, z, rows.start + row),
                            kept: LANES.min(lanes.dims.channels - block * LANES),
                            first: row * pitch,
                            column: at % 2 * LANES,
                            tiles: &mut tiles[first_tile(chunk) + at / 2..],
                            pairs: pairs(chunk),
                        });
                    }
                }
                let session = Session::new(isa);
                for ((offset, _), total) in pass.taps.iter().zip(total.chunks_exact_mut(per_tap)) {
                    let first = grid.record_of(&held, *offset);
                    for (chunk, total) in total.chunks_exact_mut(PLACES * OUT_BLOCKS).enumerate() {
                        session.multiply(Product {
                            units: &units,
                            staged: &numbers,
                            first,
                            record: apart,
                            places: channels,
                            weights: &tiles[first_tile(chunk)..][..units.len() * pairs(chunk)],
                            pairs: pairs(chunk),
                            sums: &mut sums,
                        });
                        isa.run(AddLanes(total, &sums[..channels * OUT_BLOCKS]));
                    }
                }
            }
            total
        })
        .collect();
    for (set, parts) in sets.iter().zip(partial.chunks_exact(parts)) {
        for (slot, &(_, tap)) in pass.taps.iter().enumerate() {
            for channel in 0..set.len() {
                for out in 0..lanes.dims.channels {
                    let (block, lane) = (out / LANES, out % LANES);
                    let place =
                        slot * per_tap + (block / OUT_BLOCKS * PLACES + channel) * OUT_BLOCKS + block % OUT_BLOCKS;
                    let value = parts.iter().map(|sums| sums[place].0[lane]).sum();
                    add(out, set.block * LANES + channel, tap, value);
                }
            }
        }
    }
}

/// Numbers from one channel to the next: an odd count of lines of a cache, so that channels do not fall on each other.
fn apart(grid: &Grid) -> usize {
    ((grid.records() + ROW).div_ceil(ROW) | 1) * ROW
}

/// Writes the channels of a row apart.
struct Transpose<'a, E> {
    /// Voxels, `step` apart.
    row: &'a [E],
    step: usize,
    /// Place of the first voxel.
    first: usize,
    /// Numbers from one channel to the next.
    apart: usize,
    to: &'a mut [u16],
}

impl<E: Element> Kernel for Transpose<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let count = self.row.len().div_ceil(self.step);
        let whole = count / LANES * LANES;
        let half = |voxel: usize| self.row[voxel * self.step].half::<V>().0;
        for voxel in (0..whole).step_by(LANES) {
            let eight: [[u16; LANES]; LANES] = std::array::from_fn(|i| half(voxel + i));
            for (lane, channel) in self.to.chunks_exact_mut(self.apart).enumerate() {
                let turned: [u16; LANES] = std::array::from_fn(|i| eight[i][lane]);
                channel[self.first + voxel..][..LANES].copy_from_slice(&turned);
            }
        }
        for voxel in whole..count {
            let half = half(voxel);
            for (channel, value) in self.to.chunks_exact_mut(self.apart).zip(half) {
                channel[self.first + voxel] = value;
            }
        }
    }
}

/// Writes one block of a row of gradients into tiles whose numbers are places.
struct IntoTiles<'a, E> {
    row: &'a [E],
    /// Channels that mean something.
    kept: usize,
    /// Place of the first voxel.
    first: usize,
    /// Column of the first channel.
    column: usize,
    tiles: &'a mut [Tile],
    /// Tiles per unit.
    pairs: usize,
}

impl<E: Element> Kernel for IntoTiles<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (voxel, from) in self.row.iter().enumerate() {
            let place = self.first + voxel;
            let tile = &mut self.tiles[place / ROW * self.pairs];
            for (lane, value) in from.half::<V>().0[..self.kept].iter().enumerate() {
                *tile.at(place % ROW, self.column + lane) = *value;
            }
        }
    }
}

/// sum += more, as far as there is more.
struct AddLanes<'a>(&'a mut [Lane], &'a [Lane]);

impl Kernel for AddLanes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (sum, more) in self.0.iter_mut().zip(self.1) {
            V::load(sum).add(V::load(more)).store(sum);
        }
    }
}
