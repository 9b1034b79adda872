//! White noise by hashing the voxel's number: any number of threads draws the same.

use rayon::prelude::*;

/// Voxels per piece of work.
const CHUNK: usize = 1 << 14;
/// The sum of four even draws from 0..1 has this spread: sqrt(4 / 12).
const SPREAD: f32 = 0.577_350_26;

/// Adds noise of mean 0 and standard deviation `std`: the sum of four even draws, bell-shaped and never beyond 3.5 `std`.
pub(super) fn add_white(data: &mut [f32], std: f32, seed: u64) {
    data.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, data)| {
        let first = (chunk * CHUNK) as u64;
        for (i, v) in data.iter_mut().enumerate() {
            let bits = split_mix(seed.wrapping_add((first + i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
            *v += std * ((sum as f32 + 2.0) / 65536.0 - 2.0) / SPREAD;
        }
    });
}

/// The output function of SplitMix64 (Steele et al. 2014).
fn split_mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_the_moments_of_a_normal_and_no_memory() {
        let mut data = vec![0.0f32; 200_000];
        add_white(&mut data, 2.0, 7);
        let n = data.len() as f64;
        let moment = |p: i32| data.iter().map(|v| f64::from(*v / 2.0).powi(p)).sum::<f64>() / n;
        assert!(
            moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.01,
            "{} {}",
            moment(1),
            moment(2)
        );
        assert!(
            moment(3).abs() < 0.03 && (moment(4) - 2.7).abs() < 0.05,
            "{}",
            moment(4)
        );
        let neighbours = data.windows(2).map(|w| f64::from(w[0] * w[1])).sum::<f64>() / n;
        assert!(neighbours.abs() < 0.04);
    }
}
