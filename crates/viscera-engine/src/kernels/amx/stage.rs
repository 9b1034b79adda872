//! What outputs read, copied into the order in which products want it.

use super::multiply::{PLACES, ROW};
use crate::Isa;
use crate::element::Element;
use crate::kernels::conv::TapPass;
use crate::layout::{Blocked, Dims, LANES};
use crate::vector::{Kernel, Vector};
use std::ops::Range;

/// Blocks of one input that make up records.
#[derive(Debug, Clone, Copy)]
pub(super) struct Set {
    pub(super) input: usize,
    /// Its first block.
    pub(super) block: usize,
    /// Blocks; where there are fewer than a record has, the rest is zero.
    blocks: usize,
    /// Channels of the input, and all channels before it.
    channels: usize,
    before: usize,
}

impl Set {
    /// The channel, among those of all inputs, at a place of the record.
    pub(super) fn channel(&self, place: usize) -> Option<usize> {
        let channel = self.block * LANES + place;
        (place < self.blocks * LANES && channel < self.channels).then_some(self.before + channel)
    }

    /// Channels of a record that mean something.
    pub(super) fn len(&self) -> usize {
        (self.channels - self.block * LANES).min(self.blocks * LANES)
    }
}

/// The sets of inputs of so many channels, with so many blocks in a record.
pub(super) fn sets(in_channels: &[usize], record: usize) -> Vec<Set> {
    let mut before = 0;
    let mut sets = Vec::new();
    for (input, &channels) in in_channels.iter().enumerate() {
        let all = channels.div_ceil(LANES);
        sets.extend((0..all).step_by(record).map(|block| Set {
            input,
            block,
            blocks: record.min(all - block),
            channels,
            before,
        }));
        before += channels;
    }
    sets
}

/// How the voxels that a strip of outputs reads are staged, the same for every set:
/// `[set][slot of a plane][residues along y and x][row][column]` records. From one plane of outputs to the next, planes
/// of the input stay in their slots.
pub(super) struct Grid {
    step: [usize; 3],
    /// Offsets of taps along z.
    planes: Vec<isize>,
    /// Residues of offsets along (y, x).
    residues: Vec<[usize; 2]>,
    /// The least offset along (y, x), in steps.
    first: [isize; 2],
    /// Rows and columns.
    extent: [usize; 2],
}

impl Grid {
    /// For strips of so many rows of the outputs of passes with one step.
    pub(super) fn new(passes: &[TapPass], strip: usize) -> Self {
        let step = passes.first().map_or([1; 3], |pass| pass.in_step);
        let taps = || passes.iter().flat_map(|pass| pass.taps.iter().map(|tap| tap.0));
        let sorted = |mut values: Vec<isize>| {
            values.sort_unstable();
            values.dedup();
            values
        };
        let planes = sorted(taps().map(|tap| tap[0]).collect());
        let mut residues: Vec<[usize; 2]> = taps()
            .map(|tap| [residue(tap[1], step[1]), residue(tap[2], step[2])])
            .collect();
        residues.sort_unstable();
        residues.dedup();
        let steps = |a: usize| sorted(taps().map(|tap| tap[a].div_euclid(step[a] as isize)).collect());
        let [first, last] = [0, 1].map(|end: usize| {
            [1, 2].map(|a| {
                let steps = steps(a);
                let step = if end == 0 { steps.first() } else { steps.last() };
                step.copied().unwrap_or(0)
            })
        });
        let width = passes.iter().map(|pass| pass.count[2]).max().unwrap_or(0);
        Self {
            step,
            planes,
            residues,
            first,
            extent: [
                strip + (last[0] - first[0]) as usize,
                width + (last[1] - first[1]) as usize,
            ],
        }
    }

    /// Records from one row to the next.
    pub(super) fn pitch(&self) -> usize {
        self.extent[1]
    }

    /// Rows of records.
    pub(super) fn rows(&self) -> usize {
        self.extent[0]
    }

    /// Records of one set.
    pub(super) fn records(&self) -> usize {
        self.planes.len() * self.plane()
    }

