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
        let out_blocks = out_channels.div_ceil(LANES);
        let groups = (0..out_blocks.div_ceil(2))
            .into_par_iter()
            .map(|group| {
                let first_block = 2 * group;
                let blocks = (out_blocks - first_block).min(2);
                let outs = first_block * LANES..((first_block + blocks) * LANES).min(out_channels);
                let mut entries = Vec::new();
                let mut weights = Vec::new();
                for in_block in 0..in_channels.div_ceil(LANES) {
                    let ins = in_block * LANES..((in_block + 1) * LANES).min(in_channels);
                    if !outs.clone().any(|o| ins.clone().any(|i| connected(o, i))) {
                        continue;
                    }
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
                    entries,
                    weights,
                }
            })
            .collect();
        Self { groups }
    }
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
// SAFETY: every task writes lanes of its own (see `run_pass`).
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

/// Runs one pass from `x` to `y`. The halo of `y` is left alone. With `moments`, also gives those of everything written;
/// a pass that leaves voxels out has none.
///
/// # Panics
/// When the halo of `x` is too small for the taps, or the pass does not fit `y`: a mistake of the planner.
pub(crate) fn run_pass(
    isa: Isa,
    pass: &TapPass,
    packed: &PackedWeights,
    write: Write<'_>,
    x: &Blocked,
    y: &mut Blocked,
    moments: bool,
) -> Vec<Partial> {
    let needed = halo_needed(std::slice::from_ref(pass), x.dims.extent);
    assert!((0..3).all(|a| needed[a] <= x.dims.halo[a]), "input halo too small");
    assert!(
        (0..3).all(|a| pass.out_start[a] + (pass.count[a] - 1) * pass.out_step[a] < y.dims.extent[a]),
        "pass outside the output"
    );
    assert_eq!(x.dims.batch, y.dims.batch, "unequal batches");
    let [x_block, x_plane, x_row] = x.dims.pitch();
    let [y_block, ..] = y.dims.pitch();
    // Offsets of all entries, once per group.
    let taps: Vec<Vec<Tap>> = packed
        .groups
        .iter()
        .map(|group| {
            assert!(group.first_block + group.blocks <= y.dims.blocks(), "output blocks");
            group
                .entries
                .iter()
                .map(|&(slot, in_block, channels)| {
                    assert!(in_block < x.dims.blocks(), "input blocks");
                    let [z, y, x] = pass.taps[slot].0;
                    Tap {
                        offset: (in_block * x_block) as isize + z * x_plane as isize + y * x_row as isize + x,
                        channels,
                    }
                })
                .collect()
        })
        .collect();
    // One task is a plane of outputs of one group, or a strip of it where planes are few. The cut depends on shapes
    // alone.
    let [depth, rows, width] = pass.count;
    let groups = packed.groups.len();
    let planes = x.dims.batch * groups * depth;
    let strips = 16usize.div_ceil(planes).min(rows);
    let strip = rows.div_ceil(strips);
    let (x_dims, y_dims) = (x.dims, y.dims);
    let x_data = &x.data;
    let y_data = Shared(y.data.as_mut_ptr());
    let moments = moments && pass.out_step == [1; 3];
    let run_task = |task: usize| {
        let (plane, part) = (task / strips, task % strips);
        let z = plane % depth;
        let (sample, index) = (plane / depth / groups, plane / depth % groups);
        let group = &packed.groups[index];
        let bias;
        let start = match write {
            Write::Set(lanes) => {
                bias = &lanes[group.first_block..group.first_block + group.blocks];
                Start::Value(bias)
            }
            Write::Add => Start::Output,
        };
        let mut sums: Vec<Moments> = (0..if moments { group.blocks } else { 0 })
            .map(|_| Moments::default())
            .collect();
        for row in part * strip..((part + 1) * strip).min(rows) {
            let mut first = 0;
            for (tiles, size) in cut(width, group.blocks) {
                let out = [
                    pass.out_start[0] + z * pass.out_step[0],
                    pass.out_start[1] + row * pass.out_step[1],
                    pass.out_start[2] + first * pass.out_step[2],
                ];
                let from = [z * pass.in_step[0], row * pass.in_step[1], first * pass.in_step[2]];
                let x_first = x_dims.at(sample, 0, from);
                let y_first = y_dims.at(sample, group.first_block, out);
                // SAFETY: the asserts above show that all taps of all voxels of the pass stay within the halo of `x`
                // and all outputs within `y`; tasks differ in sample, group, plane or rows, so no two write one lane.
                #[allow(unsafe_code)]
                unsafe {
                    let args = TileArgs {
                        taps: &taps[index],
                        weights: &group.weights,
                        // Tap offsets bring this back inside where the voxel itself lies past the end of `x`.
                        x: x_data.as_ptr().wrapping_add(x_first),
                        x_step: pass.in_step[2],
                        y: y_data.get().add(y_first),
                        y_step: pass.out_step[2],
                        y_block,
                        start,
                        tiles,
                    };
                    tile(isa, group.blocks, size, &args);
                }
                first += tiles * size;
            }
            for (block, sums) in sums.iter_mut().enumerate() {
                let start = y_dims.at(sample, group.first_block + block, [z, row, 0]);
                // SAFETY: the row that this task has just written, with a step of one.
                #[allow(unsafe_code)]
                let written = unsafe { std::slice::from_raw_parts(y_data.get().add(start), width) };
                isa.run(AddRow(sums, written));
            }
        }
        let first_unit = sample * y_dims.blocks() + group.first_block;
        sums.into_iter()
            .enumerate()
            .map(|(block, sums)| sums.finish(first_unit + block))
            .collect::<Vec<_>>()
    };
    let parts: Vec<Vec<Partial>> = (0..planes * strips).into_par_iter().map(run_task).collect();
    parts.into_iter().flatten().collect()
}
