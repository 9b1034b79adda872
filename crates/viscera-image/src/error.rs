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
    /// A table of labels with ids or names that cannot be.
    #[error("label table \"{table}\": {reason}")]
    BadLabels {
        /// Name of the table.
        table: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not one letter of each of R/L, A/P and S/I.
    #[error("\"{code}\" is no orientation code such as RAS or LPS")]
    BadOrientation {
        /// What was given.
        code: String,
    },
    /// Not each of the axes 0, 1, 2 once.
    #[error("{perm:?} is no permutation of the axes 0, 1, 2")]
    BadPermutation {
        /// What was given.
        perm: [usize; 3],
    },
    /// An axis without positions cannot be resampled.
    #[error("cannot resample an axis of {from} voxels to {to}")]
    EmptyAxis {
        /// Length before.
        from: usize,
        /// Length after.
        to: usize,
    },
    /// A number that a computation cannot use.
    #[error("{what} cannot be {value}")]
    BadParameter {
        /// Which one.
        what: &'static str,
        /// Its value.
        value: f64,
    },
    /// Nothing to compute from.
    #[error("no finite voxel to compute {what} from")]
    NoVoxels {
        /// What was asked for.
        what: &'static str,
    },
    /// The system has not that much memory.
    #[error("{bytes} bytes of memory are not to be had")]
    OutOfMemory {
        /// What was asked for.
        bytes: usize,
    },
}