    /// Records of a plane of one set.
    fn plane(&self) -> usize {
        self.residues.len() * self.extent[0] * self.extent[1]
    }

    /// Blocks of all sets, with room for the rows of places past the last one.
    pub(super) fn len(&self, record: usize, sets: usize) -> usize {
        (sets * self.records() + PLACES) * record + ROW / LANES
    }

    /// The record that a tap reads for the first output of a strip, where `held` says which planes are staged.
    pub(super) fn record_of(&self, held: &Held, [z, y, x]: [isize; 3]) -> usize {
        let residues = [residue(y, self.step[1]), residue(x, self.step[2])];
        // Both are those of a tap of the passes.
        let plane = self.planes.iter().position(|&plane| plane == z).unwrap_or_default();
        let class = self.residues.iter().position(|&r| r == residues).unwrap_or_default();
        let row = (y.div_euclid(self.step[1] as isize) - self.first[0]) as usize;
        let column = (x.div_euclid(self.step[2] as isize) - self.first[1]) as usize;
        let slot = held.slots.get(plane).copied().unwrap_or_default();
        ((slot * self.residues.len() + class) * self.extent[0] + row) * self.extent[1] + column
    }

    /// Brings the planes that the outputs of plane `z` read into slots, those that are not there yet through
    /// `stage(first record, (z, y, x) of its voxel)` for each of their rows; `y` is the first row of outputs. A voxel
    /// may lie outside of the input.
    pub(super) fn slide(&self, held: &mut Held, [z, y]: [usize; 2], mut stage: impl FnMut(usize, [isize; 3])) {
        let needed: Vec<isize> = self
            .planes
            .iter()
            .map(|plane| (z * self.step[0]) as isize + plane)
            .collect();
        held.planes.resize(self.planes.len(), None);
        held.slots.clear();
        for &plane in &needed {
            if let Some(slot) = held.planes.iter().position(|held| *held == Some(plane)) {
                held.slots.push(slot);
                continue;
            }
            // As many slots as planes that are needed: one holds none of them.
            let free = |held: &Option<isize>| held.is_none_or(|held| !needed.contains(&held));
            let slot = held.planes.iter().position(free).unwrap_or_default();
            held.planes[slot] = Some(plane);
            held.slots.push(slot);
            let mut at = slot * self.plane();
            for residues in &self.residues {
                for line in 0..self.extent[0] {
                    let voxel = |first: isize, a: usize| first * self.step[a] as isize + residues[a - 1] as isize;
                    stage(
                        at,
                        [
                            plane,
                            voxel((y + line) as isize + self.first[0], 1),
                            voxel(self.first[1], 2),
                        ],
                    );
                    at += self.extent[1];
                }
            }
        }
    }

    /// [`Self::slide`] for records of all sets. What lies outside an input's halo is zero.
    pub(super) fn stage<E: Element>(
        &self,
        isa: Isa,
        sets: &[Set],
        record: usize,
        xs: &[&Blocked<E>],
        sample: usize,
        held: &mut Held,
        first: [usize; 2],
        staged: &mut [[u16; LANES]],
    ) {
        let (set_len, pitch) = (self.records() * record, self.extent[1]);
        self.slide(held, first, |at, from| {
            for (index, set) in sets.iter().enumerate() {
                let to = &mut staged[index * set_len + at * record..][..pitch * record];
                let x = xs[set.input];
                let Some((columns, first)) = line(&x.dims, sample, set.block, from, self.step[2], pitch) else {
                    to.fill([0; LANES]);
                    continue;
                };
                to[..columns.start * record].fill([0; LANES]);
                to[columns.end * record..].fill([0; LANES]);
                let to = &mut to[columns.start * record..columns.end * record];
                isa.run(Stage {
                    first: &x.data[first..],
                    block: x.dims.pitch()[0],
                    blocks: set.blocks,
                    step: self.step[2],
                    to,
                    record,
                });
                let kept = set.len() % LANES;
                if kept > 0 {
                    let last = to.iter_mut().skip(set.blocks - 1).step_by(record);
                    last.for_each(|half| half[kept..].fill(0));
                }
            }
        });
    }
}

