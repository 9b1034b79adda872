//! Products of small matrices whose columns lie eight to a lane.

use crate::layout::{LANES, Lane};
use crate::vector::{Kernel, Vector};

/// The floats of lanes, in order.
pub(super) fn floats(lanes: &[Lane]) -> &[f32] {
    // SAFETY: a lane is eight floats without padding (`repr(C)`, 32 bytes).
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts(lanes.as_ptr().cast(), lanes.len() * LANES)
    }
}

/// The same, to be changed.
pub(super) fn floats_mut(lanes: &mut [Lane]) -> &mut [f32] {
    // SAFETY: as above.
    #[allow(unsafe_code)]
    unsafe {
        std::slice::from_raw_parts_mut(lanes.as_mut_ptr().cast(), lanes.len() * LANES)
    }
}

/// out = left · right, for `out` of any number of rows.
pub(super) struct Product<'a> {
    pub(super) left: &'a [f32],
    /// Floats between rows and between columns of `left`.
    pub(super) steps: [usize; 2],
    /// One row after the other.
    pub(super) right: &'a [Lane],
    /// Columns of `left`, rows of `right`.
    pub(super) inner: usize,
    /// Lanes in a row of `right` and `out`.
    pub(super) width: usize,
    pub(super) out: &'a mut [Lane],
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(mut self) {
        let rows = self.out.len() / self.width;
        let mut row = 0;
        while row + ROWS <= rows {
            self.rows::<V, ROWS>(row);
            row += ROWS;
        }
        while row < rows {
            self.rows::<V, 1>(row);
            row += 1;
        }
    }
}

/// Rows of a tile. With two columns its sums and operands fill 15 registers, and it multiplies 12 times per 8 loads.
const ROWS: usize = 6;

impl Product<'_> {
    #[inline(always)]
    fn rows<V: Vector, const ROWS: usize>(&mut self, row: usize) {
        let mut first = 0;
        while first + 2 <= self.width {
            self.tile::<V, ROWS, 2>(row, first);
            first += 2;
        }
        if first < self.width {
            self.tile::<V, ROWS, 1>(row, first);
        }
    }

    #[inline(always)]
    fn tile<V: Vector, const ROWS: usize, const COLUMNS: usize>(&mut self, row: usize, first: usize) {
        let [row_step, step] = self.steps;
        let start = |k: usize, r: usize| (row + r) * row_step + k * step;
        let mut sums = [[V::splat(0.0); COLUMNS]; ROWS];
        // One of the steps is 1: what lies together is looked up once.
        let right = |k: usize| &self.right[k * self.width + first..][..COLUMNS];
        if step == 1 {
            let lefts: [&[f32]; ROWS] = std::array::from_fn(|r| &self.left[start(0, r)..][..self.inner]);
            for k in 0..self.inner {
                add(right(k), |r| lefts[r][k], &mut sums);
            }
        } else {
            for k in 0..self.inner {
                let left = &self.left[start(k, 0)..][..(ROWS - 1) * row_step + 1];
                add(right(k), |r| left[r * row_step], &mut sums);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            let start = (row + r) * self.width + first;
            for (out, sum) in self.out[start..start + COLUMNS].iter_mut().zip(sums) {
                sum.store(out);
            }
        }
    }
}

/// Adds one step of the inner dimension to a tile's sums.
#[inline(always)]
fn add<V: Vector, const ROWS: usize, const COLUMNS: usize>(
    right: &[Lane],
    left: impl Fn(usize) -> f32,
    sums: &mut [[V; COLUMNS]; ROWS],
) {
    let right: [V; COLUMNS] = std::array::from_fn(|c| V::load(&right[c]));
    for (r, sums) in sums.iter_mut().enumerate() {
        let left = V::splat(left(r));
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = left.mul_add(right, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;

    #[test]
    fn products_of_odd_sizes_are_those_of_the_definition() {
        let (rows, inner, width) = (7, 5, 5);
        let value = |i: usize| ((i * 37) % 23) as f32 - 11.0;
        let left: Vec<f32> = (0..rows * inner).map(value).collect();
        let right: Vec<Lane> = (0..inner * width)
            .map(|i| Lane(std::array::from_fn(|lane| value(3 * i + 5 * lane))))
            .collect();
        // `left` by rows, then the same numbers by columns.
        for steps in [[inner, 1], [1, rows]] {
            for isa in Isa::available() {
                let mut out = vec![Lane::ZERO; rows * width];
                isa.run(Product {
                    left: &left,
                    steps,
                    right: &right,
                    inner,
                    width,
                    out: &mut out,
                });
                for (place, &found) in floats(&out).iter().enumerate() {
                    let (row, column) = (place / (width * LANES), place % (width * LANES));
                    let at =
                        |k: usize| left[row * steps[0] + k * steps[1]] * floats(&right)[k * width * LANES + column];
                    assert_eq!(found, (0..inner).map(at).sum::<f32>());
                }
            }
        }
    }
}
