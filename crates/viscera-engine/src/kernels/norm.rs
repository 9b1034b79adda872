//! Norms over voxels (instance, batch, group) and fixed scale and shift, fused with the dropout and the activation behind
//! them, forward and backward.

use super::activation::Pointwise;
use super::moments::{AddRow, Moments, Partial, join};
use super::scope::Scope;
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};
use rayon::prelude::*;

/// Learnt scale and shift, per channel or one for all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine<'a> {
    pub(crate) weight: Option<&'a [f32]>,
    pub(crate) bias: Option<&'a [f32]>,
}

/// Mean, variance and 1 / standard deviation, per sample and block.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    mean: Vec<Lane>,
    variance: Vec<Lane>,
    inverse_std: Vec<Lane>,
}

/// Sums two lanes' worth of quantities over all voxels of each sample and block: `f` adds a row to f32 sums, which are
/// then added up in f64, plane by plane in order.
pub(crate) fn row_sums(
    value: &Blocked,
    f: impl Fn(usize, usize, usize, usize, &[Lane], &mut [Lane; 2]) + Sync,
) -> Vec<[[f64; LANES]; 2]> {
    let Dims { batch, extent, .. } = value.dims;
    let blocks = value.dims.blocks();
    let planes: Vec<[[f64; LANES]; 2]> = (0..batch * blocks * extent[0])
        .into_par_iter()
        .with_min_len((4096 / (extent[1] * extent[2])).max(1))
        .map(|index| {
            let (unit, z) = (index / extent[0], index % extent[0]);
            let (sample, block) = (unit / blocks, unit % blocks);
            let mut sums = [[0.0; LANES]; 2];
            for y in 0..extent[1] {
                let mut row = [Lane::ZERO; 2];
                f(sample, block, z, y, value.row(sample, block, z, y), &mut row);
                add(&mut sums, &row.map(|lane| lane.0.map(f64::from)));
            }
            sums
        })
        .collect();
    planes
        .chunks_exact(extent[0])
        .map(|planes| {
            let mut sums = [[0.0; LANES]; 2];
            for plane in planes {
                add(&mut sums, plane);
            }
            sums
        })
        .collect()
}