/// Which planes of the input are staged, and where.
#[derive(Default)]
pub(super) struct Held {
    /// By slot.
    planes: Vec<Option<isize>>,
    /// Slots of the planes that the present outputs read.
    slots: Vec<usize>,
}

fn residue(offset: isize, step: usize) -> usize {
    offset.rem_euclid(step as isize) as usize
}

/// Of `columns` voxels of a block, `step` apart from (z, y, x) on, those inside the halo: which of them, and where in
/// memory the first lies.
pub(super) fn line(
    dims: &Dims,
    sample: usize,
    block: usize,
    [z, y, first]: [isize; 3],
    step: usize,
    columns: usize,
) -> Option<(Range<usize>, usize)> {
    let Dims { extent, halo, .. } = dims;
    let inside = |a: usize, at: isize| at >= -(halo[a] as isize) && at < (extent[a] + halo[a]) as isize;
    if !inside(0, z) || !inside(1, y) {
        return None;
    }
    let begin = (-(halo[2] as isize) - first).max(0) as usize;
    let begin = begin.div_ceil(step);
    let end = (extent[2] + halo[2]) as isize - first;
    let end = (end.max(0) as usize).div_ceil(step).min(columns);
    if begin >= end {
        return None;
    }
    let [_, plane, row] = dims.pitch();
    let origin = dims.at(sample, block, [0; 3]) as isize;
    let start = origin + z * plane as isize + y * row as isize + first + (begin * step) as isize;
    Some((begin..end, start as usize))
}

/// Puts the blocks of a row's voxels side by side.
struct Stage<'a, E> {
    /// From the first voxel of the first block on.
    first: &'a [E],
    /// Elements from one block to the next.
    block: usize,
    /// How many blocks there are; the rest of a record becomes zero.
    blocks: usize,
    /// Elements from one voxel to the next.
    step: usize,
    to: &'a mut [[u16; LANES]],
    /// Blocks of a record: 1, 2 or 4.
    record: usize,
}

impl<E: Element> Kernel for Stage<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        match (self.record, self.blocks, self.step) {
            (1, 1, 1) => self.blocks::<V, 1, 1>(),
            (2, 2, 1) => self.blocks::<V, 2, 1>(),
            (4, 4, 1) => self.blocks::<V, 4, 1>(),
            (1, 1, 2) => self.blocks::<V, 1, 2>(),
            (2, 2, 2) => self.blocks::<V, 2, 2>(),
            (4, 4, 2) => self.blocks::<V, 4, 2>(),
            (1, ..) => self.blocks::<V, 1, 0>(),
            (2, ..) => self.blocks::<V, 2, 0>(),
            _ => self.blocks::<V, 4, 0>(),
        }
    }
}

impl<E: Element> Stage<'_, E> {
    /// `STEP` is 0 for any step and any number of blocks.
    #[inline(always)]
    fn blocks<V: Vector, const RECORD: usize, const STEP: usize>(self) {
        let (records, _) = self.to.as_chunks_mut::<RECORD>();
        let count = records.len();
        if STEP > 0 {
            // The last voxel has nobody behind it.
            let whole = count.saturating_sub(1);
            let rows: [&[[E; STEP]]; RECORD] = std::array::from_fn(|block| {
                let row = &self.first[block * self.block..][..whole * STEP + usize::from(count > 0)];
                row.as_chunks().0
            });
            for (voxel, to) in records[..whole].iter_mut().enumerate() {
                for (to, row) in to.iter_mut().zip(rows) {
                    *to = row[voxel][0].half::<V>().0;
                }
            }
            if let Some(to) = records.last_mut() {
                for (block, to) in to.iter_mut().enumerate() {
                    *to = self.first[block * self.block + whole * STEP].half::<V>().0;
                }
            }
        } else {
            for (voxel, to) in records.iter_mut().enumerate() {
                for (block, to) in to.iter_mut().enumerate() {
                    *to = if block < self.blocks {
                        self.first[block * self.block + voxel * self.step].half::<V>().0
                    } else {
                        [0; LANES]
                    };
                }
            }
        }
    }
}
