//! What can be wrong with a volume.

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Not one value per voxel.
    #[error("{found} values for a grid of {expected} voxels")]
    LengthMismatch {
        /// Voxels of the grid.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// A grid that cannot be.
    #[error("impossible geometry: {reason}")]
    BadGeometry {
        /// What is wrong with it.
        reason: String,
    },
    /// Two volumes that should lie on one grid do not.
    #[error("grids differ: {left:?} against {right:?} voxels (z, y, x), or their places in the world")]
    GridMismatch {
        /// Shape of the one.
        left: [usize; 3],
        /// Shape of the other.
        right: [usize; 3],
    },
    /// A box reaches outside its grid, or is empty.
    #[error("box {start:?}..{end:?} does not fit a grid of {shape:?} voxels (z, y, x)")]
    BadBox {
        /// First voxel inside.
        start: [usize; 3],
        /// First voxel past the end.
        end: [usize; 3],
        /// Shape of the grid.
        shape: [usize; 3],
    },
}