fn add(sums: &mut [[f64; LANES]; 2], more: &[[f64; LANES]; 2]) {
    for (sums, more) in sums.iter_mut().zip(more) {
        for (sum, more) in sums.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

/// Statistics over the voxels of each scope.
pub(crate) fn statistics<E: Element>(isa: Isa, x: &Blocked<E>, scope: Scope, eps: f32) -> Statistics {
    let extent = x.dims.extent;
    let blocks = x.dims.blocks();
    let parts: Vec<Partial> = (0..x.dims.batch * blocks * extent[0])
        .into_par_iter()
        .with_min_len((4096 / (extent[1] * extent[2])).max(1))
        .map(|index| {
            let (unit, z) = (index / extent[0], index % extent[0]);
            let mut moments = Moments::default();
            for y in 0..extent[1] {
                isa.run(AddRow(&mut moments, x.row(unit / blocks, unit % blocks, z, y)));
            }
            moments.finish(unit)
        })
        .collect();
    Statistics::join(x.dims, &parts, scope, eps)
}

impl Statistics {
    /// From what was gathered while the values were written.
    pub(crate) fn join(dims: Dims, parts: &[Partial], scope: Scope, eps: f32) -> Self {
        let (of_channels, mut variance): (Vec<_>, Vec<_>) = join(dims.batch * dims.blocks(), parts)
            .into_iter()
            .map(|[mean, variance]| (mean, variance))
            .unzip();
        let mut mean = of_channels.clone();
        scope.average(&dims, &mut mean);
        for (variance, (own, mean)) in variance.iter_mut().zip(of_channels.iter().zip(&mean)) {
            for i in 0..LANES {
                variance[i] += (own[i] - mean[i]).powi(2);
            }
        }
        scope.average(&dims, &mut variance);
        Self::new(&mean, &variance, eps)
    }

    /// These, whatever the values are: one mean and variance per channel, or one for all.
    pub(crate) fn fixed(dims: Dims, mean: &[f32], variance: &[f32], eps: f32) -> Self {
        let lanes = |values: &[f32]| -> Vec<[f64; LANES]> {
            let at = |c: usize| values[c.min(dims.channels - 1).min(values.len() - 1)];
            (0..dims.batch * dims.blocks())
                .map(|unit| std::array::from_fn(|lane| f64::from(at(unit % dims.blocks() * LANES + lane))))
                .collect()
        };
        Self::new(&lanes(mean), &lanes(variance), eps)
    }

    fn new(mean: &[[f64; LANES]], variance: &[[f64; LANES]], eps: f32) -> Self {
        let lanes = |values: &[[f64; LANES]], f: &dyn Fn(f64) -> f64| {
            values.iter().map(|v| Lane(v.map(|v| f(v) as f32))).collect()
        };
        Self {
            mean: lanes(mean, &|m| m),
            variance: lanes(variance, &|v| v),
            inverse_std: lanes(variance, &|v| 1.0 / (v + f64::from(eps)).sqrt()),
        }
    }

    /// Mean and unbiased variance of the first sample's channels, which under [`Scope::Batch`] are those of all samples.
    pub(crate) fn of_batch(&self, dims: &Dims) -> [Vec<f32>; 2] {
        let count = (dims.batch * dims.voxels()) as f64;
        let unbiased = (count / (count - 1.0).max(1.0)) as f32;
        let channels = |values: &[Lane], factor: f32| {
            (0..dims.channels)
                .map(|c| values[c / LANES].0[c % LANES] * factor)
                .collect()
        };
        [channels(&self.mean, 1.0), channels(&self.variance, unbiased)]
    }
}

/// What happens to x̂ = (x − mean) / std: y = act((x̂ · scale + shift) · keep), where `act` is leaky ReLU, another function or
/// nothing.
#[derive(Debug)]
pub(crate) struct Tail {
    scale: Vec<Lane>,
    shift: Vec<Lane>,
    keep: Vec<Lane>,
    /// Slope of the negative part; 1 for no activation or for `then`.
    slope: f32,
    /// An activation that is no leaky ReLU.
    then: Option<Pointwise>,
}

impl Tail {
    /// `keep(sample, channel)` is 0 for a dropped channel, 1 / (1 − p) for a kept one, 1 without dropout.
    pub(crate) fn new(
        dims: Dims,
        affine: Affine<'_>,
        slope: Option<f32>,
        then: Option<Pointwise>,
        keep: impl Fn(usize, usize) -> f32,
    ) -> Self {
        let channel = |block: usize, lane: usize| (block * LANES + lane).min(dims.channels - 1);
        let lanes = |f: &dyn Fn(usize) -> f32| {
            (0..dims.blocks())
                .map(|block| Lane(std::array::from_fn(|lane| f(channel(block, lane)))))
                .collect()
        };
        Self {
            scale: lanes(&|c| affine.weight.map_or(1.0, |w| w[c.min(w.len() - 1)])),
            shift: lanes(&|c| affine.bias.map_or(0.0, |b| b[c.min(b.len() - 1)])),
            keep: (0..dims.batch)
                .flat_map(|sample| {
                    let keep = &keep;
                    (0..dims.blocks())
                        .map(move |block| Lane(std::array::from_fn(|lane| keep(sample, channel(block, lane)))))
                })
                .collect(),
            slope: slope.unwrap_or(1.0),
            then,
        }
    }

    /// Whether it is one `act(x · a + b)` with a leaky ReLU or none, which [`Deferred`] can do.
    pub(crate) fn can_wait(&self) -> bool {
        self.then.is_none()
    }

    /// Replaces a row of a block of a sample.
    fn row(&self, isa: Isa, statistics: &Statistics, unit: usize, block: usize, row: &mut [Lane]) {
        isa.run(self.map(statistics, unit, block, row));
        if let Some(then) = &self.then {
            then.row(isa, block, row);
        }
    }
}

/// y from x; `y` is a buffer of the same shape.
pub(crate) fn forward<E: Element>(isa: Isa, x: &Blocked<E>, statistics: &Statistics, tail: &Tail, y: &mut Blocked<E>) {
    let blocks = x.dims.blocks();
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        row.copy_from_slice(&x.lanes(isa, sample, block, z, yy));
        tail.row(isa, statistics, sample * blocks + block, block, row);
    });
}

/// y in place of x.
pub(crate) fn forward_in_place<E: Element>(isa: Isa, x: &mut Blocked<E>, statistics: &Statistics, tail: &Tail) {
    let blocks = x.dims.blocks();
    x.change_lanes(isa, |sample, block, _, _, row| {
        tail.row(isa, statistics, sample * blocks + block, block, row);
    });
}

/// A norm that nobody has carried out yet: its only reader, a sum, does so as it loads.
#[derive(Debug)]
pub(crate) struct Deferred {
    statistics: Statistics,
    tail: Tail,
}

