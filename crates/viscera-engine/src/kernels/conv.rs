//! Convolution in all its forms: forward, gradient with respect to the input, and both for transposed convolution.
//!
//! They are one thing, a [`TapPass`]: each output voxel sums weighted input voxels at fixed offsets. Forward walks the
//! input in steps of the stride; the gradient of a strided convolution (and a transposed convolution) falls apart into
//! one pass per residue of the output index modulo the stride, each with the taps that reach it.

use super::moments::{AddRow, Moments, Partial};
use super::tile::{Start, Tap, TileArgs, cut, tile};
use crate::Isa;
use crate::layout::{Blocked, LANES, Lane};
use rayon::prelude::*;
use std::ops::Range;

/// Geometry of one pass: output `start + i · out_step` reads inputs `i · in_step + offset`, for `i` in `0..count`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TapPass {
    pub(crate) out_start: [usize; 3],
    pub(crate) out_step: [usize; 3],
    pub(crate) count: [usize; 3],
    pub(crate) in_step: [usize; 3],
    /// Voxel offset of each tap, and its place in the kernel.
    pub(crate) taps: Vec<([isize; 3], usize)>,
}

/// Kernel, stride, padding and dilation of a convolution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) kernel: [usize; 3],
    pub(crate) stride: [usize; 3],
    pub(crate) padding: [usize; 3],
    pub(crate) dilation: [usize; 3],
}

impl Window {
    /// The window of a transposed convolution with kernel = stride, seen as the convolution it is the gradient of.
    pub(crate) fn disjoint(kernel: [usize; 3]) -> Self {
        Self {
            kernel,
            stride: kernel,
            padding: [0; 3],
            dilation: [1; 3],
        }
    }

    fn taps(&self) -> impl Iterator<Item = ([usize; 3], usize)> + '_ {
        let [kz, ky, kx] = self.kernel;
        (0..kz * ky * kx).map(move |tap| ([tap / (ky * kx), tap / kx % ky, tap % kx], tap))
    }

    /// From input to output, for an output of `count` voxels.
    pub(crate) fn gather(&self, count: [usize; 3]) -> TapPass {
        let offset =
            |k: [usize; 3]| std::array::from_fn(|a| (k[a] * self.dilation[a]) as isize - self.padding[a] as isize);
        TapPass {
            out_start: [0; 3],
            out_step: [1; 3],
            count,
            in_step: self.stride,
            taps: self.taps().map(|(k, tap)| (offset(k), tap)).collect(),
        }
    }

    /// From the output's side back to an input of `extent` voxels: one pass per residue.
    pub(crate) fn scatter(&self, extent: [usize; 3]) -> Vec<TapPass> {
        let [sz, sy, sx] = self.stride;
        (0..sz * sy * sx)
            .map(|r| [r / (sy * sx), r / sx % sy, r % sx])
            .filter(|residue| (0..3).all(|a| residue[a] < extent[a]))
            .map(|residue| {
                let reach = |k: [usize; 3]| -> Option<[isize; 3]> {
                    let mut offset = [0; 3];
                    for a in 0..3 {
                        let distance = (residue[a] + self.padding[a]) as isize - (k[a] * self.dilation[a]) as isize;
                        if distance.rem_euclid(self.stride[a] as isize) != 0 {
                            return None;
                        }
                        offset[a] = distance.div_euclid(self.stride[a] as isize);
                    }
                    Some(offset)
                };
                TapPass {
                    out_start: residue,
                    out_step: self.stride,
                    count: std::array::from_fn(|a| (extent[a] - residue[a]).div_ceil(self.stride[a])),
                    in_step: [1; 3],
                    taps: self.taps().filter_map(|(k, tap)| Some((reach(k)?, tap))).collect(),
                }
            })
            .collect()
    }
}

