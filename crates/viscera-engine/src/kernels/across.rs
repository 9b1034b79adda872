//! What runs over the channels of each voxel: layer norm and softmax, forward and backward.
//!
//! Each takes two numbers per voxel first, then a pass over all values that uses them.

use super::functions::exp;
use super::norm::{per_channel, row_sums};
use crate::Isa;
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;

/// Voxels whose sums are held in registers side by side.
const TILE: usize = 8;

/// Learnt scale and shift per channel, a lane per block; 0 past the last channel.
#[derive(Debug)]
pub(crate) struct Scaling {
    scale: Vec<Lane>,
    shift: Vec<Lane>,
}

impl Scaling {
    pub(crate) fn new(channels: usize, affine: Option<[&[f32]; 2]>) -> Self {
        let lanes = |which: usize, plain: f32| {
            let at = |c: usize| match affine {
                _ if c >= channels => 0.0,
                Some(pair) => pair[which][c],
                None => plain,
            };
            (0..channels.div_ceil(LANES))
                .map(|block| Lane(std::array::from_fn(|lane| at(block * LANES + lane))))
                .collect()
        };
        Self {
            scale: lanes(0, 1.0),
            shift: lanes(1, 0.0),
        }
    }
}

/// y = (x − mean) / sqrt(variance + eps) · scale + shift, with the moments of each voxel's channels.
pub(crate) fn layer_norm(isa: Isa, x: &Blocked, eps: f32, scaling: &Scaling, y: &mut Blocked) {
    let moments = per_voxel(isa, [x, x], VoxelMoments { eps });
    let dims = x.dims;
    y.fill_rows(|sample, block, z, yy, row| {
        isa.run(Normalise {
            x: x.row(sample, block, z, yy),
            moments: row_of(&dims, &moments, sample, z, yy),
            scale: scaling.scale[block],
            shift: scaling.shift[block],
            y: row,
        });
    });
}

/// Turns the gradient of y into that of x, in place, and gives those of scale and shift.
///
/// With g = dy · scale: dx = (g − mean(g) − x̂ · mean(g · x̂)) / std.
pub(crate) fn layer_norm_backward(
    isa: Isa,
    x: &Blocked,
    eps: f32,
    scaling: &Scaling,
    dy: &mut Blocked,
) -> [Vec<f32>; 2] {
    let dims = x.dims;
    let moments = per_voxel(isa, [x, x], VoxelMoments { eps });
    let sums = row_sums(dy, |sample, block, z, y, row, sums| {
        isa.run(NormSums {
            x: x.row(sample, block, z, y),
            moments: row_of(&dims, &moments, sample, z, y),
            dy: row,
            sums,
        });
    });
    let quantity = NormMeans {
        scaling,
        moments: &moments,
        dims,
    };
    let means = per_voxel(isa, [x, dy], quantity);
    dy.change_rows(|sample, block, z, y, row| {
        isa.run(NormBackward {
            x: x.row(sample, block, z, y),
            moments: row_of(&dims, &moments, sample, z, y),
            means: row_of(&dims, &means, sample, z, y),
            scale: scaling.scale[block],
            dy: row,
        });
    });
    [per_channel(&dims, &sums, 1), per_channel(&dims, &sums, 0)]
}

/// y = exp(x) / Σ exp(x) over each voxel's channels.
pub(crate) fn softmax(isa: Isa, x: &Blocked, y: &mut Blocked) {
    let parts = per_voxel(isa, [x, x], VoxelExponents);
    let dims = x.dims;
    y.fill_rows(|sample, block, z, yy, row| {
        isa.run(Exponents {
            x: x.row(sample, block, z, yy),
            parts: row_of(&dims, &parts, sample, z, yy),
            y: row,
        });
    });
}

/// Turns the gradient of y into that of x, in place: dx = y · (dy − Σ y · dy).
pub(crate) fn softmax_backward(isa: Isa, y: &Blocked, dy: &mut Blocked) {
    let dims = y.dims;
    let sums = per_voxel(isa, [y, dy], VoxelProduct);
    dy.change_rows(|sample, block, z, yy, row| {
        isa.run(SoftmaxBackward {
            y: y.row(sample, block, z, yy),
            sums: row_of(&dims, &sums, sample, z, yy),
            dy: row,
        });
    });
}

/// Two numbers of each voxel of a row.
fn row_of<'a>(dims: &Dims, values: &'a [[f32; 2]], sample: usize, z: usize, y: usize) -> &'a [[f32; 2]] {
    let [depth, rows, width] = dims.extent;
    let start = ((sample * depth + z) * rows + y) * width;
    &values[start..start + width]
}

