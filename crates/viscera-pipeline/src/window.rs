//! Where patches lie, and what their voxels count in the average (nnU-Net's rules).

use crate::recipe::PatchWeights;

/// Standard deviation of the Gaussian, in patches.
const SIGMA: f64 = 1.0 / 8.0;

/// How often patches can be made smaller: down to half their length.
pub(crate) const SHRINKS: u8 = 4;

/// A patch that is smaller by so many eighths along each axis, as far as halvings of the network allow (five, or as many
/// as the patch itself allows).
pub(crate) fn shrunk(patch: [usize; 3], eighths: u8) -> [usize; 3] {
    patch.map(|length| {
        let unit = 1 << length.trailing_zeros().min(5);
        let wanted = length * (8 - usize::from(eighths.min(SHRINKS))) / 8;
        wanted.div_ceil(unit).max(1) * unit
    })
}

/// First voxels of the patches along one axis: as few as keep neighbours at most `step` patches apart, evenly spread,
/// rounded to even on ties as in Python. `n` is at least the patch.
pub(crate) fn positions(n: usize, patch: usize, step: f64) -> Vec<usize> {
    let free = n.saturating_sub(patch) as f64;
    // No more than there are places: a tiny step asks for none twice.
    let count = ((free / (patch as f64 * step)).ceil() as usize).min(free as usize) + 1;
    let stride = if count > 1 { free / (count - 1) as f64 } else { 0.0 };
    (0..count)
        .map(|i| (stride * i as f64).round_ties_even() as usize)
        .collect()
}

/// What the voxels of a patch count along one axis; a voxel counts the product over the axes. The greatest is 1.
pub(crate) fn weights(patch: usize, kind: PatchWeights) -> Vec<f32> {
    let sigma = patch as f64 * SIGMA;
    (0..patch)
        .map(|i| match kind {
            PatchWeights::Uniform => 1.0,
            PatchWeights::Gaussian => {
                let d = (i as f64 - (patch / 2) as f64) / sigma;
                (-0.5 * d * d).exp() as f32
            }
        })
        .collect()
}

/// Sum of the weights of all patches along an axis, voxel by voxel.
pub(crate) fn coverage(n: usize, positions: &[usize], weights: &[f32]) -> Vec<f32> {
    let mut sums = vec![0.0; n];
    for &start in positions {
        for (sum, weight) in sums.iter_mut().skip(start).zip(weights) {
            *sum += weight;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From nnunetv2's `compute_steps_for_sliding_window`.
    #[test]
    fn positions_are_nnunets() {
        assert_eq!(positions(300, 128, 0.5), [0, 57, 115, 172]);
        assert_eq!(positions(129, 128, 0.5), [0, 1]);
        assert_eq!(positions(128, 128, 0.5), [0]);
        assert_eq!(positions(257, 96, 1.0), [0, 80, 161]);
        // 2.5 is rounded to 2.
        assert_eq!(positions(13, 8, 0.5), [0, 2, 5]);
        // A step below a voxel: every place once.
        assert_eq!(positions(11, 8, 1e-12), [0, 1, 2, 3]);
        assert_eq!(positions(8, 8, 1e-12), [0]);
    }

    #[test]
    fn every_voxel_is_covered_by_neighbours_no_farther_than_a_step() {
        for n in 8..60 {
            for step in [0.3, 0.5, 0.75, 1.0] {
                let starts = positions(n, 8, step);
                assert_eq!((starts[0], starts[starts.len() - 1]), (0, n - 8));
                assert!(starts.windows(2).all(|w| (w[1] - w[0]) as f64 <= 8.0 * step + 1.0));
                let sums = coverage(n, &starts, &weights(8, PatchWeights::Uniform));
                assert!(sums.iter().all(|s| *s >= 1.0), "{n} {step}");
            }
        }
    }

    #[test]
    fn the_gaussian_is_scipys() {
        // scipy.ndimage.gaussian_filter of a delta at 4 of 8 with sigma 1, divided by its greatest value.
        let found = weights(8, PatchWeights::Gaussian);
        let want = [
            3.354_626e-4,
            0.011_108_997,
            0.135_335_28,
            0.606_530_66,
            1.0,
            0.606_530_66,
            0.135_335_28,
            0.011_108_997,
        ];
        for (found, want) in found.iter().zip(want) {
            assert!((found - want).abs() < 1e-6, "{found} {want}");
        }
    }
}
