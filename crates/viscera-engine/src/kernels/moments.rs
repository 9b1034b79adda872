//! Mean and variance per channel, gathered piece by piece while values are in the cache and joined in a fixed order.

use crate::element::Element;
use crate::layout::{LANES, Lane};
use crate::vector::{Kernel, Vector};

/// Sums over the rows that one task writes for one block. Values are shifted by the first one, so that a large mean does
/// not drown the variance; a row is summed in f32, rows in f64.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    shift: Option<Lane>,
    count: usize,
    sums: [[f64; LANES]; 2],
}

/// Count, mean and summed squared distance from the mean, of one block's share of a (sample, block) unit.
#[derive(Debug, Clone)]
pub(crate) struct Partial {
    unit: usize,
    count: f64,
    mean: [f64; LANES],
    spread: [f64; LANES],
}

impl Moments {
    /// Takes a row.
    #[inline(always)]
    pub(crate) fn add<V: Vector, E: Element>(&mut self, row: &[E]) {
        let Some(first) = row.first() else { return };
        let shift = V::load(self.shift.get_or_insert_with(|| {
            let mut shift = Lane::ZERO;
            first.load::<V>().store(&mut shift);
            shift
        }));
        // Four sums side by side, as each addition waits for the one before it.
        let mut sums = [[V::splat(0.0); 2]; 4];
        let mut quads = row.chunks_exact(4);
        for quad in &mut quads {
            for (sums, lane) in sums.iter_mut().zip(quad) {
                let v = lane.load::<V>().sub(shift);
                *sums = [sums[0].add(v), v.mul_add(v, sums[1])];
            }
        }
        for (sums, lane) in sums.iter_mut().zip(quads.remainder()) {
            let v = lane.load::<V>().sub(shift);
            *sums = [sums[0].add(v), v.mul_add(v, sums[1])];
        }
        for which in 0..2 {
            let [a, b, c, d] = sums.map(|s| s[which]);
            let mut total = Lane::ZERO;
            a.add(b).add(c.add(d)).store(&mut total);
            for (sum, more) in self.sums[which].iter_mut().zip(total.0) {
                *sum += f64::from(more);
            }
        }
        self.count += row.len();
    }

    /// The moments of all rows, as part of a unit (sample · blocks + block).
    pub(crate) fn finish(self, unit: usize) -> Partial {
        let count = self.count as f64;
        let shift = self.shift.unwrap_or(Lane::ZERO).0;
        let [sum, squares] = self.sums;
        Partial {
            unit,
            count,
            mean: std::array::from_fn(|i| f64::from(shift[i]) + sum[i] / count.max(1.0)),
            spread: std::array::from_fn(|i| (squares[i] - sum[i] * sum[i] / count.max(1.0)).max(0.0)),
        }
    }
}

/// [`Moments::add`] for callers outside a kernel.
pub(crate) struct AddRow<'a, E>(pub(crate) &'a mut Moments, pub(crate) &'a [E]);

impl<E: Element> Kernel for AddRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        self.0.add::<V, E>(self.1);
    }
}

/// Mean and biased variance of each unit, from its parts in the order given (Chan, Golub and LeVeque 1979).
pub(crate) fn join(units: usize, parts: &[Partial]) -> Vec<[[f64; LANES]; 2]> {
    let mut joined = vec![(0.0, [0.0; LANES], [0.0; LANES]); units];
    for part in parts {
        let (count, mean, spread) = &mut joined[part.unit];
        let total = *count + part.count;
        if total == 0.0 {
            continue;
        }
        for i in 0..LANES {
            let distance = part.mean[i] - mean[i];
            mean[i] += distance * part.count / total;
            spread[i] += part.spread[i] + distance * distance * *count * part.count / total;
        }
        *count = total;
    }
    joined
        .into_iter()
        .map(|(count, mean, spread)| [mean, spread.map(|s| s / f64::max(count, 1.0))])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn parts_join_to_the_whole_far_from_zero() {
        let value = |i: usize| 5000.0 + ((i * 37) % 19) as f32;
        let rows: Vec<Vec<Lane>> = [7, 1, 12, 4]
            .iter()
            .scan(0, |at, &n| {
                let row = (0..n).map(|i| Lane([value(*at + i); LANES])).collect();
                *at += n;
                Some(row)
            })
            .collect();
        for isa in Isa::available() {
            let parts: Vec<Partial> = rows
                .chunks(2)
                .map(|rows| {
                    let mut moments = Moments::default();
                    for row in rows {
                        isa.run(AddRow(&mut moments, row.as_slice()));
                    }
                    moments.finish(1)
                })
                .collect();
            let all: Vec<f64> = (0..24).map(|i| f64::from(value(i))).collect();
            let mean = all.iter().sum::<f64>() / 24.0;
            let variance = all.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 24.0;
            let [found_mean, found_variance] = join(2, &parts)[1];
            assert!((found_mean[3] - mean).abs() < 1e-9 && (found_variance[5] - variance).abs() < 1e-9);
        }
    }
}
