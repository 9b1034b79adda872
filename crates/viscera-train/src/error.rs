//! What can go wrong while training.

use std::path::PathBuf;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// A file or folder that cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of ours (split, checkpoint, cache, log) that does not hold what it should.
    #[error("{path}: {reason}")]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A case that cannot be trained on.
    #[error("case {case}: {reason}")]
    Case {
        /// Its name.
        case: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A data set that cannot be trained on as a whole.
    #[error("data set: {reason}")]
    DataSet {
        /// What is wrong with it.
        reason: String,
    },
    /// A setting of the recipe's training table that cannot be.
    #[error("training settings: {reason}")]
    Settings {
        /// What is wrong with them.
        reason: String,
    },
    /// The loss or a gradient is no longer a number: the run diverged.
    #[error("step {step}: {what} is not finite; the last good state is in the last checkpoint")]
    NotFinite {
        /// The optimiser step.
        step: u64,
        /// Loss or gradient.
        what: &'static str,
    },
    /// Volumes and geometry.
    #[error(transparent)]
    Image(#[from] viscera_image::ImageError),
    /// Networks and their executors.
    #[error(transparent)]
    Net(#[from] viscera_net::NetError),
    /// Files of scans and data sets.
    #[error(transparent)]
    Io(#[from] viscera_io::IoError),
    /// Recipes, models, and what inference does to an input.
    #[error(transparent)]
    Pipeline(#[from] viscera_pipeline::PipelineError),
    /// Measures.
    #[error(transparent)]
    Metrics(#[from] viscera_metrics::MetricsError),
}

impl TrainError {
    /// Turns an [`std::io::Error`] on `path` into a [`TrainError::File`].
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    pub(crate) fn content(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Content {
            path: path.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn settings(reason: impl Into<String>) -> Self {
        Self::Settings { reason: reason.into() }
    }
}
