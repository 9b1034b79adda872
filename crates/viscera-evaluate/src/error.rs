//! What can go wrong between two folders of label maps and a report.

use std::path::PathBuf;
use viscera_image::ImageError;
use viscera_io::IoError;
use viscera_metrics::MetricsError;
use viscera_pipeline::PipelineError;

/// Errors of this crate. Paths come last in each message, because they may hold a patient's name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A class that the label table does not have.
    #[error("there is no class \"{name}\"; there are {}", known.join(", "))]
    UnknownClass {
        /// The class asked for.
        name: String,
        /// The classes there are.
        known: Vec<String>,
    },
    /// Reference and prediction that cannot be compared.
    #[error("case \"{case}\" cannot be measured")]
    Measure {
        /// The case.
        case: String,
        /// Why.
        source: MetricsError,
    },
    /// Folders of references and predictions without a common case.
    #[error("no prediction has the name of a reference: {reference} and {prediction}",
            reference = reference.display(), prediction = prediction.display())]
    NothingToCompare {
        /// Folder of references.
        reference: PathBuf,
        /// Folder of predictions.
        prediction: PathBuf,
    },
    /// A tolerance that is no distance.
    #[error("a tolerance must be a positive number of mm, not {value}")]
    BadTolerance {
        /// What was given.
        value: f64,
    },
    /// Lesions are to count as part of organs, but no class is one.
    #[error("no class of these label maps is a lesion; say which one is (--lesions)")]
    NoLesions,
    /// A table that cannot be used.
    #[error("{reason}{}: {path}", line.map(|l| format!(" (line {l})")).unwrap_or_default(), path = path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// Line of its text, where one is to blame; the first is 1.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// A column that the case table does not have.
    #[error("the case table has no column \"{column}\"; it has {}", known.join(", "))]
    UnknownColumn {
        /// The column asked for.
        column: String,
        /// The columns there are.
        known: Vec<String>,
    },
    /// A map of confidence that cannot be used.
    #[error("not usable as confidence: {reason}: {path}", path = path.display())]
    Confidence {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// Results without a case and class that all of them have scored.
    #[error("the results share no case and class")]
    NothingShared,
    /// Fewer than two results, or two of one name.
    #[error("comparing takes two or more results with different names, these are {}", names.join(", "))]
    NotSeveral {
        /// The names there are.
        names: Vec<String>,
    },
    /// Numbers that the statistics refuse.
    #[error("the results cannot be ranked")]
    Ranking(#[source] MetricsError),
    /// A file that cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A grid that cannot be, or too little memory for one.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A picture that cannot be drawn.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
}
