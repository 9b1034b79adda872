//! Voxels together with their grid.

use crate::{Geometry, ImageError};

/// Voxels in (z, y, x) order, x fastest, with the grid they lie on.
///
/// The voxel type says what a volume is: `f32` and `i16` are intensities (HU for CT) and may be interpolated; `u8` are
/// label ids ([`LabelMap`]) and may not.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume<T> {
    geometry: Geometry,
    data: Vec<T>,
}

/// Label ids per voxel; 0 is background.
pub type LabelMap = Volume<u8>;

impl<T: Copy> Volume<T> {
    /// Joins voxels and grid.
    ///
    /// # Errors
    /// [`ImageError::LengthMismatch`] when `data` does not have one value per voxel; [`ImageError::BadGeometry`] from
    /// [`Geometry::validate`].
    pub fn new(geometry: Geometry, data: Vec<T>) -> Result<Self, ImageError> {
        geometry.validate()?;
        if data.len() != geometry.len() {
            return Err(ImageError::LengthMismatch {
                expected: geometry.len(),
                found: data.len(),
            });
        }
        Ok(Self { geometry, data })
    }

    /// Joins voxels to a grid that was made from a valid one and has as many voxels.
    pub(crate) fn from_valid(geometry: Geometry, data: Vec<T>) -> Self {
        debug_assert!(geometry.validate().is_ok() && data.len() == geometry.len());
        Self { geometry, data }
    }

    /// A volume of one value.
    ///
    /// # Errors
    /// [`ImageError::BadGeometry`] from [`Geometry::validate`].
    pub fn filled(geometry: Geometry, value: T) -> Result<Self, ImageError> {
        geometry.validate()?;
        let data = vec![value; geometry.len()];
        Ok(Self { geometry, data })
    }

    /// The grid.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// Replaces the grid by another of the same shape.
    ///
    /// # Errors
    /// [`ImageError::LengthMismatch`] for another shape; [`ImageError::BadGeometry`] from [`Geometry::validate`].
    pub fn set_geometry(&mut self, geometry: Geometry) -> Result<(), ImageError> {
        geometry.validate()?;
        if geometry.shape != self.geometry.shape {
            return Err(ImageError::LengthMismatch {
                expected: self.geometry.len(),
                found: geometry.len(),
            });
        }
        self.geometry = geometry;
        Ok(())
    }

    /// Voxels along `[z, y, x]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 3] {
        self.geometry.shape
    }

    /// All voxels, x fastest.
    #[must_use]
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All voxels, x fastest.
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }

    /// Grid and voxels, taken apart.
    #[must_use]
    pub fn into_parts(self) -> (Geometry, Vec<T>) {
        (self.geometry, self.data)
    }

    /// Position in [`Self::data`] of index `[z, y, x]`.
    #[must_use]
    pub fn offset(&self, index: [usize; 3]) -> usize {
        (index[0] * self.geometry.shape[1] + index[1]) * self.geometry.shape[2] + index[2]
    }

    /// The voxel at `[z, y, x]`, or `None` outside the grid.
    #[must_use]
    pub fn get(&self, index: [usize; 3]) -> Option<T> {
        (0..3)
            .all(|a| index[a] < self.geometry.shape[a])
            .then(|| self.data[self.offset(index)])
    }

    /// A volume on the same grid with `f` of each voxel.
    #[must_use]
    pub fn map<U: Copy>(&self, f: impl Fn(T) -> U) -> Volume<U> {
        Volume {
            geometry: self.geometry.clone(),
            data: self.data.iter().map(|&v| f(v)).collect(),
        }
    }
}
