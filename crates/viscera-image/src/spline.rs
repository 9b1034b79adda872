//! B-spline interpolation of orders 2 to 5 along one axis, with its prefilter (Unser, Aldroubi and Eden 1993).
//!
//! An axis goes on beyond its ends with its outermost values, as in SciPy's `zoom` with mode `nearest`: both pad by
//! [`PAD`] samples, and what lies farther out has no weight that counts. Sums are taken in `f64`.

use crate::voxel::allocate;
use crate::{ImageError, Intensity};
use rayon::prelude::*;

/// Samples added at either end before the prefilter.
const PAD: usize = 12;
/// Lines that are filtered side by side.
const LANES: usize = 32;
/// Weights per position at most.
const MOST: usize = 6;

/// One sample of every line of a block.
type Lanes<T> = [T; LANES];

/// Where each output position of an axis samples it, half-pixel, and with which weights.
#[derive(Debug, Clone)]
pub(crate) struct SplineTable {
    order: usize,
    from: usize,
    /// First coefficient in the padded axis, and `order + 1` weights.
    taps: Vec<(usize, [f64; MOST])>,
}

impl SplineTable {
    /// The table from `from` to `to` positions, neither of them zero, for an order from 2 to 5.
    pub(crate) fn new(order: u8, from: usize, to: usize) -> Self {
        let order = usize::from(order);
        let scale = from as f64 / to as f64;
        let taps = (0..to)
            .map(|d| {
                let at = (d as f64 + 0.5) * scale - 0.5 + PAD as f64;
                // A spline of odd order changes its formula at the samples, one of even order midway between them.
                let shift = if order % 2 == 0 { 0.5 } else { 0.0 };
                let knot = (at + shift).floor();
                (knot as usize - order / 2, weights(order, at + shift - knot))
            })
            .collect();
        Self { order, from, taps }
    }

    /// Positions after.
    pub(crate) fn to_len(&self) -> usize {
        self.taps.len()
    }

    /// Filters a block of padded lines and gives its values at every output position in turn.
    fn apply(&self, block: &mut [Lanes<f64>], mut put: impl FnMut(usize, &Lanes<f32>)) {
        prefilter(block, poles(self.order));
        for (d, (first, weights)) in self.taps.iter().enumerate() {
            let mut sums = [0.0; LANES];
            for (sample, weight) in block[*first..=first + self.order].iter().zip(weights) {
                for (sum, value) in sums.iter_mut().zip(sample) {
                    *sum += weight * value;
                }
            }
            put(d, &sums.map(|sum| sum as f32));
        }
    }
}

/// The values of the B-splines of an order at `t` between two knots, `0..1`, by the recursion of Cox and de Boor.
fn weights(order: usize, t: f64) -> [f64; MOST] {
    let mut weights = [0.0; MOST];
    weights[0] = 1.0;
    for degree in 1..=order {
        let mut carried = 0.0;
        for j in 0..degree {
            let share = weights[j] / degree as f64;
            weights[j] = carried + (j as f64 + 1.0 - t) * share;
            carried = (t + (degree - 1 - j) as f64) * share;
        }
        weights[degree] = carried;
    }
    weights
}

/// The poles of the prefilter: the roots inside the unit circle of the spline's samples as a polynomial.
fn poles(order: usize) -> Vec<f64> {
    let root = f64::sqrt;
    match order {
        2 => vec![root(8.0) - 3.0],
        3 => vec![root(3.0) - 2.0],
        4 => [-1.0, 1.0]
            .map(|sign| root(664.0 + sign * root(438_976.0)) - sign * root(304.0) - 19.0)
            .into(),
        _ => [-1.0, 1.0]
            .map(|sign| root(67.5 + sign * root(4436.25)) - sign * root(26.25) - 6.5)
            .into(),
    }
}

/// Values to spline coefficients, in place; beyond the ends the outermost values go on.
fn prefilter(block: &mut [Lanes<f64>], poles: Vec<f64>) {
    let gain: f64 = poles.iter().map(|z| (1.0 - z) * (1.0 - 1.0 / z)).product();
    for sample in block.iter_mut() {
        *sample = sample.map(|v| v * gain);
    }
    for z in poles {
        // Before the first sample the causal filter has come to rest.
        let Some(first) = block.first() else { return };
        let mut state = first.map(|v| v / (1.0 - z));
        for sample in block.iter_mut() {
            for (value, state) in sample.iter_mut().zip(&mut state) {
                *state = *value + z * *state;
                *value = *state;
            }
        }
        // And so has the other one behind the last.
        state = state.map(|v| v * z / (z - 1.0));
        if let Some(last) = block.last_mut() {
            *last = state;
        }
        for sample in block.iter_mut().rev().skip(1) {
            for (value, state) in sample.iter_mut().zip(&mut state) {
                *state = z * (*state - *value);
                *value = *state;
            }
        }
    }
}

