//! Measures of segmentation quality: a predicted label map against a reference on the same grid.
//!
//! Conventions, for every measure of this crate:
//! * Only the classes that the reference annotates are scored. A class that nobody drew is unknown, not absent, so it
//!   has no entry at all, whatever the prediction says.
//! * A class that is annotated but empty in both label maps has no Dice, no Jaccard index and no distances: `None`,
//!   `null` in JSON, NaN in nnU-Net. Means leave such cases out. If just one of the two is empty, overlaps are 0 and
//!   distances have no value. [`ScoreOptions`] selects other rules.
//! * Both label maps must lie on one grid in the world, see [`check_same_grid`]. Nothing is resampled to make them fit.
//! * [`Summary`] serialises to the shape of nnU-Net's `summary.json`, with `null` where nnU-Net writes `NaN` (which is
//!   no JSON), and with a few more keys.

mod calibration;
mod error;
mod flare;
mod lesions;
mod metric;
mod options;
mod overlap;
mod score;
pub mod stats;
mod summary;
mod surface;

pub use calibration::{Calibration, CalibrationRegion, ConfidenceCounts, DEFAULT_BINS, Reliability, ReliabilityBin};
pub use error::MetricsError;
pub use flare::{FlareEdition, FlareOptions, FlareScore, flare_scores};
pub use lesions::{LesionCounts, LesionOptions, LesionSummary, lesion_counts};
pub use metric::{Better, Metric};
pub use options::{EmptyDistance, EmptyRule, ScoreOptions, Tolerances};
pub use overlap::{Overlap, overlap_per_class};
pub use score::{CaseScore, ClassScore, GRID_TOLERANCE_MM, check_same_grid};
pub use summary::{ClassMean, MeanScore, Summary};
pub use surface::{SurfaceDistances, SurfaceScore, surface_distances};
