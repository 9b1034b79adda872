//! Functions of single voxels: sums, channel scaling, joining and taking channels.

use super::activation::Leaky;
use super::norm::Deferred;
use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, LANES, Lane};
use crate::vector::{Kernel, Vector};

/// One part of a sum.
pub(crate) struct Summand<'a, E> {
    pub(crate) value: &'a Blocked<E>,
    /// What must first be done to it.
    pub(crate) norm: Option<&'a Deferred>,
}

impl<'a, E> From<&'a Blocked<E>> for Summand<'a, E> {
    fn from(value: &'a Blocked<E>) -> Self {
        Self { value, norm: None }
    }
}

/// y = act(Σ inputs), where `slope` is that of a leaky ReLU, or `None` for no activation.
pub(crate) fn add<E: Element>(isa: Isa, inputs: &[Summand<'_, E>], slope: Option<f32>, y: &mut Blocked<E>) {
    let Some((first, others)) = inputs.split_first() else {
        return;
    };
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        row.copy_from_slice(&first.value.lanes(isa, sample, block, z, yy));
        add_rows(isa, row, first.norm, others, slope, [sample, block, z, yy]);
    });
}

/// The same in place of the first input, to which `norm` must first be done.
pub(crate) fn add_in_place<E: Element>(
    isa: Isa,
    y: &mut Blocked<E>,
    norm: Option<&Deferred>,
    others: &[Summand<'_, E>],
    slope: Option<f32>,
) {
    y.change_lanes(isa, |sample, block, z, yy, row| {
        add_rows(isa, row, norm, others, slope, [sample, block, z, yy]);
    });
}

fn add_rows<E: Element>(
    isa: Isa,
    row: &mut [Lane],
    norm: Option<&Deferred>,
    others: &[Summand<'_, E>],
    slope: Option<f32>,
    [sample, block, z, y]: [usize; 4],
) {
    if let Some(norm) = norm {
        norm.change(isa, [sample, block], row);
    }
    for other in others {
        let values = other.value.row(sample, block, z, y);
        match other.norm {
            Some(norm) => norm.add(isa, [sample, block], values, row),
            None => isa.run(AddTo(row, values)),
        }
    }
    if let Some(slope) = slope {
        isa.run(Leaky(row, Lane([slope; LANES])));
    }
}

/// row += other.
struct AddTo<'a, E>(&'a mut [Lane], &'a [E]);

impl<E: Element> Kernel for AddTo<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        for (sum, other) in self.0.iter_mut().zip(self.1) {
            V::load(sum).add(other.load()).store(sum);
        }
    }
}

/// Gradient behind a leaky ReLU with positive slope or zero, from its output: the sign of the output is that of the input.
pub(crate) fn leaky_backward(isa: Isa, y: &Blocked, slope: f32, dy: &mut Blocked) {
    dy.change_rows(|sample, block, z, yy, row| {
        isa.run(LeakyBackward(row, y.row(sample, block, z, yy), slope));
    });
}

/// dy → dx, where y is the output.
struct LeakyBackward<'a>(&'a mut [Lane], &'a [Lane], f32);

impl Kernel for LeakyBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let slope = V::splat(self.2);
        for (dy, y) in self.0.iter_mut().zip(self.1) {
            let gradient = V::load(dy);
            V::load(y).if_positive(gradient, gradient.mul(slope)).store(dy);
        }
    }
}

/// Multiplies each channel of each sample by `factor(sample, channel)`.
pub(crate) fn scale_channels<E: Element>(
    isa: Isa,
    x: &Blocked<E>,
    factor: impl Fn(usize, usize) -> f32 + Sync,
    y: &mut Blocked<E>,
) {
    let channels = x.dims.channels;
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        let factors: [f32; LANES] =
            std::array::from_fn(|lane| factor(sample, (block * LANES + lane).min(channels - 1)));
        for (y, x) in row.iter_mut().zip(x.lanes(isa, sample, block, z, yy).iter()) {
            for i in 0..LANES {
                y.0[i] = x.0[i] * factors[i];
            }
        }
    });
}

/// Channels of all inputs one after the other.
pub(crate) fn concat<E: Element>(isa: Isa, inputs: &[&Blocked<E>], y: &mut Blocked<E>) {
    let channels = y.dims.channels;
    // Where each output channel comes from.
    let origin: Vec<(usize, usize)> = inputs
        .iter()
        .enumerate()
        .flat_map(|(index, input)| (0..input.dims.channels).map(move |c| (index, c)))
        .collect();
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        let first = block * LANES;
        let (input, channel) = origin[first];
        let whole = channel.is_multiple_of(LANES)
            && (first..(first + LANES).min(channels)).all(|c| origin[c] == (input, channel + c - first));
        if whole {
            row.copy_from_slice(&inputs[input].lanes(isa, sample, channel / LANES, z, yy));
            return;
        }
        row.fill(Lane::ZERO);
        for lane in 0..LANES.min(channels - first) {
            let (input, channel) = origin[first + lane];
            let source = inputs[input].lanes(isa, sample, channel / LANES, z, yy);
            for (y, x) in row.iter_mut().zip(source.iter()) {
                y.0[lane] = x.0[channel % LANES];
            }
        }
    });
}

/// As many of the channels of `x`, from channel `first` on, as `y` has.
pub(crate) fn channels<E: Element>(isa: Isa, x: &Blocked<E>, first: usize, y: &mut Blocked<E>) {
    let channels = y.dims.channels;
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        if first.is_multiple_of(LANES) {
            row.copy_from_slice(&x.lanes(isa, sample, first / LANES + block, z, yy));
            // Lanes past the last channel belong to what comes after.
            for lane in row.iter_mut() {
                for i in LANES.min(channels - block * LANES)..LANES {
                    lane.0[i] = 0.0;
                }
            }
            return;
        }
        row.fill(Lane::ZERO);
        for lane in 0..LANES.min(channels - block * LANES) {
            let channel = first + block * LANES + lane;
            let source = x.lanes(isa, sample, channel / LANES, z, yy);
            for (y, x) in row.iter_mut().zip(source.iter()) {
                y.0[lane] = x.0[channel % LANES];
            }
        }
    });
}

/// Gradient of the input of [`channels`]: zero for those left out.
pub(crate) fn channels_backward(dy: &Blocked, first: usize, dx: &mut Blocked) {
    let end = first + dy.dims.channels;
    dx.fill_rows(|sample, block, z, y, row| {
        row.fill(Lane::ZERO);
        for channel in (block * LANES).max(first)..((block + 1) * LANES).min(end) {
            let (lane, from) = (channel % LANES, channel - first);
            let source = dy.row(sample, from / LANES, z, y);
            for (dx, dy) in row.iter_mut().zip(source) {
                dx.0[lane] = dy.0[from % LANES];
            }
        }
    });
}