/// Interpolates along one axis of a volume of `shape`.
pub(crate) fn spline_pass<T: Intensity>(
    data: &[T],
    shape: [usize; 3],
    axis: usize,
    table: &SplineTable,
) -> Result<(Vec<f32>, [usize; 3]), ImageError> {
    let mut to = shape;
    to[axis] = table.to_len();
    let mut out = allocate::<f32>(to.iter().product())?;
    let (from_len, to_len) = (table.from, table.to_len());
    if axis == 2 {
        // Rows are lines: they are turned into lanes and back.
        out.par_chunks_mut(LANES * to_len)
            .zip(data.par_chunks(LANES * from_len))
            .for_each_init(
                || block(from_len),
                |block, (out, rows)| {
                    for (lane, row) in rows.chunks_exact(from_len).enumerate() {
                        for (sample, value) in block[PAD..].iter_mut().zip(row) {
                            sample[lane] = f64::from(value.to_f32());
                        }
                    }
                    extend(block);
                    table.apply(block, |d, values| {
                        for (row, value) in out.chunks_exact_mut(to_len).zip(values) {
                            row[d] = *value;
                        }
                    });
                },
            );
        return Ok((out, to));
    }
    // Lines stand side by side: a row of one slab (axis 1) or a whole plane (axis 0) of them.
    let side = if axis == 1 { shape[2] } else { shape[1] * shape[2] };
    let mut tasks: Vec<(usize, Vec<&mut [f32]>)> = Vec::new();
    for (slab, out) in out.chunks_exact_mut(to_len * side).enumerate() {
        let first = tasks.len();
        let starts = (0..side).step_by(LANES).map(|at| slab * from_len * side + at);
        tasks.extend(starts.map(|at| (at, Vec::with_capacity(to_len))));
        for row in out.chunks_exact_mut(side) {
            for (task, part) in tasks[first..].iter_mut().zip(row.chunks_mut(LANES)) {
                task.1.push(part);
            }
        }
    }
    tasks.into_par_iter().for_each_init(
        || block(from_len),
        |block, (start, mut out)| {
            let width = out.first().map_or(0, |part| part.len());
            for (i, sample) in block[PAD..][..from_len].iter_mut().enumerate() {
                for (to, value) in sample.iter_mut().zip(&data[start + i * side..][..width]) {
                    *to = f64::from(value.to_f32());
                }
            }
            extend(block);
            table.apply(block, |d, values| out[d].copy_from_slice(&values[..width]));
        },
    );
    Ok((out, to))
}

/// Room for a block of padded lines.
fn block(len: usize) -> Vec<Lanes<f64>> {
    vec![[0.0; LANES]; len + 2 * PAD]
}

/// Repeats the outermost samples in the padding.
fn extend(block: &mut [Lanes<f64>]) {
    let last = block.len() - PAD - 1;
    block.copy_within(PAD..=PAD, 0);
    for i in 1..PAD {
        block[i] = block[0];
    }
    for i in last + 1..block.len() {
        block[i] = block[last];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A spline of order k reproduces polynomials of order k away from the ends, and the weights of any place sum to 1.
    #[test]
    fn polynomials_are_reproduced() {
        for order in 2..=5u8 {
            let (from, to) = (60, 97);
            let polynomial = |x: f64| (0..=i32::from(order)).map(|p| (x / 30.0 - 1.0).powi(p)).sum::<f64>();
            let data: Vec<f32> = (0..from).map(|i| polynomial(f64::from(i)) as f32).collect();
            let table = SplineTable::new(order, from as usize, to);
            for (first, weights) in &table.taps {
                assert!((weights.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                assert!(first + usize::from(order) < from as usize + 2 * PAD);
            }
            for axis in 0..3 {
                let mut shape = [1; 3];
                shape[axis] = from as usize;
                let (out, _) = spline_pass(&data, shape, axis, &table).unwrap();
                for (d, value) in out.iter().enumerate().take(70).skip(27) {
                    let at = (d as f64 + 0.5) * f64::from(from) / to as f64 - 0.5;
                    assert!(
                        (f64::from(*value) - polynomial(at)).abs() < 1e-5,
                        "order {order}, axis {axis}, {d}"
                    );
                }
            }
        }
    }
}
