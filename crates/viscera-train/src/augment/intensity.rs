//! nnU-Net's changes of the normalised input, in its order.

use super::filter::{Taps, along_all};
use super::noise::add_white;
use super::{drawn, drawn_factor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::cmp::Ordering;
use viscera_image::{Volume, moments};
use viscera_pipeline::recipe::Augment;

/// Voxels per piece of work.
const CHUNK: usize = 1 << 14;

/// Noise, blur, brightness, contrast, low resolution, gamma of the inverted image, gamma.
pub(crate) fn change_normalised(volume: &mut Volume<f32>, augment: &Augment, rng: &mut ChaCha8Rng) {
    let size = volume.shape();
    if let Some(std) = drawn(augment.noise_std, rng) {
        add_white(volume.data_mut(), std as f32, rng.random());
    }
    if let Some(sigma) = drawn(augment.blur_sigma, rng) {
        let blurred = along_all(volume.data(), size, |n| Taps::gaussian(n, sigma));
        volume.data_mut().copy_from_slice(&blurred);
    }
    if let Some(factor) = drawn(augment.brightness, rng) {
        each(volume.data_mut(), |v| v * factor as f32);
    }
    if let Some(factor) = drawn_factor(augment.contrast, rng)
        && let Some(found) = moments(volume.data())
    {
        let (low, high) = range(volume.data());
        let (mean, factor) = (found.mean as f32, factor as f32);
        each(volume.data_mut(), |v| ((v - mean) * factor + mean).clamp(low, high));
    }
    if let Some(zoom) = drawn(augment.low_resolution, rng) {
        let coarse = along_all(volume.data(), size, |n| Taps::low_resolution(n, zoom));
        volume.data_mut().copy_from_slice(&coarse);
    }
    if let Some(exponent) = drawn_factor(augment.gamma_inverted, rng) {
        each(volume.data_mut(), |v| -v);
        gamma(volume.data_mut(), exponent as f32);
        each(volume.data_mut(), |v| -v);
    }
    if let Some(exponent) = drawn_factor(augment.gamma, rng) {
        gamma(volume.data_mut(), exponent as f32);
    }
}

/// Raises the values, scaled to 0..1, to a power; mean and standard deviation stay.
fn gamma(data: &mut [f32], exponent: f32) {
    let (low, high) = range(data);
    let Some(before) = moments(data) else { return };
    if high.partial_cmp(&low) != Some(Ordering::Greater) {
        return; // flat, or NaN
    }
    each(data, |v| ((v - low) / (high - low)).max(0.0).powf(exponent));
    let Some(after) = moments(data) else { return };
    let factor = (before.std / after.std.max(1e-8)) as f32;
    let (from, to) = (after.mean as f32, before.mean as f32);
    each(data, |v| (v - from) * factor + to);
}

fn each(data: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    data.par_chunks_mut(CHUNK)
        .for_each(|data| data.iter_mut().for_each(|v| *v = f(*v)));
}

fn range(data: &[f32]) -> (f32, f32) {
    data.par_chunks(CHUNK)
        .map(|data| {
            data.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| {
                (low.min(v), high.max(v))
            })
        })
        .reduce(
            || (f32::INFINITY, f32::NEG_INFINITY),
            |a, b| (a.0.min(b.0), a.1.max(b.1)),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use viscera_image::Geometry;
    use viscera_pipeline::recipe::Chance;

    fn volume() -> Volume<f32> {
        let data = (0..1000).map(|i| (i % 37) as f32 / 10.0 - 1.8).collect();
        Volume::new(Geometry::ras([10; 3], [1.0; 3]), data).unwrap()
    }

    /// A probability of 0 changes nothing; gamma keeps mean and spread but not the values; contrast keeps the range.
    #[test]
    fn changes_keep_what_they_should() {
        let before = volume();
        let sure = |low, high| Some(Chance::new(1.0, [low, high]));
        let run = |augment: Augment| {
            let mut v = volume();
            change_normalised(&mut v, &augment, &mut ChaCha8Rng::seed_from_u64(4));
            v
        };
        let off = Augment {
            noise_std: Some(Chance::new(0.0, [1.0, 2.0])),
            ..Augment::default()
        };
        assert_eq!(run(off), before);
        for augment in [
            Augment {
                gamma: sure(1.4, 1.5),
                ..Augment::default()
            },
            Augment {
                gamma_inverted: sure(1.4, 1.5),
                ..Augment::default()
            },
        ] {
            let after = run(augment);
            let (a, b) = (moments(before.data()).unwrap(), moments(after.data()).unwrap());
            assert!((a.mean - b.mean).abs() < 1e-4 && (a.std - b.std).abs() < 1e-4);
            assert!(
                before
                    .data()
                    .iter()
                    .zip(after.data())
                    .any(|(a, b)| (a - b).abs() > 0.05)
            );
        }
        let after = run(Augment {
            contrast: sure(1.2, 1.25),
            ..Augment::default()
        });
        assert_eq!(range(after.data()), range(before.data()));
        assert!(moments(after.data()).unwrap().std > 1.1 * moments(before.data()).unwrap().std);
    }
}
