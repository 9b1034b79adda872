//! Smooth random deformation: a uniform cubic B-spline over a coarse lattice of control points (free-form deformation,
//! Rueckert et al. 1999), evaluated along rows.

use super::normal;
use rand_chacha::ChaCha8Rng;

/// Distance of control points in mm.
const SPACING_MM: f64 = 60.0;
/// Shifts beyond this share of that distance could fold space (Choi and Lee 2000: 0.40 in 3-D).
const LARGEST_SHARE: f64 = 0.4;
/// Most cells of the lattice along an axis.
const MOST_CELLS: usize = 16;

/// A deformation over a grid of `size` voxels.
#[derive(Debug, Clone)]
pub(crate) struct Lattice {
    /// Control points along `[z, y, x]`: cells plus three.
    points: [usize; 3],
    /// Shift `[z, y, x]` of each control point, in the unit that was asked for.
    shifts: Vec<[f32; 3]>,
    /// For each place along each axis the first of four control points and their weights.
    taps: [Vec<(usize, [f32; 4])>; 3],
}

impl Lattice {
    /// Normal shifts of `std_mm` over a grid of `size` voxels that spans `extent_mm`; `per_mm` turns mm into the unit of
    /// [`Self::row`].
    pub(crate) fn random(
        size: [usize; 3],
        extent_mm: [f64; 3],
        std_mm: f64,
        per_mm: [f64; 3],
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let cells = extent_mm.map(|mm| ((mm / SPACING_MM).ceil() as usize).clamp(1, MOST_CELLS));
        let points = cells.map(|c| c + 3);
        let shifts = (0..points.iter().product::<usize>())
            .map(|_| {
                std::array::from_fn(|a| {
                    let most = LARGEST_SHARE * extent_mm[a] / cells[a] as f64;
                    ((normal(rng) * std_mm).clamp(-most, most) * per_mm[a]) as f32
                })
            })
            .collect();
        let taps = std::array::from_fn(|a| (0..size[a]).map(|i| tap(i, size[a], cells[a])).collect());
        Self { points, shifts, taps }
    }

    /// The shifts along the row (z, y).
    pub(crate) fn row(&self, z: usize, y: usize, out: &mut Vec<[f32; 3]>) {
        let [_, ny, nx] = self.points;
        // Blending along z and y first leaves one line of control points.
        let mut line = vec![[0.0f32; 3]; nx];
        let ((z0, wz), (y0, wy)) = (self.taps[0][z], self.taps[1][y]);
        for (i, wz) in wz.iter().enumerate() {
            for (j, wy) in wy.iter().enumerate() {
                let start = ((z0 + i) * ny + y0 + j) * nx;
                for (sum, shift) in line.iter_mut().zip(&self.shifts[start..start + nx]) {
                    for (sum, shift) in sum.iter_mut().zip(shift) {
                        *sum += wz * wy * shift;
                    }
                }
            }
        }
        out.clear();
        out.extend(self.taps[2].iter().map(|(x0, wx)| {
            let mut sum = [0.0; 3];
            for (w, point) in wx.iter().zip(&line[*x0..x0 + 4]) {
                for (sum, value) in sum.iter_mut().zip(point) {
                    *sum += w * value;
                }
            }
            sum
        }));
    }
}

/// Cubic B-spline weights of voxel `i` of `n` over `cells` cells.
fn tap(i: usize, n: usize, cells: usize) -> (usize, [f32; 4]) {
    let place = i as f64 / (n.max(2) - 1) as f64 * cells as f64;
    let cell = (place as usize).min(cells - 1);
    let t = place - cell as f64;
    let w = [
        (1.0 - t).powi(3),
        3.0 * t.powi(3) - 6.0 * t * t + 4.0,
        -3.0 * t.powi(3) + 3.0 * t * t + 3.0 * t + 1.0,
        t.powi(3),
    ];
    (cell, w.map(|w| (w / 6.0) as f32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    /// Equal shifts everywhere shift everything equally: the weights sum to 1. And it is smooth.
    #[test]
    fn is_a_smooth_partition_of_unity() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut lattice = Lattice::random([20, 30, 40], [100.0, 200.0, 300.0], 5.0, [1.0; 3], &mut rng);
        let mut row = Vec::new();
        lattice.row(7, 11, &mut row);
        let largest = row.windows(2).map(|w| (w[1][0] - w[0][0]).abs()).fold(0.0, f32::max);
        assert!(row.len() == 40 && largest > 0.0 && largest < 3.0, "{largest}");
        lattice.shifts.fill([1.0, -2.0, 3.0]);
        lattice.row(19, 0, &mut row);
        for shift in row {
            for (got, want) in shift.iter().zip([1.0, -2.0, 3.0]) {
                assert!((got - want).abs() < 1e-5);
            }
        }
    }
}
