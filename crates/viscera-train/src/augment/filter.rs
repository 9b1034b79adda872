//! Linear filters along one axis at a time: blur, lost resolution, thick slices. All are lists of taps.

use rayon::prelude::*;

/// For each output place of an axis, the input places and weights that it sums.
pub(super) struct Taps(Vec<Vec<(usize, f32)>>);

impl Taps {
    /// A symmetric kernel, `half[0]` in the middle; places beyond the ends count as the ends.
    fn kernel(n: usize, half: &[f32]) -> Self {
        let reach = half.len() as isize - 1;
        Self(
            (0..n as isize)
                .map(|i| {
                    (-reach..=reach)
                        .map(|d| ((i + d).clamp(0, n as isize - 1) as usize, half[d.unsigned_abs()]))
                        .collect()
                })
                .collect(),
        )
    }

    /// A Gaussian of `sigma` voxels, cut at three sigma.
    pub(super) fn gaussian(n: usize, sigma: f64) -> Self {
        let reach = (3.0 * sigma).ceil().max(1.0) as usize;
        let weights: Vec<f64> = (0..=reach).map(|d| (-0.5 * (d as f64 / sigma).powi(2)).exp()).collect();
        let sum = weights[0] + 2.0 * weights[1..].iter().sum::<f64>();
        let half: Vec<f32> = weights.iter().map(|w| (w / sum) as f32).collect();
        Self::kernel(n, &half)
    }

    /// The binomial kernel ¼ ½ ¼.
    pub(super) fn binomial(n: usize) -> Self {
        Self::kernel(n, &[0.5, 0.25])
    }

    /// Down to the share `zoom` of the places (nearest), up again (linear).
    pub(super) fn low_resolution(n: usize, zoom: f64) -> Self {
        let few = ((n as f64 * zoom).round() as usize).clamp(1, n);
        // Half-pixel places of the coarse axis on the fine one, and back.
        let nearest = |j: usize| (((j as f64 + 0.5) * n as f64 / few as f64) as usize).min(n - 1);
        Self(
            (0..n)
                .map(|i| {
                    let place = ((i as f64 + 0.5) * few as f64 / n as f64 - 0.5).clamp(0.0, (few - 1) as f64);
                    let (low, t) = (place as usize, place.fract() as f32);
                    vec![(nearest(low), 1.0 - t), (nearest((low + 1).min(few - 1)), t)]
                })
                .collect(),
        )
    }

    /// Slices `thick` voxels thick (at least 1), the first centred at `phase` of a slice, joined by linear interpolation.
    pub(super) fn slices(n: usize, thick: f64, phase: f64) -> Self {
        // Share of voxel `i` (from i − ½ to i + ½) in the slice around `centre`.
        let slice = |centre: f64, weight: f64, out: &mut Vec<(usize, f32)>| {
            let (from, to) = (centre - 0.5 * thick, centre + 0.5 * thick);
            let first = (from + 0.5).floor() as isize;
            for i in first..=(to + 0.5).floor() as isize {
                let share = (to.min(i as f64 + 0.5) - from.max(i as f64 - 0.5)).max(0.0) / thick;
                if share > 0.0 {
                    out.push((i.clamp(0, n as isize - 1) as usize, (share * weight) as f32));
                }
            }
        };
        Self(
            (0..n)
                .map(|i| {
                    let place = i as f64 / thick - phase;
                    let (low, t) = (place.floor(), place - place.floor());
                    let mut taps = Vec::new();
                    slice((low + phase) * thick, 1.0 - t, &mut taps);
                    slice((low + 1.0 + phase) * thick, t, &mut taps);
                    taps
                })
                .collect(),
        )
    }

    /// Filters `data` of `size` (z, y, x) along `axis`.
    pub(super) fn apply(&self, data: &[f32], size: [usize; 3], axis: usize) -> Vec<f32> {
        let [_, ny, nx] = size;
        let mut out = vec![0.0f32; data.len()];
        out.par_chunks_mut(nx.max(1))
            .enumerate()
            .with_min_len(32)
            .for_each(|(row, out)| {
                let (z, y) = (row / ny, row % ny);
                if axis == 2 {
                    let input = &data[row * nx..(row + 1) * nx];
                    for (out, taps) in out.iter_mut().zip(&self.0) {
                        *out = taps.iter().map(|&(i, w)| w * input[i]).sum();
                    }
                    return;
                }
                for &(i, w) in &self.0[if axis == 0 { z } else { y }] {
                    let start = if axis == 0 {
                        (i * ny + y) * nx
                    } else {
                        (z * ny + i) * nx
                    };
                    for (out, input) in out.iter_mut().zip(&data[start..start + nx]) {
                        *out += w * input;
                    }
                }
            });
        out
    }
}

/// Filters along all three axes, with the taps that `taps` makes for an axis of n voxels.
pub(super) fn along_all(data: &[f32], size: [usize; 3], taps: impl Fn(usize) -> Taps) -> Vec<f32> {
    let z = taps(size[0]).apply(data, size, 0);
    let y = taps(size[1]).apply(&z, size, 1);
    taps(size[2]).apply(&y, size, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every filter keeps a constant and acts along its axis only.
    #[test]
    fn filters_keep_constants_and_other_axes() {
        let size = [9, 5, 7];
        let n = 9 * 5 * 7;
        for make in [
            |n| Taps::gaussian(n, 0.8),
            Taps::binomial,
            |n| Taps::low_resolution(n, 0.55),
            |n| Taps::slices(n, 2.6, 0.3),
        ] as [fn(usize) -> Taps; 4]
        {
            assert!(
                along_all(&vec![3.0; n], size, make)
                    .iter()
                    .all(|v| (v - 3.0).abs() < 1e-5)
            );
            // A ramp along y is untouched by filters along z and x.
            let ramp: Vec<f32> = (0..n).map(|i| (i / 7 % 5) as f32).collect();
            let z = make(9).apply(&ramp, size, 0);
            let x = make(7).apply(&z, size, 2);
            assert!(x.iter().zip(&ramp).all(|(a, b)| (a - b).abs() < 1e-5));
        }
    }

    #[test]
    fn a_blurred_impulse_has_its_sigma() {
        let mut data = vec![0.0; 31];
        data[15] = 1.0;
        let out = Taps::gaussian(31, 1.5).apply(&data, [1, 1, 31], 2);
        let variance: f32 = out.iter().enumerate().map(|(i, v)| v * (i as f32 - 15.0).powi(2)).sum();
        assert!((variance - 2.25).abs() < 0.1, "{variance}");
    }

    /// Thick slices average: an impulse spreads over its slice and the ramps beside it, and nothing is lost.
    #[test]
    fn thick_slices_keep_the_sum() {
        let mut data = vec![0.0; 40];
        data[20] = 1.0;
        let out = Taps::slices(40, 4.0, 0.5).apply(&data, [40, 1, 1], 0);
        assert!((out.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(out.iter().all(|v| *v < 0.3) && out.iter().filter(|v| **v > 0.0).count() >= 7);
    }
}
