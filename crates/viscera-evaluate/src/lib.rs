//! Scores of folders of label maps: pairing, tables, statistics over cases, and a report to look at.
//!
//! [`evaluate`] compares predictions with references and describes the scores; [`write_results`] puts them into a
//! folder as `summary.json` (nnU-Net's form and more), `metrics.csv` and `report.html`. [`compare`] reads such folders
//! again, tests two against each other and ranks many.
//!
//! What a reference does not annotate is left out, see [`viscera_metrics`]. All results are the same for any number of
//! threads.

mod cases;
mod compare;
mod confidence;
mod csv;
mod error;
mod known;
mod outputs;
mod pairing;
mod place;
mod report;
mod run;
mod settings;
mod statistics;

pub use compare::{ClassTest, CompareOptions, Comparison, compare, write_comparison};
pub use confidence::CalibrationBlock;
pub use error::EvaluateError;
pub use outputs::{Written, write_results};
pub use report::ReportOptions;
pub use run::{CaseFacts, Evaluation, FlareBlock, LesionBlock, evaluate};
pub use settings::{EvaluateOptions, Settings, ToleranceChoice};
pub use statistics::{Group, Measures, Statistics, case_mean};
