//! Convolution in all its forms: forward, gradient with respect to the input, and both for transposed convolution.
//!
//! They are one thing, a [`TapPass`]: each output voxel sums weighted input voxels at fixed offsets. Forward walks the
//! input in steps of the stride; the gradient of a strided convolution (and a transposed convolution) falls apart into
//! one pass per residue of the output index modulo the stride, each with the taps that reach it.

use super::moments::{AddRow, Moments, Partial};
use super::packed::{Kept, Packed};
use super::tile::{Start, Tap, TileArgs, cut, cut_blocks, tile};
use crate::Isa;
use crate::element::{Element, Widen};
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;
use std::collections::{HashMap, HashSet};
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

/// Weights in the order in which tiles read them: per group of output blocks that a tile holds, the (tap, input block) pairs
/// with any weight, each with its channels.
#[derive(Debug)]
pub(crate) struct PackedWeights {
    groups: Vec<PackedGroup>,
    kept: Kept,
}

#[derive(Debug)]
struct PackedGroup {
    first_block: usize,
    blocks: usize,
    /// (index into the pass's taps, input block, channels).
    entries: Vec<(usize, usize, usize)>,
    weights: Packed,
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
    /// Packs `weight(out channel, in channel, kernel tap)` for a path; `connected(out channel, in channel)` says which
    /// pairs a grouped convolution joins.
    pub(crate) fn new(
        isa: Isa,
        pass: &TapPass,
        out_channels: usize,
        in_channels: usize,
        connected: impl Fn(usize, usize) -> bool + Sync,
        weight: impl Fn(usize, usize, usize) -> f32 + Sync,
        kept: Kept,
    ) -> Self {
        let groups = together(isa, out_channels, in_channels, &connected)
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
                        weights: Packed::new(weights, kept),
                    }
                },
            )
            .collect();
        Self { groups, kept }
    }

    /// Bytes of the weights that [`Self::new`] packs for so many taps, with so many bytes for a lane.
    pub(crate) fn bytes(
        taps: usize,
        out_channels: usize,
        in_channels: usize,
        connected: impl Fn(usize, usize) -> bool,
        lane_bytes: usize,
    ) -> usize {
        let lanes: usize = together(Isa::Scalar, out_channels, in_channels, &connected)
            .iter()
            .map(|group| {
                group
                    .joined
                    .iter()
                    .map(|(_, ins)| ins.len() * taps * group.blocks)
                    .sum::<usize>()
            })
            .sum();
        lanes * lane_bytes
    }
}

/// Output blocks that run as one, and the input blocks that they read, with the channels of each.
struct Together {
    first_block: usize,
    blocks: usize,
    joined: Vec<(usize, Range<usize>)>,
}