/// The halo that the input of these passes needs, given its extent.
pub(crate) fn halo_needed(passes: &[TapPass], extent: [usize; 3]) -> [usize; 3] {
    let mut halo = [0usize; 3];
    for pass in passes {
        for (offset, _) in &pass.taps {
            for a in 0..3 {
                let last = ((pass.count[a] - 1) * pass.in_step[a]) as isize + offset[a];
                let past = last - (extent[a] as isize - 1);
                halo[a] = halo[a].max((-offset[a]).max(past).max(0) as usize);
            }
        }
    }
    halo
}

/// Weights in the order in which tiles read them: per group of one or two output blocks, the (tap, input block) pairs
/// with any weight, each with its channels.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    groups: Vec<PackedGroup>,
}

#[derive(Debug)]
struct PackedGroup {
    first_block: usize,
    blocks: usize,
    /// (index into the pass's taps, input block, channels).
    entries: Vec<(usize, usize, usize)>,
    weights: Vec<Lane>,
    /// Pieces, as (entries, lanes of weights): each is run over a whole row before the next, so that its weights stay in
    /// the first-level cache. There is at least one.
    pieces: Vec<[Range<usize>; 2]>,
}

/// Lanes of weights per piece: half of a first-level cache.
const PIECE_LANES: usize = 512;

/// Cuts entries into pieces; `lanes` is how many lanes of weights each entry has per channel.
fn pieces(entries: &[(usize, usize, usize)], lanes: usize) -> Vec<[Range<usize>; 2]> {
    let mut pieces = Vec::new();
    let (mut first, mut from, mut to) = (0, 0, 0);
    for (index, &(_, _, channels)) in entries.iter().enumerate() {
        let more = channels * lanes;
        if to > from && to + more - from > PIECE_LANES {
            pieces.push([first..index, from..to]);
            (first, from) = (index, to);
        }
        to += more;
    }
    pieces.push([first..entries.len(), from..to]);
    pieces
}

impl PackedWeights {
    /// Packs `weight(out channel, in channel, kernel tap)`; `connected(out channel, in channel)` says which pairs a
    /// grouped convolution joins.
    pub(crate) fn new(
        pass: &TapPass,
        out_channels: usize,
        in_channels: usize,
        connected: impl Fn(usize, usize) -> bool + Sync,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
    ) -> Self {
        let groups = together(out_channels, in_channels, &connected)
            .into_par_iter()
            .map(
                |Together {
                     first_block,
                     blocks,
                     joined,
                 }| {
                    let channels: usize = joined.iter().map(|(_, ins)| ins.len()).sum();
                    let mut entries = Vec::with_capacity(joined.len() * pass.taps.len());
                    let mut weights = Vec::with_capacity(channels * pass.taps.len() * blocks);
                    for (in_block, ins) in joined {
                        for (slot, &(_, tap)) in pass.taps.iter().enumerate() {
                            entries.push((slot, in_block, ins.len()));
                            for i in ins.clone() {
                                for block in first_block..first_block + blocks {
                                    weights.push(Lane(std::array::from_fn(|lane| {
                                        let o = block * LANES + lane;
                                        if o < out_channels && connected(o, i) {
                                            weight(o, i, tap)
                                        } else {
                                            0.0
                                        }
                                    })));
                                }
                            }
                        }
                    }
                    PackedGroup {
                        first_block,
                        blocks,
                        pieces: pieces(&entries, blocks),
                        entries,
                        weights,
                    }
                },
            )
            .collect();
        Self { groups }
    }

    /// Bytes of the weights that [`Self::new`] packs for so many taps.
    pub(crate) fn bytes(
        taps: usize,
        out_channels: usize,
        in_channels: usize,
        connected: impl Fn(usize, usize) -> bool,
    ) -> usize {
        let lanes: usize = together(out_channels, in_channels, &connected)
            .iter()
            .map(|group| {
                group
                    .joined
                    .iter()
                    .map(|(_, ins)| ins.len() * taps * group.blocks)
                    .sum::<usize>()
            })
            .sum();
        lanes * size_of::<Lane>()
    }
}

/// Output blocks that run as one, and the input blocks that they read, with the channels of each.
struct Together {
    first_block: usize,
    blocks: usize,
    joined: Vec<(usize, Range<usize>)>,
}