impl Deferred {
    /// Of a tail that [`Tail::can_wait`].
    pub(crate) fn new(statistics: Statistics, tail: Tail) -> Self {
        Self { statistics, tail }
    }

    /// Carries it out on a row of a block of a sample.
    pub(crate) fn change(&self, isa: Isa, [sample, block]: [usize; 2], row: &mut [Lane]) {
        let unit = sample * self.tail.scale.len() + block;
        isa.run(self.tail.map(&self.statistics, unit, block, row));
    }

    /// Adds what it makes of a row of a block of a sample.
    pub(crate) fn add<E: Element>(&self, isa: Isa, [sample, block]: [usize; 2], row: &[E], sum: &mut [Lane]) {
        let unit = sample * self.tail.scale.len() + block;
        let [scale, shift] = fold(&self.statistics, &self.tail, unit, block).map(Lane);
        isa.run(AddMapped {
            scale,
            shift,
            slope: self.tail.slope,
            row,
            sum,
        });
    }
}

/// sum += act(row · scale + shift).
struct AddMapped<'a, E> {
    scale: Lane,
    shift: Lane,
    slope: f32,
    row: &'a [E],
    sum: &'a mut [Lane],
}

impl<E: Element> Kernel for AddMapped<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (scale, shift, slope) = (V::load(&self.scale), V::load(&self.shift), V::splat(self.slope));
        for (sum, lane) in self.sum.iter_mut().zip(self.row) {
            let value: V = lane.load();
            V::load(sum).add(value.mul_add(scale, shift).leaky(slope)).store(sum);
        }
    }
}

/// row = act(row · scale + shift).
struct Map<'a> {
    scale: Lane,
    shift: Lane,
    slope: f32,
    row: &'a mut [Lane],
}

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let (scale, shift, slope) = (V::load(&self.scale), V::load(&self.shift), V::splat(self.slope));
        for lane in self.row {
            V::load(lane).mul_add(scale, shift).leaky(slope).store(lane);
        }
    }
}

impl Tail {
    fn map<'a>(&self, statistics: &Statistics, unit: usize, block: usize, row: &'a mut [Lane]) -> Map<'a> {
        let [scale, shift] = fold(statistics, self, unit, block).map(Lane);
        Map {
            scale,
            shift,
            slope: self.slope,
            row,
        }
    }
}

/// The norm, affine map and dropout as one `x · a + b`.
fn fold(statistics: &Statistics, tail: &Tail, unit: usize, block: usize) -> [[f32; LANES]; 2] {
    let (mean, inverse) = (statistics.mean[unit].0, statistics.inverse_std[unit].0);
    let (scale, shift, keep) = (tail.scale[block].0, tail.shift[block].0, tail.keep[unit].0);
    let a: [f32; LANES] = std::array::from_fn(|i| inverse[i] * scale[i] * keep[i]);
    let b = std::array::from_fn(|i| shift[i] * keep[i] - mean[i] * a[i]);
    [a, b]
}

/// Turns the gradient of y into that of x, in place, and gives the gradients of scale and shift per channel. `scope` is that
/// of the statistics; `None` where they are fixed.
///
/// With g the gradient behind activation and dropout: dx = (g · scale − mean(g · scale) − x̂ · mean(g · scale · x̂)) / std,
/// means over the scope; without one, they are left out.
pub(crate) fn backward(
    isa: Isa,
    x: &Blocked,
    statistics: &Statistics,
    tail: &Tail,
    scope: Option<Scope>,
    dy: &mut Blocked,
) -> [Vec<f32>; 2] {
    let blocks = x.dims.blocks();
    if let Some(then) = &tail.then {
        dy.change_rows(|sample, block, z, y, row| {
            let argument = fold(statistics, tail, sample * blocks + block, block).map(Lane);
            then.row_backward(isa, block, argument, x.row(sample, block, z, y), row);
        });
    }
    let sums = row_sums(dy, |sample, block, z, y, row, sums| {
        isa.run(GradientSums {
            gate: tail.gate(statistics, sample * blocks + block, block),
            x: x.row(sample, block, z, y),
            dy: row,
            sums,
        });
    });
    let count = x.dims.voxels() as f64;
    let means: [Vec<[f64; LANES]>; 2] = std::array::from_fn(|which| {
        let Some(scope) = scope else {
            return vec![[0.0; LANES]; sums.len()];
        };
        let scaled = |(unit, sums): (usize, &[[f64; LANES]; 2])| {
            std::array::from_fn(|i| sums[which][i] / count * f64::from(tail.scale[unit % blocks].0[i]))
        };
        let mut means = sums.iter().enumerate().map(scaled).collect::<Vec<_>>();
        scope.average(&x.dims, &mut means);
        means
    });
    dy.change_rows(|sample, block, z, y, row| {
        let unit = sample * blocks + block;
        let inverse = statistics.inverse_std[unit].0;
        isa.run(GradientOfInput {
            gate: tail.gate(statistics, unit, block),
            x: x.row(sample, block, z, y),
            dy: row,
            means: [0, 1].map(|which: usize| {
                Lane(std::array::from_fn(|i| {
                    (means[which][unit][i] * f64::from(inverse[i])) as f32
                }))
            }),
            scale: Lane(std::array::from_fn(|i| tail.scale[block].0[i] * inverse[i])),
        });
    });
    [per_channel(&x.dims, &sums, 1), per_channel(&x.dims, &sums, 0)]
}

