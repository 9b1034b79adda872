//! Why two label maps cannot be compared.

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The label maps have different numbers of voxels.
    #[error("the reference has {reference:?} voxels (z, y, x), the prediction {prediction:?}")]
    ShapeMismatch {
        /// Shape of the reference.
        reference: [usize; 3],
        /// Shape of the prediction.
        prediction: [usize; 3],
    },
    /// The label maps have equal shapes but lie at different places in the world.
    #[error(
        "reference and prediction lie up to {gap_mm:.3} mm apart at the corners of their grids, \
         {tolerance_mm} mm are allowed"
    )]
    PlaceMismatch {
        /// Largest distance of two corners that should coincide, in mm.
        gap_mm: f64,
        /// Largest difference per world axis that passes, in mm.
        tolerance_mm: f64,
    },
    /// A class spans too many slices for the distances of its surface.
    #[error("class {class} spans {slices} slices; distances of surfaces are measured up to {limit}")]
    TooManySlices {
        /// The class.
        class: u8,
        /// Slices from its first voxel to its last.
        slices: usize,
        /// The largest number that works.
        limit: usize,
    },
    /// A ranking table has not one value per system, case and metric.
    #[error("{systems} systems, {cases} cases and {metrics} metrics need another number of values than {found}")]
    TableSize {
        /// Number of systems.
        systems: usize,
        /// Number of cases.
        cases: usize,
        /// Number of metrics.
        metrics: usize,
        /// Number of values that were given.
        found: usize,
    },
    /// Work on voxels failed.
    #[error(transparent)]
    Image(#[from] viscera_image::ImageError),
}
