//! Pointwise functions, forward and backward.

use super::functions::{Function, Gelu, Sigmoid, Silu, Tanh};
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, LANES, Lane};
use crate::vector::{Kernel, Vector};
use viscera_net::Activation;

/// An activation with its parameter at hand.
#[derive(Debug)]
pub(crate) enum Pointwise {
    /// Slope of the negative part, one lane per block.
    Leaky(Vec<Lane>),
    Sigmoid,
    Gelu,
    Silu,
    Tanh,
}

impl Pointwise {
    /// `param` gives a parameter's values; `None` for a function that the engine does not know.
    pub(crate) fn new<'a>(
        activation: Activation,
        blocks: usize,
        param: impl Fn(viscera_net::ParamId) -> &'a [f32],
    ) -> Option<Self> {
        Some(match activation {
            Activation::LeakyRelu { slope } => Self::Leaky(vec![Lane([slope; LANES]); blocks]),
            Activation::PRelu { slope } => Self::Leaky(lanes(param(slope), blocks)),
            Activation::Sigmoid => Self::Sigmoid,
            Activation::Gelu => Self::Gelu,
            Activation::Silu => Self::Silu,
            Activation::Tanh => Self::Tanh,
            _ => return None,
        })
    }

    /// Replaces a row of a block by its function.
    pub(crate) fn row(&self, isa: Isa, block: usize, row: &mut [Lane]) {
        match self {
            Self::Leaky(slopes) => isa.run(Leaky(row, slopes[block])),
            Self::Sigmoid => isa.run(Forward(row, Sigmoid)),
            Self::Gelu => isa.run(Forward(row, Gelu)),
            Self::Silu => isa.run(Forward(row, Silu)),
            Self::Tanh => isa.run(Forward(row, Tanh)),
        }
    }

    /// Multiplies a row of the result's gradient by the derivative at `map`(x), which turns it into that of `map`(x).
    pub(crate) fn row_backward(&self, isa: Isa, block: usize, map: [Lane; 2], x: &[Lane], dy: &mut [Lane]) {
        match self {
            Self::Leaky(slopes) => isa.run(LeakyBackward(dy, x, map, slopes[block])),
            Self::Sigmoid => isa.run(Backward(dy, x, map, Sigmoid)),
            Self::Gelu => isa.run(Backward(dy, x, map, Gelu)),
            Self::Silu => isa.run(Backward(dy, x, map, Silu)),
            Self::Tanh => isa.run(Backward(dy, x, map, Tanh)),
        }
    }
}

/// One value per channel, or one for all, as a lane per block; 0 past the last channel.
fn lanes(values: &[f32], blocks: usize) -> Vec<Lane> {
    let at = |channel: usize| match values {
        &[one] => one,
        many => many.get(channel).copied().unwrap_or(0.0),
    };
    (0..blocks)
        .map(|block| Lane(std::array::from_fn(|lane| at(block * LANES + lane))))
        .collect()
}

/// y from x.
pub(crate) fn forward<E: Element>(isa: Isa, function: &Pointwise, x: &Blocked<E>, y: &mut Blocked<E>) {
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        row.copy_from_slice(&x.lanes(isa, sample, block, z, yy));
        function.row(isa, block, row);
    });
}

/// y in place of x.
pub(crate) fn forward_in_place<E: Element>(isa: Isa, function: &Pointwise, x: &mut Blocked<E>) {
    x.change_lanes(isa, |_, block, _, _, row| function.row(isa, block, row));
}

/// The argument is x itself.
pub(crate) const IDENTITY: [Lane; 2] = [Lane([1.0; LANES]), Lane::ZERO];

/// Turns the gradient of y into that of x, in place.
pub(crate) fn backward(isa: Isa, function: &Pointwise, x: &Blocked, dy: &mut Blocked) {
    dy.change_rows(|sample, block, z, y, row| {
        function.row_backward(isa, block, IDENTITY, x.row(sample, block, z, y), row);
    });
}

/// Per channel, Σ dy · min(x, 0): the gradient of a leaky ReLU's slope. To be taken before [`backward`].
pub(crate) fn slope_gradient(isa: Isa, x: &Blocked, dy: &Blocked) -> Vec<f32> {
    let sums = super::norm::row_sums(dy, |sample, block, z, y, row, sums| {
        isa.run(NegativeSum(row, x.row(sample, block, z, y), &mut sums[0]));
    });
    super::norm::per_channel(&dy.dims, &sums, 0)
}

struct NegativeSum<'a>(&'a [Lane], &'a [Lane], &'a mut Lane);

impl Kernel for NegativeSum<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let mut sum = V::load(self.2);
        for (dy, x) in self.0.iter().zip(self.1) {
            sum = V::load(dy).mul_add(V::load(x).min(V::splat(0.0)), sum);
        }
        sum.store(self.2);
    }
}

/// row = leaky(row), with a slope per lane.
pub(super) struct Leaky<'a>(pub(super) &'a mut [Lane], pub(super) Lane);

impl Kernel for Leaky<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let slope = V::load(&self.1);
        for lane in self.0 {
            V::load(lane).leaky(slope).store(lane);
        }
    }
}

struct Forward<'a, F>(&'a mut [Lane], F);

impl<F: Function> Kernel for Forward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for lane in self.0 {
            F::value(V::load(lane)).store(lane);
        }
    }
}

struct LeakyBackward<'a>(&'a mut [Lane], &'a [Lane], [Lane; 2], Lane);

impl Kernel for LeakyBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let [scale, shift, slope] = [&self.2[0], &self.2[1], &self.3].map(V::load);
        for (dy, x) in self.0.iter_mut().zip(self.1) {
            let gradient = V::load(dy);
            let argument = V::load(x).mul_add(scale, shift);
            argument.if_positive(gradient, gradient.mul(slope)).store(dy);
        }
    }
}

struct Backward<'a, F>(&'a mut [Lane], &'a [Lane], [Lane; 2], F);

impl<F: Function> Kernel for Backward<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let [scale, shift] = [V::load(&self.2[0]), V::load(&self.2[1])];
        for (dy, x) in self.0.iter_mut().zip(self.1) {
            let slope = F::derivative(V::load(x).mul_add(scale, shift));
            V::load(dy).mul(slope).store(dy);
        }
    }
}
