//! From scanner space to the body frame: position, size and posture of the patient, and a smooth random deformation.

use super::draw::Draw;
use super::shape::{Point, add, sub, turned};
use super::texture;

/// A map from a world point to the body frame.
pub(super) struct Deformation {
    /// World point of the body frame's origin.
    origin: Point,
    /// Rows map an offset in the world to one in the body frame.
    rows: [Point; 3],
    /// Seed, lattice spacing (mm) and amplitude (mm) of each octave of the displacement.
    octaves: Vec<(u32, f32, f32)>,
}

impl Deformation {
    /// Draws a patient of random size and posture, whose body frame starts at `origin` in the world.
    ///
    /// `strength` scales everything that departs from the mean anatomy; 0 is the identity.
    pub(super) fn draw(origin: Point, strength: f32, draw: &mut Draw) -> Self {
        let size = strength * draw.within(-0.09, 0.09);
        let tilt: Point = std::array::from_fn(|a| strength * draw.normal(0.0, [0.03, 0.025, 0.05][a]));
        let shear = strength * draw.normal(0.0, 0.02);
        let mut rows = turned(tilt[0], tilt[1], tilt[2]);
        for row in &mut rows {
            let stretch = 1.0 + size + strength * draw.within(-0.07, 0.07);
            *row = row.map(|c| c / stretch);
        }
        rows[0][2] += shear;
        let octaves = [(110.0, 11.0), (55.0, 4.0), (28.0, 1.6)]
            .map(|(scale, amplitude)| (draw.seed(), scale, strength * amplitude * draw.within(0.3, 1.0)))
            .to_vec();
        Self { origin, rows, octaves }
    }

    /// The body-frame point of a world point.
    pub(super) fn body_point(&self, world: Point) -> Point {
        let offset = sub(world, self.origin);
        let mut p: Point = std::array::from_fn(|a| super::shape::dot(self.rows[a], offset));
        for &(seed, scale, amplitude) in &self.octaves {
            let at = |k: u32| amplitude * b_spline_noise(seed ^ k.wrapping_mul(0x27d4_eb2f), offset, scale);
            p = add(p, [at(1), at(2), at(3)]);
        }
        p
    }
}

/// Cubic B-spline of random lattice numbers in −1…1: twice differentiable, so that organs bend and do not kink.
fn b_spline_noise(seed: u32, point: Point, scale: f32) -> f32 {
    let (mut base, mut weights) = ([0i32; 3], [[0f32; 4]; 3]);
    for a in 0..3 {
        let v = point[a] / scale;
        base[a] = v.floor() as i32;
        let t = v - v.floor();
        let s = 1.0 - t;
        weights[a] = [
            s * s * s / 6.0,
            (3.0 * t * t * t - 6.0 * t * t + 4.0) / 6.0,
            (3.0 * s * s * s - 6.0 * s * s + 4.0) / 6.0,
            t * t * t / 6.0,
        ];
    }
    let mut sum = 0.0;
    for (k, wz) in weights[2].iter().enumerate() {
        for (j, wy) in weights[1].iter().enumerate() {
            for (i, wx) in weights[0].iter().enumerate() {
                let h = texture::hash(seed, base[0] + i as i32, base[1] + j as i32, base[2] + k as i32);
                sum += wx * wy * wz * texture::unit(h);
            }
        }
    }
    // The weights damp the lattice numbers to about a third.
    2.2 * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deformation_does_not_fold_space() {
        for seed in 0..20 {
            let map = Deformation::draw([3.0, -20.0, 500.0], 1.0, &mut Draw::new(seed, 1));
            for i in 0..200 {
                let at = [
                    (i * 37 % 300) as f32 - 150.0,
                    (i * 53 % 220) as f32 - 110.0,
                    (i * 71 % 300) as f32 + 300.0,
                ];
                let here = map.body_point(at);
                for axis in 0..3 {
                    let mut next = at;
                    next[axis] += 1.0;
                    let step = map.body_point(next)[axis] - here[axis];
                    assert!((0.4..1.8).contains(&step), "seed {seed}: {step}");
                }
            }
        }
    }

    #[test]
    fn no_strength_is_a_shift() {
        let map = Deformation::draw([1.0, 2.0, 3.0], 0.0, &mut Draw::new(1, 1));
        assert_eq!(map.body_point([11.0, 2.0, -7.0]), [10.0, 0.0, -10.0]);
    }
}
