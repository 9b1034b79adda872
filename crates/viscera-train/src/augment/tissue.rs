//! Changes in Hounsfield units, before the window: what scanner, kernel and contrast phase make of the same patient.

use super::filter::{Taps, along_all};
use super::noise::add_white;
use super::{drawn, evenly, factor};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use viscera_image::{AnnotatedClasses, Volume};
use viscera_pipeline::recipe::Augment;

/// Voxels per piece of work.
const CHUNK: usize = 1 << 14;
/// What is left of white noise's standard deviation after the binomial kernel along three axes: sqrt(3/8)³.
const GRAIN_LEFT: f64 = 0.229_639_66;
/// Knots of the tissue curve in HU; the first and last stay where they are.
const KNOTS: [f32; 9] = [-150.0, -70.0, -20.0, 20.0, 50.0, 90.0, 140.0, 220.0, 325.0];

/// Thick slices, brightness and contrast of single organs, tissue curve, sharpening, grainy noise.
///
/// `labels` lie on the same grid; only ids in `organs` are changed one by one.
pub(crate) fn change_hu(
    volume: &mut Volume<f32>,
    labels: &[u8],
    organs: AnnotatedClasses,
    augment: &Augment,
    rng: &mut ChaCha8Rng,
) {
    let size = volume.shape();
    if let Some(mm) = drawn(augment.slice_mm, rng) {
        let thick = mm / volume.geometry().spacing[0];
        let phase = rng.random::<f64>();
        if thick > 1.0 {
            let sliced = Taps::slices(size[0], thick, phase).apply(volume.data(), size, 0);
            volume.data_mut().copy_from_slice(&sliced);
        }
    }
    change_organs(volume.data_mut(), labels, organs, augment, rng);
    if let Some(strength) = drawn(augment.tissue_curve, rng) {
        let curve = Curve::random(strength, rng);
        volume
            .data_mut()
            .par_chunks_mut(CHUNK)
            .for_each(|data| data.iter_mut().for_each(|v| *v = curve.at(*v)));
    }
    if let Some(share) = drawn(augment.sharpen, rng) {
        let blurred = along_all(volume.data(), size, |n| Taps::gaussian(n, 1.0));
        let share = share as f32;
        let data = volume.data_mut().par_chunks_mut(CHUNK).zip(blurred.par_chunks(CHUNK));
        data.for_each(|(data, blurred)| {
            for (v, b) in data.iter_mut().zip(blurred) {
                *v += share * (*v - b);
            }
        });
    }
    if let Some(std) = drawn(augment.noise_hu, rng) {
        let mut noise = vec![0.0; volume.data().len()];
        add_white(&mut noise, (std / GRAIN_LEFT) as f32, rng.random());
        let noise = along_all(&noise, size, Taps::binomial);
        let data = volume.data_mut().par_chunks_mut(CHUNK).zip(noise.par_chunks(CHUNK));
        data.for_each(|(data, noise)| data.iter_mut().zip(noise).for_each(|(v, n)| *v += n));
    }
}

/// `v ← mean + contrast (v − mean) + shift` inside each organ that is drawn.
fn change_organs(data: &mut [f32], labels: &[u8], organs: AnnotatedClasses, augment: &Augment, rng: &mut ChaCha8Rng) {
    let mut changes = [(1.0f32, 0.0f32); 256];
    for id in organs.iter().filter(|&id| id > 0) {
        let change = &mut changes[usize::from(id)];
        if let Some(contrast) = augment.organ_contrast
            && rng.random::<f64>() < contrast.probability
        {
            change.0 = factor(contrast.range, rng) as f32;
        }
        if let Some(shift) = drawn(augment.organ_shift_hu, rng) {
            change.1 = shift as f32;
        }
    }
    if changes.iter().all(|c| *c == (1.0, 0.0)) {
        return;
    }
    let partial: Vec<(Vec<f64>, Vec<u32>)> = data
        .par_chunks(CHUNK)
        .zip(labels.par_chunks(CHUNK))
        .map(|(data, labels)| {
            let (mut sums, mut counts) = (vec![0.0; 256], vec![0; 256]);
            for (&v, &label) in data.iter().zip(labels) {
                sums[usize::from(label)] += f64::from(v);
                counts[usize::from(label)] += 1;
            }
            (sums, counts)
        })
        .collect();
    let mut offsets = [0.0f32; 256];
    for id in 0..256 {
        let sum: f64 = partial.iter().map(|p| p.0[id]).sum();
        let count: u64 = partial.iter().map(|p| u64::from(p.1[id])).sum();
        let (contrast, shift) = changes[id];
        offsets[id] = (1.0 - contrast) * (sum / count.max(1) as f64) as f32 + shift;
    }
    data.par_chunks_mut(CHUNK)
        .zip(labels.par_chunks(CHUNK))
        .for_each(|(data, labels)| {
            for (v, &label) in data.iter_mut().zip(labels) {
                *v = *v * changes[usize::from(label)].0 + offsets[usize::from(label)];
            }
        });
}

