//! Products of values, where an input that is 1 long along an axis is repeated along it.

use crate::Isa;
use crate::element::Element;
use crate::layout::{Blocked, Dims, LANES, Lane};
use crate::vector::{Kernel, Vector};

/// y = Π inputs.
pub(crate) fn forward<E: Element>(isa: Isa, inputs: &[&Blocked<E>], y: &mut Blocked<E>) {
    let channels = y.dims.channels;
    y.fill_lanes(isa, |sample, block, z, yy, row| {
        row.fill(Lane([1.0; LANES]));
        for input in inputs {
            isa.run(MultiplyBy::new(row, input, channels, [sample, block, z, yy]));
        }
    });
}

/// Multiplies the gradient of y by all inputs but the one at `place`; [`reduce`] then gives that one's gradient.
pub(crate) fn multiply_others(isa: Isa, inputs: &[&Blocked], place: usize, dy: &mut Blocked) {
    let channels = dy.dims.channels;
    dy.change_rows(|sample, block, z, y, row| {
        for (_, input) in inputs.iter().enumerate().filter(|(i, _)| *i != place) {
            isa.run(MultiplyBy::new(row, input, channels, [sample, block, z, y]));
        }
    });
}

/// Whether a value of this shape is repeated to become one of that shape.
pub(crate) fn repeats(from: &Dims, to: &Dims) -> bool {
    from.channels != to.channels || from.extent != to.extent
}

/// Sums over all axes along which `y` is 1 long and `x` is not.
pub(crate) fn reduce(x: &Blocked, y: &mut Blocked) {
    let (from, to) = (x.dims, y.dims);
    let range = |axis: usize, o: usize| {
        if to.extent[axis] == 1 {
            0..from.extent[axis]
        } else {
            o..o + 1
        }
    };
    let all_channels = to.channels == 1 && from.channels > 1;
    y.fill_rows(|sample, block, oz, oy, row| {
        let blocks = if all_channels {
            0..from.blocks()
        } else {
            block..block + 1
        };
        let mut sums = vec![[0.0f64; LANES]; row.len()];
        for block in blocks {
            for z in range(0, oz) {
                for yy in range(1, oy) {
                    for (x, lane) in x.row(sample, block, z, yy).iter().enumerate() {
                        let sum = &mut sums[if to.extent[2] == 1 { 0 } else { x }];
                        if all_channels {
                            let count = LANES.min(from.channels - block * LANES);
                            sum[0] += lane.0[..count].iter().map(|&v| f64::from(v)).sum::<f64>();
                        } else {
                            for i in 0..LANES {
                                sum[i] += f64::from(lane.0[i]);
                            }
                        }
                    }
                }
            }
        }
        for (y, sum) in row.iter_mut().zip(sums) {
            *y = Lane(sum.map(|v| v as f32));
        }
    });
}

/// row *= other, which is as long or 1 long; with `first_lane`, its first channel multiplies all.
struct MultiplyBy<'a, E> {
    row: &'a mut [Lane],
    other: &'a [E],
    first_lane: bool,
}

impl<'a, E: Element> MultiplyBy<'a, E> {
    fn new(row: &'a mut [Lane], other: &'a Blocked<E>, channels: usize, [sample, block, z, y]: [usize; 4]) -> Self {
        let dims = &other.dims;
        let first_lane = dims.channels == 1 && channels > 1;
        let place = |axis: usize, o: usize| if dims.extent[axis] == 1 { 0 } else { o };
        let block = if first_lane { 0 } else { block };
        Self {
            row,
            other: other.row(sample, block, place(0, z), place(1, y)),
            first_lane,
        }
    }
}

impl<E: Element> Kernel for MultiplyBy<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { row, other, first_lane } = self;
        let factor = |element: &E| {
            let factor = element.load::<V>();
            if first_lane { factor.first() } else { factor }
        };
        if other.len() == row.len() {
            for (y, x) in row.iter_mut().zip(other) {
                V::load(y).mul(factor(x)).store(y);
            }
        } else {
            let factor = factor(&other[0]);
            for y in row {
                V::load(y).mul(factor).store(y);
            }
        }
    }
}
