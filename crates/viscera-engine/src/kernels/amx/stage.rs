//! What outputs read, copied into the order in which products want it.

use super::multiply::{PLACES, ROW};
use crate::Isa;
use crate::element::Element;
use crate::kernels::conv::TapPass;
use crate::layout::{Blocked, Dims, LANES};
use crate::vector::{Kernel, Vector};

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
/// `[set][plane][residues along y and x][row][column]` records.
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
        let mut residues: Vec<[usize; 2]> = taps().map(|tap| [residue(tap[1], step[1]), residue(tap[2], step[2])]).collect();
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
        self.planes.len() * self.residues.len() * self.extent[0] * self.extent[1]
    }

    /// Blocks of all sets, with room for the rows of places past the last one.
    pub(super) fn len(&self, record: usize, sets: usize) -> usize {
        (sets * self.records() + PLACES) * record + ROW / LANES
    }

    /// The record that a tap reads for the first output of a strip.
    pub(super) fn record_of(&self, [z, y, x]: [isize; 3]) -> usize {
        let residues = [residue(y, self.step[1]), residue(x, self.step[2])];
        // Both are those of a tap of the passes.
        let plane = self.planes.iter().position(|&plane| plane == z).unwrap_or_default();
        let class = self.residues.iter().position(|&r| r == residues).unwrap_or_default();
        let row = (y.div_euclid(self.step[1] as isize) - self.first[0]) as usize;
        let column = (x.div_euclid(self.step[2] as isize) - self.first[1]) as usize;
        ((plane * self.residues.len() + class) * self.extent[0] + row) * self.extent[1] + column
    }

    /// The same in numbers, of a set.
    pub(super) fn offset(&self, record: usize, set: usize, tap: [isize; 3]) -> usize {
        (set * self.records() + self.record_of(tap)) * record * LANES
    }

    /// Calls `f(first record, (z, y, x) of its voxel)` for every row of the grid of a strip whose first output has these
    /// (z, y); the voxel may lie outside of an input.
    pub(super) fn each_row(&self, [z, y]: [usize; 2], mut f: impl FnMut(usize, [isize; 3])) {
        let mut row = 0;
        for plane in &self.planes {
            for residues in &self.residues {
                for line in 0..self.extent[0] {
                    let at = |first: isize, a: usize, residue: usize| first * self.step[a] as isize + residue as isize;
                    let from = [
                        (z * self.step[0]) as isize + plane,
                        at((y + line) as isize + self.first[0], 1, residues[0]),
                        at(self.first[1], 2, residues[1]),
                    ];
                    f(row * self.extent[1], from);
                    row += 1;
                }
            }
        }
    }

    /// Stages all sets for the strip whose first output has these (z, y). What lies outside an input's halo is zero.
    pub(super) fn stage<E: Element>(
        &self,
        isa: Isa,
        sets: &[Set],
        record: usize,
        xs: &[&Blocked<E>],
        sample: usize,
        first: [usize; 2],
        staged: &mut [[u16; LANES]],
    ) {
        for (set, staged) in sets.iter().zip(staged.chunks_exact_mut((self.records() * record).max(1))) {
            let x = xs[set.input];
            self.each_row(first, |at, from| {
                let staged = &mut staged[at * record..(at + self.extent[1]) * record];
                for place in 0..record {
                    let kept = set.channels.saturating_sub((set.block + place) * LANES);
                    let row = (place < set.blocks)
                        .then(|| line(x, sample, set.block + place, from, self.step[2], self.extent[1]))
                        .flatten();
                    let to = &mut staged[place..];
                    match row {
                        Some((columns, row)) => isa.run(Stage {
                            row,
                            step: self.step[2],
                            columns,
                            kept,
                            record,
                            to,
                        }),
                        None => to.iter_mut().step_by(record).for_each(|half| *half = [0; LANES]),
                    }
                }
            });
        }
    }
}

fn residue(offset: isize, step: usize) -> usize {
    offset.rem_euclid(step as isize) as usize
}

/// Of `columns` voxels of a block, `step` apart from (z, y, x) on, those inside the halo: which of them, and their memory
/// from the first on.
pub(super) fn line<E: Element>(
    x: &Blocked<E>,
    sample: usize,
    block: usize,
    [z, y, first]: [isize; 3],
    step: usize,
    columns: usize,
) -> Option<(std::ops::Range<usize>, &[E])> {
    let Dims { extent, halo, .. } = x.dims;
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
    let [_, plane, row] = x.dims.pitch();
    let origin = x.dims.at(sample, block, [0; 3]) as isize;
    let start = origin + z * plane as isize + y * row as isize + first + (begin * step) as isize;
    let start = start as usize;
    Some((begin..end, &x.data[start..=start + (end - begin - 1) * step]))
}

/// Copies one block of a row into its place in the records.
struct Stage<'a, E> {
    /// Voxels, `step` apart, of these columns; others are zero.
    row: &'a [E],
    step: usize,
    columns: std::ops::Range<usize>,
    /// Channels that mean something; others are zero.
    kept: usize,
    record: usize,
    to: &'a mut [[u16; LANES]],
}

impl<E: Element> Kernel for Stage<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (before, rest) = self.to.split_at_mut((self.columns.start * self.record).min(self.to.len()));
        before.iter_mut().step_by(self.record).for_each(|half| *half = [0; LANES]);
        let mut places = rest.iter_mut().step_by(self.record);
        for (from, to) in self.row.iter().step_by(self.step).zip(&mut places) {
            *to = from.half::<V>().0;
            if self.kept < LANES {
                to[self.kept..].fill(0);
            }
        }
        places.for_each(|half| *half = [0; LANES]);
    }
}
