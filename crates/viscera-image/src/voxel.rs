//! What a voxel may be.

use crate::ImageError;

/// A value that a volume can carry through every step that moves voxels without mixing them (reorientation, cropping,
/// nearest-neighbour resampling). Implemented for every fitting type; the default value is the background that pasting
/// leaves outside the pasted box.
pub trait Voxel: Copy + Default + Send + Sync {}

impl<T: Copy + Default + Send + Sync> Voxel for T {}

/// A voxel that measures something (HU for CT) and may be interpolated. Label ids (`u8`) are not intensities.
pub trait Intensity: Voxel {
    /// The value as `f32`, exactly.
    fn to_f32(self) -> f32;
}

impl Intensity for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

impl Intensity for i16 {
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
}

/// `count` default values, or [`ImageError::OutOfMemory`] where the system says at once that it has not so much.
///
/// Sizes that come from a requested grid, not from data that are already in memory, must come through here.
pub(crate) fn allocate<T: Voxel>(count: usize) -> Result<Vec<T>, ImageError> {
    // Reserving first turns an abort into an error; `vec!` then gets zeroed pages, which cost nothing until written.
    Vec::<T>::new()
        .try_reserve_exact(count)
        .map_err(|_| ImageError::OutOfMemory {
            bytes: count.saturating_mul(size_of::<T>()),
        })?;
    Ok(vec![T::default(); count])
}
