//! What the scanner adds: reconstruction kernel, correlated noise, metal streaks, padding, whole HU.

use super::draw::Draw;
use super::texture;
use crate::Geometry;
use crate::blur::blur;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a scan was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanDescription {
    /// Noise at the middle of the body, standard deviation in HU.
    pub noise_hu: f32,
    /// Blur (positive, deviation in mm) or edge enhancement (negative, strength) of the reconstruction kernel.
    pub kernel: f32,
    /// HU outside the reconstruction circle, where the scan has one.
    pub padding_hu: Option<i16>,
    /// Whether streaks cross the body.
    pub streaks: bool,
}

/// Which effects to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effects {
    pub(super) noise: bool,
    /// Bounds of the noise at the middle of the body, HU.
    pub(super) noise_hu: Option<[f32; 2]>,
    /// Bounds of the kernel, as [`ScanDescription::kernel`].
    pub(super) kernel: Option<[f32; 2]>,
    pub(super) artefacts: bool,
}

/// Turns ideal HU on a RAS+ grid (slices along its first axis) into a scan: kernel, noise, streaks, padding, rounding.
///
/// `body` is the world point about which noise is strongest. The same draw gives the same bits for any number of
/// threads, as noise comes from a hash of the voxel's place.
pub(super) fn scan(
    mut hu: Vec<f32>,
    geometry: &Geometry,
    body: [f32; 3],
    effects: Effects,
    draw: &mut Draw,
) -> (Vec<i16>, ScanDescription) {
    let soft = draw.chance(0.6);
    // Bounds take the draws that they replace, so all else stays as it is without them.
    let kernel = match effects.kernel {
        Some([low, high]) => draw.within(low, high),
        None if soft => draw.within(0.2, 0.8),
        None => -draw.within(0.1, 0.7),
    };
    let soft = kernel > 0.0;
    let thin = (geometry.spacing[0] as f32).clamp(0.8, 5.0);
    let strength = draw.within(0.0, 1.0);
    let deviation = match effects.noise_hu {
        Some([low, high]) => low + (high - low) * strength,
        None => (3.0 + 26.0 * strength * strength) * (2.0 / thin).sqrt().clamp(0.7, 1.5),
    };
    let grain = draw.within(0.35, 1.1);
    let (noise_seed, streak_seed) = (draw.seed(), draw.seed());
    let streaks = draw.chance(0.05) && effects.artefacts;
    let angle = draw.within(0.0, std::f32::consts::PI);
    let padding = draw.chance(0.25).then(|| if draw.chance(0.5) { -3024 } else { -2000 });
    let padding = padding.filter(|_| effects.artefacts);
    let circle = draw.within(0.97, 1.01);

    let apply = |hu: &mut Vec<f32>, sigma_mm: f32| {
        for axis in [1, 2] {
            blur(hu, geometry.shape, axis, sigma_mm / geometry.spacing[axis] as f32);
        }
    };
    if effects.noise {
        if kernel > 0.0 {
            apply(&mut hu, kernel);
        } else {
            let mut smooth = hu.clone();
            // Within a voxel there is no edge: a kernel that is asked for reaches to the next one.
            let plane = effects
                .kernel
                .map_or(0.0, |_| geometry.spacing[1].max(geometry.spacing[2]) as f32);
            apply(&mut smooth, 0.9f32.max(0.7 * plane));
            hu.par_iter_mut()
                .zip(&smooth)
                .for_each(|(v, s)| *v += -kernel * (*v - s));
        }
    }

    let [_, ny, nx] = geometry.shape;
    let mut noise = Vec::new();
    if effects.noise {
        noise = vec![0f32; hu.len()];
        noise.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
            for (x, v) in line.iter_mut().enumerate() {
                *v = texture::gaussian(noise_seed, x, row % ny, row / ny);
            }
        });
        let white = spread(&noise);
        if soft {
            apply(&mut noise, grain);
        } else {
            // A sharp kernel takes the slow part of the noise away.
            let mut slow = noise.clone();
            apply(&mut slow, 1.6);
            apply(&mut noise, 0.4 * grain);
            noise.par_iter_mut().zip(&slow).for_each(|(v, s)| *v -= 0.8 * s);
        }
        let scale = deviation * white / spread(&noise).max(1e-6);
        noise.par_iter_mut().for_each(|v| *v *= scale);
    }

    let reach = |a: usize| 0.5 * geometry.shape[a] as f64 * geometry.spacing[a];
    let radius = reach(1).min(reach(2)) as f32 * circle;
    let middle = geometry.world_of(geometry.shape.map(|n| (n as f64 - 1.0) / 2.0));
    let middle = middle.map(|c| c as f32);
    let mut out = vec![0i16; hu.len()];
    out.par_chunks_mut(nx).enumerate().for_each(|(row, line)| {
        let (y, z) = (row % ny, row / ny);
        let start = geometry.world_of([z as f64, y as f64, 0.0]);
        for (x, voxel) in line.iter_mut().enumerate() {
            let at = row * nx + x;
            let p: [f32; 3] =
                std::array::from_fn(|w| (start[w] + geometry.direction[2][w] * geometry.spacing[2] * x as f64) as f32);
            let (r, a) = (p[0] - body[0], p[1] - body[1]);
            let mut value = hu[at];
            if let Some(n) = noise.get(at) {
                let from_centre = ((r / 160.0).powi(2) + (a / 115.0).powi(2)).min(1.6);
                value += n * (1.15 - 0.35 * from_centre);
            }
            if streaks {
                let across = r * angle.sin() + a * angle.cos();
                let along = r * angle.cos() - a * angle.sin();
                let fan = across / (along.abs() + 30.0) * 60.0;
                value += 70.0
                    * texture::noise(streak_seed, [fan, 0.0, p[2]], 4.0)
                    * (-(p[2] / 60.0).powi(2)).exp()
                    * (-(across / 120.0).powi(2)).exp();
            }
            let whole = value.round().clamp(-1024.0, 3071.0) as i16;
            let (r, a) = (p[0] - middle[0], p[1] - middle[1]);
            *voxel = match padding {
                Some(pad) if r * r + a * a > radius * radius => pad,
                _ => whole,
            };
        }
    });
    let description = ScanDescription {
        noise_hu: if effects.noise { deviation } else { 0.0 },
        kernel: if effects.noise { kernel } else { 0.0 },
        padding_hu: padding,
        streaks,
    };
    (out, description)
}

/// Standard deviation of every 97th value: enough to set a noise level.
fn spread(values: &[f32]) -> f32 {
    let (mut sum, mut squares, mut n) = (0f64, 0f64, 0f64);
    for &v in values.iter().step_by(97) {
        sum += f64::from(v);
        squares += f64::from(v) * f64::from(v);
        n += 1.0;
    }
    let mean = sum / n.max(1.0);
    (squares / n.max(1.0) - mean * mean).max(0.0).sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_the_promised_deviation() {
        let geometry = Geometry::ras([12, 60, 60], [3.0, 1.0, 1.0]);
        let effects = Effects {
            noise: true,
            noise_hu: None,
            kernel: None,
            artefacts: false,
        };
        for seed in 0..4 {
            let (out, description) = scan(
                vec![50.0; geometry.len()],
                &geometry,
                [30.0, 30.0, 0.0],
                effects,
                &mut Draw::new(seed, 0),
            );
            let values: Vec<f32> = out.iter().map(|&v| f32::from(v) - 50.0).collect();
            let found = spread(&values);
            assert!(
                (found / (1.1 * description.noise_hu) - 1.0).abs() < 0.25,
                "{found} for {description:?}"
            );
        }
    }
}
