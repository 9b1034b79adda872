//! Trilinear enlargement that keeps the first and last voxel centres (align-corners), and its transpose.

/// The way between two grids.
pub(crate) struct Enlarge {
    from: [usize; 3],
    /// For each place of each axis of the large grid: the lower of the two places on the small one, and the upper one's
    /// weight.
    taps: [Vec<(usize, f32)>; 3],
}

impl Enlarge {
    /// From one size to another `[z, y, x]`.
    pub(crate) fn new(from: [usize; 3], to: [usize; 3]) -> Self {
        let taps = std::array::from_fn(|a| {
            let scale = (from[a] - 1) as f64 / (to[a].max(2) - 1) as f64;
            let tap = |i: usize| {
                let place = i as f64 * scale;
                let low = (place as usize).min(from[a].saturating_sub(2));
                (low, (place - low as f64) as f32)
            };
            (0..to[a]).map(tap).collect()
        });
        Self { from, taps }
    }

    /// The enlarged array.
    pub(crate) fn forward(&self, data: &[f32]) -> Vec<f32> {
        let mut size = self.from;
        let mut data = data.to_vec();
        for axis in 0..3 {
            let (n, inner) = (size[axis], size[axis + 1..].iter().product::<usize>());
            let taps = &self.taps[axis];
            let mut out = vec![0.0; data.len() / n * taps.len()];
            for (block, out) in data
                .chunks_exact(n * inner)
                .zip(out.chunks_exact_mut(taps.len() * inner))
            {
                for (&(low, t), out) in taps.iter().zip(out.chunks_exact_mut(inner)) {
                    let (a, b) = (&block[low * inner..], &block[(low + 1).min(n - 1) * inner..]);
                    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
                        *out = a + t * (b - a);
                    }
                }
            }
            size[axis] = taps.len();
            data = out;
        }
        data
    }

    /// The gradient of the small array, of that of the enlarged one.
    pub(crate) fn backward(&self, gradient: &[f32]) -> Vec<f32> {
        let mut size: [usize; 3] = std::array::from_fn(|a| self.taps[a].len());
        let mut data = gradient.to_vec();
        for axis in (0..3).rev() {
            let (n, inner) = (self.from[axis], size[axis + 1..].iter().product::<usize>());
            let taps = &self.taps[axis];
            let mut out = vec![0.0; data.len() / taps.len() * n];
            for (block, out) in data
                .chunks_exact(taps.len() * inner)
                .zip(out.chunks_exact_mut(n * inner))
            {
                for (&(low, t), values) in taps.iter().zip(block.chunks_exact(inner)) {
                    for (place, share) in [(low, 1.0 - t), ((low + 1).min(n - 1), t)] {
                        for (out, value) in out[place * inner..][..inner].iter_mut().zip(values) {
                            *out += share * value;
                        }
                    }
                }
            }
            size[axis] = n;
            data = out;
        }
        data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A linear function stays one; ⟨Ax, y⟩ = ⟨x, Aᵀy⟩; an axis of one voxel is repeated.
    #[test]
    fn enlarging_is_linear_and_transposed_right() {
        let (from, to) = ([2, 3, 4], [5, 6, 13]);
        let way = Enlarge::new(from, to);
        let place = |i: usize, size: [usize; 3]| [i / (size[1] * size[2]), i / size[2] % size[1], i % size[2]];
        let plane = |i: usize, size: [usize; 3]| -> f32 {
            let share = |a: usize| place(i, size)[a] as f32 / (size[a] - 1) as f32;
            1.0 + 2.0 * share(0) - share(1) + 0.5 * share(2)
        };
        let small: Vec<f32> = (0..24).map(|i| plane(i, from)).collect();
        let large = way.forward(&small);
        assert!(large.iter().enumerate().all(|(i, v)| (v - plane(i, to)).abs() < 1e-5));

        let x: Vec<f32> = (0..24).map(|i| ((i * 7) as f32).sin()).collect();
        let y: Vec<f32> = (0..5 * 6 * 13).map(|i| ((i * 5) as f32).cos()).collect();
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let (left, right) = (product(&way.forward(&x), &y), product(&x, &way.backward(&y)));
        assert!((left - right).abs() < 1e-4, "{left} {right}");

        let flat = Enlarge::new([1, 2, 2], [3, 2, 2]);
        assert_eq!(flat.forward(&[1.0, 2.0, 3.0, 4.0]), [1.0, 2.0, 3.0, 4.0].repeat(3));
        assert_eq!(flat.backward(&[1.0; 12]), [3.0; 4]);
    }
}