/// A rising piecewise linear curve from HU to HU; what lies beyond the first and last knot stays.
struct Curve {
    values: [f32; KNOTS.len()],
}

impl Curve {
    /// Slopes are drawn between `e^−strength` and `e^strength`, then scaled so that the last knot stays.
    fn random(strength: f64, rng: &mut ChaCha8Rng) -> Self {
        let mut values = KNOTS;
        for i in 1..KNOTS.len() {
            let slope = evenly([-strength, strength], rng).exp() as f32;
            values[i] = values[i - 1] + slope * (KNOTS[i] - KNOTS[i - 1]);
        }
        let (first, last) = (KNOTS[0], KNOTS[KNOTS.len() - 1]);
        let scale = (last - first) / (values[KNOTS.len() - 1] - first);
        Self {
            values: values.map(|v| first + (v - first) * scale),
        }
    }

    fn at(&self, hu: f32) -> f32 {
        let above = KNOTS.iter().filter(|k| hu >= **k).count();
        if above == 0 || above == KNOTS.len() {
            return hu;
        }
        let (low, high) = (KNOTS[above - 1], KNOTS[above]);
        let t = (hu - low) / (high - low);
        self.values[above - 1] + t * (self.values[above] - self.values[above - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use viscera_image::{Geometry, moments};
    use viscera_pipeline::recipe::Chance;

    #[test]
    fn curves_rise_and_keep_their_ends() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..20 {
            let curve = Curve::random(0.9, &mut rng);
            for hu in [-1000.0, -151.0, -150.0, 325.0, 900.0] {
                assert!((curve.at(hu) - hu).abs() < 1e-2);
            }
            let values: Vec<f32> = (-1100..1100).map(|hu| curve.at(hu as f32)).collect();
            assert!(values.windows(2).all(|w| w[1] >= w[0]));
        }
    }

    /// Organs change, each by itself; what is not annotated does not.
    #[test]
    fn organs_change_alone() {
        let labels: Vec<u8> = (0..4000).map(|i| (i / 1000) as u8).collect();
        let mut data: Vec<f32> = (0..4000).map(|i| (i % 7) as f32 * 10.0).collect();
        let before = data.clone();
        let augment = Augment {
            organ_shift_hu: Some(Chance::new(1.0, [50.0, 90.0])),
            organ_contrast: Some(Chance::new(1.0, [1.5, 1.6])),
            ..Augment::default()
        };
        let organs = [1, 2].into_iter().collect();
        change_organs(&mut data, &labels, organs, &augment, &mut ChaCha8Rng::seed_from_u64(3));
        assert_eq!((&data[..1000], &data[3000..]), (&before[..1000], &before[3000..]));
        let shifts = [1, 2].map(|organ| {
            let part = organ * 1000..organ * 1000 + 1000;
            let (a, b) = (moments(&before[part.clone()]).unwrap(), moments(&data[part]).unwrap());
            assert!((1.5..1.6001).contains(&(b.std / a.std)) && (50.0..90.0).contains(&(b.mean - a.mean)));
            b.mean - a.mean
        });
        assert!((shifts[0] - shifts[1]).abs() > 0.1);
    }

    #[test]
    fn grainy_noise_has_its_standard_deviation() {
        let mut volume = Volume::filled(Geometry::ras([40; 3], [1.0; 3]), 0.0f32).unwrap();
        let augment = Augment {
            noise_hu: Some(Chance::new(1.0, [20.0, 20.0])),
            ..Augment::default()
        };
        let labels = vec![0; 64_000];
        change_hu(
            &mut volume,
            &labels,
            AnnotatedClasses::none(),
            &augment,
            &mut ChaCha8Rng::seed_from_u64(1),
        );
        let found = moments(volume.data()).unwrap();
        assert!((found.std - 20.0).abs() < 1.0, "{found:?}");
    }
}