/// Cuts the output into ones and twos. Two blocks run together where they read the same input; others would multiply each
/// other's by zero.
fn together(out_channels: usize, in_channels: usize, connected: &impl Fn(usize, usize) -> bool) -> Vec<Together> {
    let channels = |block: usize, all: usize| block * LANES..((block + 1) * LANES).min(all);
    let mut groups: Vec<Together> = Vec::new();
    for block in 0..out_channels.div_ceil(LANES) {
        let joined: Vec<_> = (0..in_channels.div_ceil(LANES))
            .map(|in_block| (in_block, channels(in_block, in_channels)))
            .filter(|(_, ins)| channels(block, out_channels).any(|o| ins.clone().any(|i| connected(o, i))))
            .collect();
        match groups.last_mut() {
            Some(group) if group.blocks == 1 && group.joined == joined => group.blocks = 2,
            _ => groups.push(Together {
                first_block: block,
                blocks: 1,
                joined,
            }),
        }
    }
    groups
}

/// A bias, one lane per block.
pub(crate) fn pack_bias(bias: Option<&[f32]>, channels: usize) -> Vec<Lane> {
    (0..channels.div_ceil(LANES))
        .map(|block| {
            Lane(std::array::from_fn(|lane| {
                bias.and_then(|b| b.get(block * LANES + lane)).copied().unwrap_or(0.0)
            }))
        })
        .collect()
}

/// Shares a pointer among threads that write disjoint places.
#[derive(Clone, Copy)]
pub(super) struct Shared(pub(super) *mut Lane);
// SAFETY: every task writes lanes of its own (see `run_passes`).
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Shared {
    pub(super) fn get(self) -> *mut Lane {
        self.0
    }
}

/// What a pass writes over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Write<'a> {
    /// Sum + this bias (a lane per block).
    Set(&'a [Lane]),
    /// Sum + what is there.
    Add,
}