/// Two numbers of each voxel, from two values of one shape.
fn per_voxel<Q: Quantity>(isa: Isa, values: [&Blocked; 2], quantity: Q) -> Vec<[f32; 2]> {
    let dims = values[0].dims;
    let [depth, rows, width] = dims.extent;
    let mut found = vec![[0.0; 2]; dims.batch * dims.voxels()];
    found
        .par_chunks_exact_mut(width)
        .with_min_len((4096 / (width * dims.blocks())).max(1))
        .enumerate()
        .for_each(|(index, out)| {
            let (plane, y) = (index / rows, index % rows);
            let (sample, z) = (plane / depth, plane % depth);
            let row = |value: usize, block| values[value].row(sample, block, z, y);
            let lines: Vec<_> = (0..dims.blocks()).map(|b| [row(0, b), row(1, b)]).collect();
            isa.run(VoxelRow {
                quantity: &quantity,
                lines: &lines,
                channels: dims.channels,
                start: index * width,
                out,
            });
        });
    found
}

/// What [`per_voxel`] finds.
trait Quantity: Sync {
    fn of<V: Vector>(&self, tile: &Tile<'_>) -> [[f32; 2]; TILE];
}

/// Up to [`TILE`] neighbouring voxels of a row.
struct Tile<'a> {
    /// Both values' rows, by block.
    lines: &'a [[&'a [Lane]; 2]],
    channels: usize,
    /// The first voxel, in the row and among all.
    first: usize,
    place: usize,
    count: usize,
}

impl Tile<'_> {
    /// Per voxel, all channels of `value(block, voxel of the tile, first value, second value)` joined, lane by lane.
    #[inline(always)]
    fn fold<V: Vector>(
        &self,
        start: f32,
        value: impl Fn(usize, usize, V, V) -> V,
        join: impl Fn(V, V) -> V,
    ) -> [[f32; LANES]; TILE] {
        let start = V::splat(start);
        let mut sums = [start; TILE];
        for (block, [a, b]) in self.lines.iter().enumerate() {
            let here = Lane(std::array::from_fn(|lane| {
                f32::from(u8::from(block * LANES + lane < self.channels))
            }));
            let here = V::load(&here);
            let (a, b) = (&a[self.first..][..self.count], &b[self.first..][..self.count]);
            for (voxel, (sum, (a, b))) in sums.iter_mut().zip(a.iter().zip(b)).enumerate() {
                let value = value(block, voxel, V::load(a), V::load(b));
                *sum = join(*sum, here.if_positive(value, start));
            }
        }
        sums.map(|sum| {
            let mut lane = Lane::ZERO;
            sum.store(&mut lane);
            lane.0
        })
    }

    /// The same, summed over lanes too.
    #[inline(always)]
    fn sum<V: Vector>(&self, value: impl Fn(usize, usize, V, V) -> V) -> [f32; TILE] {
        self.fold(0.0, value, |a: V, b| a.add(b)).map(|lane| lane.iter().sum())
    }
}

struct VoxelRow<'a, Q> {
    quantity: &'a Q,
    lines: &'a [[&'a [Lane]; 2]],
    channels: usize,
    start: usize,
    out: &'a mut [[f32; 2]],
}

impl<Q: Quantity> Kernel for VoxelRow<'_, Q> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (index, out) in self.out.chunks_mut(TILE).enumerate() {
            let first = index * TILE;
            let found = self.quantity.of::<V>(&Tile {
                lines: self.lines,
                channels: self.channels,
                first,
                place: self.start + first,
                count: out.len(),
            });
            out.copy_from_slice(&found[..out.len()]);
        }
    }
}

/// Mean and 1 / standard deviation.
struct VoxelMoments {
    eps: f32,
}

impl Quantity for VoxelMoments {
    #[inline(always)]
    fn of<V: Vector>(&self, tile: &Tile<'_>) -> [[f32; 2]; TILE] {
        let share = 1.0 / tile.channels as f32;
        let mean = tile.sum(|_, _, x: V, _| x).map(|sum| sum * share);
        let spread = tile.sum(|_, voxel, x: V, _| {
            let distance = x.sub(V::splat(mean[voxel]));
            distance.mul(distance)
        });
        std::array::from_fn(|i| [mean[i], 1.0 / (spread[i] * share + self.eps).sqrt()])
    }
}

/// mean(g) and mean(g · x̂), from x and dy.
struct NormMeans<'a> {
    scaling: &'a Scaling,
    moments: &'a [[f32; 2]],
    dims: Dims,
}