/// One of the two sums of [`row_sums`] per channel, over all samples.
pub(super) fn per_channel(dims: &Dims, sums: &[[[f64; LANES]; 2]], which: usize) -> Vec<f32> {
    (0..dims.channels)
        .map(|c| {
            (0..dims.batch)
                .map(|sample| sums[sample * dims.blocks() + c / LANES][which][c % LANES])
                .sum::<f64>() as f32
        })
        .collect()
}

/// What turns dy into g, the gradient before activation and dropout, and x into x̂.
struct Gate {
    /// act's argument is x · fold[0] + fold[1].
    fold: [Lane; 2],
    mean: Lane,
    inverse_std: Lane,
    keep: Lane,
    slope: f32,
}

impl Tail {
    fn gate(&self, statistics: &Statistics, unit: usize, block: usize) -> Gate {
        Gate {
            fold: fold(statistics, self, unit, block).map(Lane),
            mean: statistics.mean[unit],
            inverse_std: statistics.inverse_std[unit],
            keep: self.keep[unit],
            slope: self.slope,
        }
    }
}

/// A gate in registers.
#[derive(Clone, Copy)]
struct Open<V> {
    fold: [V; 2],
    mean: V,
    inverse_std: V,
    keep: V,
    slope: V,
}

impl<V: Vector> Open<V> {
    #[inline(always)]
    fn new(gate: &Gate) -> Self {
        Self {
            fold: [V::load(&gate.fold[0]), V::load(&gate.fold[1])],
            mean: V::load(&gate.mean),
            inverse_std: V::load(&gate.inverse_std),
            keep: V::load(&gate.keep),
            slope: V::splat(gate.slope),
        }
    }

    /// g and x̂.
    #[inline(always)]
    fn pass(self, x: &Lane, dy: &Lane) -> [V; 2] {
        let (x, dy) = (V::load(x), V::load(dy));
        let argument = x.mul_add(self.fold[0], self.fold[1]);
        let g = argument.if_positive(dy, dy.mul(self.slope)).mul(self.keep);
        [g, x.sub(self.mean).mul(self.inverse_std)]
    }
}

/// Σ g and Σ g · x̂ of a row.
struct GradientSums<'a> {
    gate: Gate,
    x: &'a [Lane],
    dy: &'a [Lane],
    sums: &'a mut [Lane; 2],
}

impl Kernel for GradientSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let open = Open::<V>::new(&self.gate);
        let mut sums = [V::splat(0.0); 2];
        for (x, dy) in self.x.iter().zip(self.dy) {
            let [g, normalised] = open.pass(x, dy);
            sums = [sums[0].add(g), g.mul_add(normalised, sums[1])];
        }
        for (sum, more) in self.sums.iter_mut().zip(sums) {
            V::load(sum).add(more).store(sum);
        }
    }
}

/// dx of a row, in place of dy; `means` are over the standard deviation already, as `scale` is.
struct GradientOfInput<'a> {
    gate: Gate,
    x: &'a [Lane],
    dy: &'a mut [Lane],
    means: [Lane; 2],
    scale: Lane,
}

impl Kernel for GradientOfInput<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let open = Open::<V>::new(&self.gate);
        let [mean_g, mean_gx] = [V::load(&self.means[0]), V::load(&self.means[1])];
        let scale = V::load(&self.scale);
        for (x, dy) in self.x.iter().zip(self.dy) {
            let [g, normalised] = open.pass(x, dy);
            g.mul(scale).sub(mean_g).sub(normalised.mul(mean_gx)).store(dy);
        }
    }
}