/// Cuts the output into what tiles hold. Blocks run together where they read the same input; others would multiply each
/// other's by zero.
fn together(
    isa: Isa,
    out_channels: usize,
    in_channels: usize,
    connected: &impl Fn(usize, usize) -> bool,
) -> Vec<Together> {
    let channels = |block: usize, all: usize| block * LANES..((block + 1) * LANES).min(all);
    let joined = |block: usize| -> Vec<(usize, Range<usize>)> {
        (0..in_channels.div_ceil(LANES))
            .map(|in_block| (in_block, channels(in_block, in_channels)))
            .filter(|(_, ins)| channels(block, out_channels).any(|o| ins.clone().any(|i| connected(o, i))))
            .collect()
    };
    let all: Vec<_> = (0..out_channels.div_ceil(LANES)).map(joined).collect();
    let mut groups = Vec::new();
    let mut first_block = 0;
    for alike in all.chunk_by(|a, b| a == b) {
        for blocks in cut_blocks(isa, alike.len()) {
            groups.push(Together {
                first_block,
                blocks,
                joined: alike[0].clone(),
            });
            first_block += blocks;
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
pub(super) struct Shared<E>(pub(super) *mut E);
// SAFETY: every task writes elements of its own (see `run_passes`).
#[allow(unsafe_code)]
unsafe impl<E: Send> Send for Shared<E> {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl<E: Send> Sync for Shared<E> {}

impl<E: Copy> Shared<E> {
    pub(super) fn get(self) -> *mut E {
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

/// What one group of output blocks reads.
struct Reads {
    /// Of every pass and input: where each entry lies, relative to a row's first voxel. In the memory of the input where
    /// that holds lanes, otherwise in what is staged.
    taps: Vec<Vec<Vec<Tap>>>,
    /// What is staged of inputs that hold no lanes, one row behind the other, each of `width` voxels from `first` on.
    rows: Vec<StagedRow>,
    first: isize,
    width: usize,
}

/// A row of a block of an input, relative to the voxel that the first output of a row reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct StagedRow {
    input: usize,
    block: usize,
    z: isize,
    y: isize,
}

impl Reads {
    fn new<E: Element>(passes: &[(&TapPass, &[PackedWeights])], xs: &[&Blocked<E>], index: usize) -> Self {
        let (first, width) = reach(passes.iter().map(|(pass, _)| *pass));
        let mut rows = Vec::new();
        let mut places: HashMap<StagedRow, usize> = HashMap::new();
        let mut taps = Vec::with_capacity(passes.len());
        for (pass, packed) in passes {
            let of_input = |(input, (x, packed)): (usize, (&&Blocked<E>, &PackedWeights))| {
                let [x_block, x_plane, x_row] = x.dims.pitch();
                let tap = |&(slot, block, channels): &(usize, usize, usize)| {
                    assert!(block < x.dims.blocks(), "input blocks");
                    let [z, y, at] = pass.taps[slot].0;
                    let offset = if E::as_lanes(&x.data).is_some() {
                        (block * x_block) as isize + z * x_plane as isize + y * x_row as isize + at
                    } else {
                        let row = StagedRow { input, block, z, y };
                        let place = *places.entry(row).or_insert_with(|| {
                            rows.push(row);
                            rows.len() - 1
                        });
                        (place * width) as isize + at - first
                    };
                    Tap { offset, channels }
                };
                packed.groups[index].entries.iter().map(tap).collect()
            };
            taps.push(xs.iter().zip(*packed).enumerate().map(of_input).collect());
        }
        Self {
            taps,
            rows,
            first,
            width,
        }
    }

    /// Widens what the outputs of a row read; `from` is the (z, y) of the voxel that the first of them is at.
    fn stage<E: Element>(&self, isa: Isa, xs: &[&Blocked<E>], sample: usize, from: [usize; 2], staged: &mut Vec<Lane>) {
        staged.resize(self.rows.len() * self.width, Lane::ZERO);
        for (row, to) in self.rows.iter().zip(staged.chunks_exact_mut(self.width)) {
            let x = xs[row.input];
            let Dims { extent, halo, .. } = x.dims;
            let [z, y] = [from[0] as isize + row.z, from[1] as isize + row.y];
            let inside = |a: usize, at: isize| at >= -(halo[a] as isize) && at < (extent[a] + halo[a]) as isize;
            // Rows that only a pass with more outputs reads.
            if inside(0, z) && inside(1, y) {
                let [_, plane, line] = x.dims.pitch();
                let origin = x.dims.at(sample, row.block, [0; 3]) as isize;
                let start = (origin + z * plane as isize + y * line as isize + self.first) as usize;
                isa.run(Widen(&x.data[start..start + self.width], to));
            }
        }
    }
}

/// The first voxel along x that the passes read, relative to that of the first output, and how many from there on.
fn reach<'a>(passes: impl Iterator<Item = &'a TapPass> + Clone) -> (isize, usize) {
    let taps = passes.flat_map(|pass| {
        let last = ((pass.count[2] - 1) * pass.in_step[2]) as isize;
        pass.taps.iter().map(move |tap| (tap.0[2], last + tap.0[2]))
    });
    let (first, last) = taps.fold((isize::MAX, isize::MIN), |(first, last), (from, to)| {
        (first.min(from), last.max(to))
    });
    if first > last {
        (0, 0)
    } else {
        (first, (last - first + 1) as usize)
    }
}

/// Bytes of scratch of one thread that runs passes over so many blocks of inputs which hold no lanes.
pub(crate) fn staged_bytes(passes: &[TapPass], in_blocks: usize) -> usize {
    let (_, width) = reach(passes.iter());
    let rows: HashSet<[isize; 2]> = passes.iter().flat_map(|p| &p.taps).map(|t| [t.0[0], t.0[1]]).collect();
    let out = passes.iter().map(|pass| Isa::detect().blocks() * pass.count[2]).max();
    let out = out.unwrap_or(0);
    (rows.len() * in_blocks * width + out) * size_of::<Lane>()
}

/// Stores lanes times `unit` as elements, `step` apart.
///
/// Whoever makes one promises that all of these places can be written and that nobody else touches them.
struct Spread<'a, E> {
    from: &'a [Lane],
    to: *mut E,
    step: usize,
    unit: f32,
}

impl<E: Element> Kernel for Spread<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let unit = V::splat(self.unit);
        for (voxel, lane) in self.from.iter().enumerate() {
            // SAFETY: promised by the maker.
            #[allow(unsafe_code)]
            unsafe { &mut *self.to.add(voxel * self.step) }.store(V::load(lane).mul(unit));
        }
    }
}

/// Runs passes from the channels of all of `xs`, one after the other, to `y`; the passes write different voxels. Each has
/// packed weights for each of `xs`. The halo of `y` is left alone. With `moments`, also gives those of everything written;
/// a pass that leaves voxels out has none.
///
/// # Panics
/// When the halo of `xs` is too small for the taps, or a pass does not fit `y`: a mistake of the planner.
pub(crate) fn run_passes<E: Element>(
    isa: Isa,
    passes: &[(&TapPass, &[PackedWeights])],
    write: Write<'_>,
    xs: &[&Blocked<E>],
    y: &mut Blocked<E>,
    moments: bool,
) -> Vec<Partial> {
    let Some((TapPass { in_step, .. }, first_packed)) = passes.first() else {
        return Vec::new();
    };
    let split = |packed: &PackedWeights| {
        packed
            .groups
            .iter()
            .map(|g| (g.first_block, g.blocks))
            .collect::<Vec<_>>()
    };
    let groups = split(&first_packed[0]);
    for (pass, packed) in passes {
        assert_eq!(packed.len(), xs.len(), "inputs without weights");
        for (x, packed) in xs.iter().zip(*packed) {
            assert_eq!(x.dims.batch, y.dims.batch, "unequal batches");
            let needed = halo_needed(std::slice::from_ref(pass), x.dims.extent);
            assert!((0..3).all(|a| needed[a] <= x.dims.halo[a]), "input halo too small");
            assert_eq!(split(packed), groups, "groups differ between passes or inputs");
            assert_eq!(
                packed.kept, first_packed[0].kept,
                "units differ between passes or inputs"
            );
        }
        assert!(
            (0..3).all(|a| pass.out_start[a] + (pass.count[a] - 1) * pass.out_step[a] < y.dims.extent[a]),
            "pass outside the output"
        );
        assert_eq!(pass.in_step, *in_step, "steps differ between passes");
    }
    assert!(
        groups.iter().all(|(first, blocks)| first + blocks <= y.dims.blocks()),
        "output blocks"
    );
    // What every group reads, once per call.
    let reads: Vec<Reads> = (0..groups.len()).map(|index| Reads::new(passes, xs, index)).collect();
    // One task is a plane of each pass of one group, or a strip of it where planes are few. The cut depends on shapes
    // alone.
    let most = |a: usize| passes.iter().map(|(pass, _)| pass.count[a]).max().unwrap_or(0);
    let (depth, rows) = (most(0), most(1));
    let planes = y.dims.batch * groups.len() * depth;
    let strips = 16usize.div_ceil(planes.max(1)).min(rows);
    let strip = rows.div_ceil(strips.max(1));
    let y_dims = y.dims;
    let [y_block, ..] = y_dims.pitch();
    let y_data = Shared(y.data.as_mut_ptr());
    let moments = moments && passes.iter().all(|(pass, _)| pass.out_step == [1; 3]);
    let unit = first_packed[0].kept.unit();
    let beside = E::as_lanes(&y.data).is_none() || unit != 1.0;
    let first_sum: Vec<Lane> = match write {
        Write::Set(bias) => bias.iter().map(|lane| Lane(lane.0.map(|b| b / unit))).collect(),
        Write::Add => Vec::new(),
    };
    assert!(
        !beside || matches!(write, Write::Set(_)),
        "rounded values are not added to"
    );
    let run_task = |scratch: &mut [Vec<Lane>; 2], task: usize| {
        let [staged, out_row] = scratch;
        let (plane, part) = (task / strips, task % strips);
        let z = plane % depth;
        let (sample, index) = (plane / depth / groups.len(), plane / depth % groups.len());
        let (first_block, blocks) = groups[index];
        let reads = &reads[index];
        let mut sums: Vec<(usize, Moments)> = Vec::new();
        for row in part * strip..((part + 1) * strip).min(rows) {
            reads.stage(isa, xs, sample, [z * in_step[0], row * in_step[1]], staged);
            // All passes of a row, one after the other: they read the same inputs.
            for ((pass, packed), taps) in passes.iter().zip(&reads.taps) {
                if z >= pass.count[0] || row >= pass.count[1] {
                    continue;
                }
                let width = pass.count[2];
                let out = [
                    pass.out_start[0] + z * pass.out_step[0],
                    pass.out_start[1] + row * pass.out_step[1],
                    pass.out_start[2],
                ];
                let y_first = y_dims.at(sample, first_block, out);
                let y_step = pass.out_step[2];
                let place =
                    |block: usize, voxel: usize| y_data.get().wrapping_add(y_first + block * y_block + voxel * y_step);
                // Outputs that are no lanes, or in units, are summed up beside.
                if beside {
                    out_row.resize(blocks * width, Lane::ZERO);
                }
                let (y, y_step, y_block) = if beside {
                    (out_row.as_mut_ptr(), 1, width)
                } else {
                    // Elements are lanes.
                    (place(0, 0).cast(), y_step, y_block)
                };
                for (source, (x, packed)) in xs.iter().zip(*packed).enumerate() {
                    let group = &packed.groups[index];
                    let x_first = x.dims.at(sample, 0, [z * pass.in_step[0], row * pass.in_step[1], 0]);
                    let x_data = match E::as_lanes(&x.data) {
                        Some(data) => data.as_ptr().wrapping_add(x_first),
                        None => staged.as_ptr(),
                    };
                    for (piece, [entries, weights]) in group.pieces.iter().enumerate() {
                        let start = match write {
                            Write::Set(_) if source == 0 && piece == 0 => {
                                Start::Value(&first_sum[first_block..first_block + blocks])
                            }
                            _ => Start::Output,
                        };
                        let mut first = 0;
                        for (tiles, size) in cut(isa, width, blocks) {
                            // SAFETY: the asserts above show that all taps of all voxels of the pass stay within the
                            // halo of `x` (or what was staged of it) and all outputs within `y` (or `out_row`); tasks
                            // differ in sample, group, plane or rows, so no two write one lane.
                            #[allow(unsafe_code)]
                            unsafe {
                                let args = TileArgs {
                                    taps: &taps[source][entries.clone()],
                                    weights: group.weights.slice(weights.clone()),
                                    // Tap offsets bring this back inside where the voxel itself lies past the end.
                                    x: x_data.wrapping_add(first * pass.in_step[2]),
                                    x_step: pass.in_step[2],
                                    y: y.wrapping_add(first * y_step),
                                    y_step,
                                    y_block,
                                    start,
                                    tiles,
                                };
                                tile(isa, blocks, size, &args);
                            }
                            first += tiles * size;
                        }
                    }
                }
                if beside {
                    for (block, out_row) in out_row.chunks_exact(width).enumerate() {
                        // Outputs of this task, inside `y` by the asserts above.
                        isa.run(Spread {
                            from: out_row,
                            to: place(block, 0),
                            step: pass.out_step[2],
                            unit,
                        });
                    }
                }
                if !moments {
                    continue;
                }
                for block in 0..blocks {
                    // SAFETY: the row that this task has just written, with a step of one.
                    #[allow(unsafe_code)]
                    let written = unsafe { std::slice::from_raw_parts(place(block, 0).cast_const(), width) };
                    if sums.len() == block {
                        sums.push((sample * y_dims.blocks() + first_block + block, Moments::default()));
                    }
                    isa.run(AddRow(&mut sums[block].1, written));
                }
            }
        }
        sums.into_iter()
            .map(|(unit, sums)| sums.finish(unit))
            .collect::<Vec<_>>()
    };
    let parts: Vec<Vec<Partial>> = (0..planes * strips)
        .into_par_iter()
        .map_init(Default::default, run_task)
        .collect();
    parts.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::rounded;

    fn value(channels: usize, extent: [usize; 3], halo: [usize; 3]) -> Blocked {
        let dims = Dims {
            batch: 2,
            channels,
            extent,
            halo,
        };
        let mut value = Blocked::new(dims);
        value.fill_rows(|sample, block, z, y, row| {
            for (x, lane) in row.iter_mut().enumerate() {
                *lane = Lane(std::array::from_fn(|i| {
                    let place = (((sample * 5 + block) * 11 + z) * 13 + y) * 17 + x;
                    ((place * 8 + i) * 7919 % 2003) as f32 / 1001.0 - 1.0
                }));
            }
        });
        value
    }

    /// Values stored in bf16 give what their widened copies give, but for the rounding of the result.
    #[test]
    fn rounded_values_give_the_rounded_result() {
        let window = |kernel, stride, padding, dilation| Window {
            kernel,
            stride,
            padding,
            dilation,
        };
        let convolutions = [
            (window([3; 3], [2; 3], [1; 3], [1; 3]), 1, [5, 8, 9]),
            (window([3; 3], [1; 3], [2; 3], [2; 3]), 3, [4, 1, 7]),
            (window([1; 3], [1; 3], [0; 3], [1; 3]), 1, [1, 3, 21]),
            (window([1, 3, 2], [1, 2, 3], [0, 1, 0], [1; 3]), 3, [2, 5, 14]),
        ];
        for isa in Isa::available() {
            for (window, groups, extent) in convolutions {
                // The extent of the input is that of the output of the transposed convolution too.
                let count = std::array::from_fn(|a| {
                    let reach = window.dilation[a] * (window.kernel[a] - 1);
                    (extent[a] + 2 * window.padding[a] - reach - 1) / window.stride[a] + 1
                });
                // Only a convolution without groups reads several inputs.
                let ins: &[usize] = if groups == 1 { &[16, 11] } else { &[27] };
                let outs = 21;
                let connected = |o: usize, i: usize| o * groups / 21 == i * groups / 27;
                for passes in [vec![window.gather(count)], window.scatter(extent)] {
                    let forward = passes.len() == 1 && passes[0].count == count;
                    let (from, to) = if forward { (extent, count) } else { (count, extent) };
                    let halo = halo_needed(&passes, from);
                    let halves: Vec<_> = ins.iter().map(|&c| rounded(isa, &value(c, from, halo))).collect();
                    let lanes: Vec<_> = halves.iter().map(|half| half.widened(isa).into_owned()).collect();
                    let pack = |pass: &TapPass, input: usize| {
                        let first: usize = ins[..input].iter().sum();
                        let connected = |o, i| connected(o, first + i);
                        let weight = |o: usize, i: usize, tap: usize| {
                            ((o * 31 + (first + i) * 17 + tap * 7) % 23) as f32 / 11.0 - 1.0
                        };
                        PackedWeights::new(isa, pass, outs, ins[input], connected, weight, Kept::Full)
                    };
                    let packed: Vec<Vec<_>> = passes
                        .iter()
                        .map(|pass| (0..ins.len()).map(|input| pack(pass, input)).collect())
                        .collect();
                    let passes: Vec<_> = passes.iter().zip(packed.iter().map(|packed| &packed[..])).collect();
                    let bias = [0.5, -2.0, 3.0].map(|v| Lane([v; LANES]));
                    let mut plain = value(outs, to, [0, 1, 2]);
                    let mut half = rounded(isa, &plain);
                    plain.clear_halo();
                    half.clear_halo();
                    let write = Write::Set(&bias);
                    run_passes(
                        isa,
                        &passes,
                        write,
                        &lanes.iter().collect::<Vec<_>>(),
                        &mut plain,
                        false,
                    );
                    let parts = run_passes(isa, &passes, write, &halves.iter().collect::<Vec<_>>(), &mut half, true);
                    assert_eq!(half.data, rounded(isa, &plain).data, "{window:?}");
                    assert_eq!(parts.is_empty(), passes.len() > 1);
                }
            }
        }
    }
}