impl Quantity for NormMeans<'_> {
    #[inline(always)]
    fn of<V: Vector>(&self, tile: &Tile<'_>) -> [[f32; 2]; TILE] {
        let share = 1.0 / self.dims.channels as f32;
        let scale = &self.scaling.scale;
        let moments = &self.moments[tile.place..];
        let plain = tile.sum(|block, _, _, dy: V| dy.mul(V::load(&scale[block])));
        let weighted = tile.sum(|block, voxel, x: V, dy| {
            let [mean, inverse] = moments[voxel].map(V::splat);
            dy.mul(V::load(&scale[block])).mul(x.sub(mean).mul(inverse))
        });
        std::array::from_fn(|i| [plain[i] * share, weighted[i] * share])
    }
}

/// The largest value, and 1 / Σ exp(x − largest).
struct VoxelExponents;

impl Quantity for VoxelExponents {
    #[inline(always)]
    fn of<V: Vector>(&self, tile: &Tile<'_>) -> [[f32; 2]; TILE] {
        let largest = tile
            .fold(f32::NEG_INFINITY, |_, _, x: V, _| x, |a: V, b| a.max(b))
            .map(|lane| lane.into_iter().fold(f32::NEG_INFINITY, f32::max));
        let sum = tile.sum(|_, voxel, x: V, _| exp(x.sub(V::splat(largest[voxel]))));
        std::array::from_fn(|i| [largest[i], 1.0 / sum[i]])
    }
}

/// Σ of the product of both values.
struct VoxelProduct;

impl Quantity for VoxelProduct {
    #[inline(always)]
    fn of<V: Vector>(&self, tile: &Tile<'_>) -> [[f32; 2]; TILE] {
        tile.sum(|_, _, a: V, b| a.mul(b)).map(|sum| [sum, 0.0])
    }
}

struct Normalise<'a> {
    x: &'a [Lane],
    moments: &'a [[f32; 2]],
    scale: Lane,
    shift: Lane,
    y: &'a mut [Lane],
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (scale, shift) = (V::load(&self.scale), V::load(&self.shift));
        for ((y, x), moments) in self.y.iter_mut().zip(self.x).zip(self.moments) {
            let [mean, inverse] = moments.map(V::splat);
            V::load(x).sub(mean).mul(inverse).mul_add(scale, shift).store(y);
        }
    }
}

/// Σ dy and Σ dy · x̂ of a row.
struct NormSums<'a> {
    x: &'a [Lane],
    moments: &'a [[f32; 2]],
    dy: &'a [Lane],
    sums: &'a mut [Lane; 2],
}

impl Kernel for NormSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut sums = [V::splat(0.0); 2];
        for ((dy, x), moments) in self.dy.iter().zip(self.x).zip(self.moments) {
            let [mean, inverse] = moments.map(V::splat);
            let dy = V::load(dy);
            sums = [sums[0].add(dy), dy.mul_add(V::load(x).sub(mean).mul(inverse), sums[1])];
        }
        for (sum, more) in self.sums.iter_mut().zip(sums) {
            V::load(sum).add(more).store(sum);
        }
    }
}

struct NormBackward<'a> {
    x: &'a [Lane],
    moments: &'a [[f32; 2]],
    means: &'a [[f32; 2]],
    scale: Lane,
    dy: &'a mut [Lane],
}

impl Kernel for NormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let scale = V::load(&self.scale);
        for (i, (dy, x)) in self.dy.iter_mut().zip(self.x).enumerate() {
            let [mean, inverse] = self.moments[i].map(V::splat);
            let [mean_g, mean_gx] = self.means[i].map(V::splat);
            let normalised = V::load(x).sub(mean).mul(inverse);
            let g = V::load(dy).mul(scale);
            g.sub(mean_g).sub(normalised.mul(mean_gx)).mul(inverse).store(dy);
        }
    }
}

struct Exponents<'a> {
    x: &'a [Lane],
    parts: &'a [[f32; 2]],
    y: &'a mut [Lane],
}

impl Kernel for Exponents<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for ((y, x), parts) in self.y.iter_mut().zip(self.x).zip(self.parts) {
            let [largest, share] = parts.map(V::splat);
            exp(V::load(x).sub(largest)).mul(share).store(y);
        }
    }
}

struct SoftmaxBackward<'a> {
    y: &'a [Lane],
    sums: &'a [[f32; 2]],
    dy: &'a mut [Lane],
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for ((dy, y), sum) in self.dy.iter_mut().zip(self.y).zip(self.sums) {
            V::load(dy).sub(V::splat(sum[0])).mul(V::load(y)).store(dy);
        }
    }
}