/// Runs passes from `x` to `y`, which write different voxels. The halo of `y` is left alone. With `moments`, also gives
/// those of everything written; a pass that leaves voxels out has none.
///
/// # Panics
/// When the halo of `x` is too small for the taps, or a pass does not fit `y`: a mistake of the planner.
pub(crate) fn run_passes(
    isa: Isa,
    passes: &[(&TapPass, &PackedWeights)],
    write: Write<'_>,
    x: &Blocked,
    y: &mut Blocked,
    moments: bool,
) -> Vec<Partial> {
    assert_eq!(x.dims.batch, y.dims.batch, "unequal batches");
    let [x_block, x_plane, x_row] = x.dims.pitch();
    let [y_block, ..] = y.dims.pitch();
    // Offsets of all entries, once per pass and group.
    let mut taps: Vec<Vec<Vec<Tap>>> = Vec::with_capacity(passes.len());
    for (pass, packed) in passes {
        let needed = halo_needed(std::slice::from_ref(pass), x.dims.extent);
        assert!((0..3).all(|a| needed[a] <= x.dims.halo[a]), "input halo too small");
        assert!(
            (0..3).all(|a| pass.out_start[a] + (pass.count[a] - 1) * pass.out_step[a] < y.dims.extent[a]),
            "pass outside the output"
        );
        let split = |packed: &PackedWeights| {
            packed
                .groups
                .iter()
                .map(|g| (g.first_block, g.blocks))
                .collect::<Vec<_>>()
        };
        assert_eq!(split(packed), split(passes[0].1), "groups differ between passes");
        let of_group = |group: &PackedGroup| {
            assert!(group.first_block + group.blocks <= y.dims.blocks(), "output blocks");
            let tap = |&(slot, in_block, channels): &(usize, usize, usize)| {
                assert!(in_block < x.dims.blocks(), "input blocks");
                let [z, y, x] = pass.taps[slot].0;
                Tap {
                    offset: (in_block * x_block) as isize + z * x_plane as isize + y * x_row as isize + x,
                    channels,
                }
            };
            group.entries.iter().map(tap).collect()
        };
        taps.push(packed.groups.iter().map(of_group).collect());
    }
    // One task is a plane of each pass of one group, or a strip of it where planes are few. The cut depends on shapes
    // alone.
    let most = |a: usize| passes.iter().map(|(pass, _)| pass.count[a]).max().unwrap_or(0);
    let (depth, rows) = (most(0), most(1));
    let groups = passes.first().map_or(0, |(_, packed)| packed.groups.len());
    let planes = x.dims.batch * groups * depth;
    let strips = 16usize.div_ceil(planes.max(1)).min(rows);
    let strip = rows.div_ceil(strips.max(1));
    let (x_dims, y_dims) = (x.dims, y.dims);
    let x_data = &x.data;
    let y_data = Shared(y.data.as_mut_ptr());
    let moments = moments && passes.iter().all(|(pass, _)| pass.out_step == [1; 3]);
    let run_task = |task: usize| {
        let (plane, part) = (task / strips, task % strips);
        let z = plane % depth;
        let (sample, index) = (plane / depth / groups, plane / depth % groups);
        let mut sums: Vec<(usize, Moments)> = Vec::new();
        for row in part * strip..((part + 1) * strip).min(rows) {
            // All passes of a row, one after the other: they read the same inputs.
            for ((pass, packed), taps) in passes.iter().zip(&taps) {
                if z >= pass.count[0] || row >= pass.count[1] {
                    continue;
                }
                let group = &packed.groups[index];
                let width = pass.count[2];
                let out = [
                    pass.out_start[0] + z * pass.out_step[0],
                    pass.out_start[1] + row * pass.out_step[1],
                    pass.out_start[2],
                ];
                let x_first = x_dims.at(sample, 0, [z * pass.in_step[0], row * pass.in_step[1], 0]);
                let y_first = y_dims.at(sample, group.first_block, out);
                for (piece, [entries, weights]) in group.pieces.iter().enumerate() {
                    let start = match write {
                        Write::Set(bias) if piece == 0 => {
                            Start::Value(&bias[group.first_block..group.first_block + group.blocks])
                        }
                        _ => Start::Output,
                    };
                    let mut first = 0;
                    for (tiles, size) in cut(width, group.blocks) {
                        // SAFETY: the asserts above show that all taps of all voxels of the pass stay within the halo of
                        // `x` and all outputs within `y`; tasks differ in sample, group, plane or rows, so no two write
                        // one lane.
                        #[allow(unsafe_code)]
                        unsafe {
                            let args = TileArgs {
                                taps: &taps[index][entries.clone()],
                                weights: &group.weights[weights.clone()],
                                // Tap offsets bring this back inside where the voxel itself lies past the end of `x`.
                                x: x_data.as_ptr().wrapping_add(x_first + first * pass.in_step[2]),
                                x_step: pass.in_step[2],
                                y: y_data.get().wrapping_add(y_first + first * pass.out_step[2]),
                                y_step: pass.out_step[2],
                                y_block,
                                start,
                                tiles,
                            };
                            tile(isa, group.blocks, size, &args);
                        }
                        first += tiles * size;
                    }
                }
                if !moments {
                    continue;
                }
                for block in group.first_block..group.first_block + group.blocks {
                    let from = y_dims.at(sample, block, out);
                    // SAFETY: the row that this task has just written, with a step of one.
                    #[allow(unsafe_code)]
                    let written = unsafe { std::slice::from_raw_parts(y_data.get().add(from), width) };
                    let at = block - group.first_block;
                    if sums.len() == at {
                        sums.push((sample * y_dims.blocks() + block, Moments::default()));
                    }
                    isa.run(AddRow(&mut sums[at].1, written));
                }
            }
        }
        sums.into_iter()
            .map(|(unit, sums)| sums.finish(unit))
            .collect::<Vec<_>>()
    };
    let parts: Vec<Vec<Partial>> = (0..planes * strips).into_par_iter().map(run_task).collect();
    parts.into_iter().flatten().collect()
}
