//! Where a voxel grid lies in the patient.
//!
//! Index triples are `[z, y, x]`, as the data lie in memory (x fastest). World points are `[right, anterior, superior]`
//! in millimetres, the RAS+ frame of NIfTI (DICOM's and ITK's LPS differs by the sign of the first two).
//! A voxel's index names its centre.

use crate::ImageError;
use serde::{Deserialize, Serialize};

/// The grid of a volume: shape, spacing, and its place in the world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Geometry {
    /// Voxels along `[z, y, x]`; none is zero.
    pub shape: [usize; 3],
    /// Millimetres between voxel centres along `[z, y, x]`; positive and finite.
    pub spacing: [f64; 3],
    /// World point `[R, A, S]` in mm of the centre of voxel `[0, 0, 0]`.
    pub origin: [f64; 3],
    /// `direction[axis]` is the unit world vector `[R, A, S]` along which array axis `axis` (0 = z, 1 = y, 2 = x) grows.
    /// The three are orthonormal.
    pub direction: [[f64; 3]; 3],
}

impl Geometry {
    /// A grid with axes along the body: x grows to the right, y to the front, z upwards (RAS+), origin at zero.
    #[must_use]
    pub fn ras(shape: [usize; 3], spacing: [f64; 3]) -> Self {
        Self {
            shape,
            spacing,
            origin: [0.0; 3],
            direction: [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]],
        }
    }

    /// Checks what the fields promise.
    ///
    /// # Errors
    /// [`ImageError::BadGeometry`] when an extent is zero, the number of voxels overflows, a spacing is not positive
    /// and finite, an origin is not finite, or the directions are not orthonormal to 1e-3.
    pub fn validate(&self) -> Result<(), ImageError> {
        let bad = |reason: String| Err(ImageError::BadGeometry { reason });
        if self.shape.contains(&0) {
            return bad(format!("shape {:?} has an empty axis", self.shape));
        }
        if self
            .shape
            .iter()
            .try_fold(1usize, |n, &s| n.checked_mul(s))
            .is_none_or(|n| n > isize::MAX as usize / 8)
        {
            return bad(format!("shape {:?} is too large", self.shape));
        }
        if !self.spacing.iter().all(|s| s.is_finite() && *s > 0.0) {
            return bad(format!("spacing {:?} mm is not positive and finite", self.spacing));
        }
        if !self.origin.iter().all(|o| o.is_finite()) {
            return bad(format!("origin {:?} mm is not finite", self.origin));
        }
        for a in 0..3 {
            for b in a..3 {
                let dot = dot(self.direction[a], self.direction[b]);
                let want = if a == b { 1.0 } else { 0.0 };
                if dot.is_nan() || (dot - want).abs() > 1e-3 {
                    return bad("directions are not orthonormal".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Number of voxels.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a grid is never empty
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Volume of one voxel in mm³.
    #[must_use]
    pub fn voxel_volume_mm3(&self) -> f64 {
        self.spacing.iter().product()
    }

    /// World point `[R, A, S]` in mm of a (fractional) index `[z, y, x]`.
    #[must_use]
    pub fn world_of(&self, index: [f64; 3]) -> [f64; 3] {
        let mut world = self.origin;
        for axis in 0..3 {
            for (w, d) in world.iter_mut().zip(self.direction[axis]) {
                *w += d * self.spacing[axis] * index[axis];
            }
        }
        world
    }

    /// Fractional index `[z, y, x]` of a world point `[R, A, S]` in mm; the inverse of [`Self::world_of`].
    #[must_use]
    pub fn index_of(&self, world: [f64; 3]) -> [f64; 3] {
        let delta = [
            world[0] - self.origin[0],
            world[1] - self.origin[1],
            world[2] - self.origin[2],
        ];
        std::array::from_fn(|axis| dot(delta, self.direction[axis]) / self.spacing[axis])
    }

    /// Checks that two grids are the same to a thousandth of a millimetre at all corners.
    ///
    /// # Errors
    /// [`ImageError::GridMismatch`] when they are not.
    pub fn require_same_grid(&self, other: &Self) -> Result<(), ImageError> {
        if self.same_grid(other, 1e-3) {
            Ok(())
        } else {
            Err(ImageError::GridMismatch {
                left: self.shape,
                right: other.shape,
            })
        }
    }

    /// Whether two grids have equal shape and lie within `tolerance_mm` of each other at all eight corners.
    #[must_use]
    pub fn same_grid(&self, other: &Self, tolerance_mm: f64) -> bool {
        self.shape == other.shape
            && (0..8).all(|corner| {
                let index = std::array::from_fn(|axis| {
                    if corner >> axis & 1 == 1 {
                        (self.shape[axis] - 1) as f64
                    } else {
                        0.0
                    }
                });
                let (a, b) = (self.world_of(index), other.world_of(index));
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance_mm)
            })
    }
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// A box of whole voxels, `start` included, `end` excluded, both `[z, y, x]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Box3 {
    /// First voxel inside.
    pub start: [usize; 3],
    /// First voxel past the end.
    pub end: [usize; 3],
}

impl Box3 {
    /// The box of a whole grid.
    #[must_use]
    pub fn whole(shape: [usize; 3]) -> Self {
        Self {
            start: [0; 3],
            end: shape,
        }
    }

    /// Voxels along `[z, y, x]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.end[a] - self.start[a])
    }

    /// The box grown by `margin_mm` on each side (rounded up to whole voxels) and cut to the grid.
    #[must_use]
    pub fn grown_mm(&self, margin_mm: [f64; 3], geometry: &Geometry) -> Self {
        let voxels: [usize; 3] = std::array::from_fn(|a| (margin_mm[a] / geometry.spacing[a]).ceil().max(0.0) as usize);
        Self {
            start: std::array::from_fn(|a| self.start[a].saturating_sub(voxels[a])),
            end: std::array::from_fn(|a| self.end[a].saturating_add(voxels[a]).min(geometry.shape[a])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oblique() -> Geometry {
        let (s, c) = 0.3f64.sin_cos();
        Geometry {
            origin: [1.0, -2.0, 3.0],
            direction: [[0.0, -s, c], [0.0, c, s], [-1.0, 0.0, 0.0]],
            ..Geometry::ras([4, 5, 6], [2.5, 0.5, 0.75])
        }
    }

    #[test]
    fn world_and_index_are_inverse() {
        let g = oblique();
        assert_eq!(g.world_of([0.0; 3]), g.origin);
        // x grows to the left here.
        assert_eq!(g.world_of([0.0, 0.0, 2.0]), [-0.5, -2.0, 3.0]);
        let index = [1.25, 3.0, -0.5];
        let back = g.index_of(g.world_of(index));
        assert!(back.iter().zip(index).all(|(a, b)| (a - b).abs() < 1e-12), "{back:?}");
        assert_eq!(g.voxel_volume_mm3(), 0.9375);
    }

    #[test]
    fn impossible_grids_are_errors() {
        assert!(oblique().validate().is_ok());
        let broken: [fn(&mut Geometry); 8] = [
            |g| g.shape[1] = 0,
            |g| g.shape = [usize::MAX, 2, 2],
            |g| g.spacing[0] = 0.0,
            |g| g.spacing[2] = f64::NAN,
            |g| g.origin[1] = f64::INFINITY,
            |g| g.direction[0] = [0.0; 3],
            |g| g.direction[2][0] = f64::NAN,
            |g| g.direction[1] = g.direction[2],
        ];
        for (i, spoil) in broken.iter().enumerate() {
            let mut g = oblique();
            spoil(&mut g);
            assert!(matches!(g.validate(), Err(ImageError::BadGeometry { .. })), "case {i}");
        }
    }

    #[test]
    fn grids_are_compared_at_all_corners() {
        let g = oblique();
        let mut turned = g.clone();
        let (s, c) = 0.31f64.sin_cos();
        turned.direction[0] = [0.0, -s, c];
        turned.direction[1] = [0.0, c, s];
        // Both share the origin; the far corner moves by 0.01 rad of 8 mm.
        assert!(!g.same_grid(&turned, 0.05));
        assert!(g.same_grid(&turned, 0.1));
        assert!(g.require_same_grid(&turned).is_err());
    }

    #[test]
    fn margins_are_mm_and_stay_inside() {
        let region = Box3 {
            start: [1, 2, 3],
            end: [2, 3, 4],
        };
        let grown = region.grown_mm([2.6, 0.5, 100.0], &oblique());
        assert_eq!((grown.start, grown.end), ([0, 1, 0], [4, 4, 6]));
    }
}
