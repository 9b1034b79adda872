//! The files of an evaluation.

use crate::csv::write_record;
use crate::report::{ReportOptions, report};
use crate::{EvaluateError, Evaluation};
use std::path::{Path, PathBuf};
use viscera_io::{atomic_write, write_json};
use viscera_metrics::Metric;

/// Names of the files.
pub(crate) const METRICS_CSV: &str = "metrics.csv";
const SUMMARY_JSON: &str = "summary.json";
const REPORT_HTML: &str = "report.html";

/// Columns before the measures in `metrics.csv`.
pub(crate) const ID_COLUMNS: [&str; 3] = ["case", "class_id", "class"];

/// What [`write_results`] left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The files.
    pub files: Vec<PathBuf>,
    /// What the report could not show, and why.
    pub notes: Vec<String>,
}

/// Writes `summary.json`, `metrics.csv` and `report.html` into a folder, each whole or not at all; older ones are
/// replaced.
///
/// `metrics.csv` has a row per case and class and a column per measure that was asked for (keys of
/// [`Metric::key`]); an empty field is a measure without a value. Fields are as they are, quoted by RFC 4180 and also
/// where a spreadsheet might take them for a formula.
///
/// # Errors
/// [`EvaluateError::Io`] when the system refuses, or label maps for the report's pictures cannot be read again.
pub fn write_results(dir: &Path, evaluation: &Evaluation, options: &ReportOptions) -> Result<Written, EvaluateError> {
    let (html, notes) = report(evaluation, options)?;
    let paths = [SUMMARY_JSON, METRICS_CSV, REPORT_HTML].map(|name| dir.join(name));
    write_json(&paths[0], evaluation)?;
    write_text(&paths[1], &metrics_csv(evaluation))?;
    write_text(&paths[2], &html)?;
    Ok(Written {
        files: paths.to_vec(),
        notes,
    })
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), EvaluateError> {
    Ok(atomic_write(path, |file| file.write_all(text.as_bytes()))?)
}

fn metrics_csv(evaluation: &Evaluation) -> String {
    let all = evaluation
        .summary
        .metric_per_case
        .iter()
        .flat_map(|c| c.metrics.values());
    let all: Vec<_> = all.collect();
    let measured = |metric: &&Metric| all.iter().any(|score| metric.measured(score));
    let metrics: Vec<Metric> = Metric::ALL.iter().filter(measured).copied().collect();
    let mut out = String::new();
    write_record(&mut out, ID_COLUMNS.into_iter().chain(metrics.iter().map(|m| m.key())));
    for (facts, scores) in evaluation.scored() {
        for (&id, score) in &scores.metrics {
            let mut record = vec![facts.case.clone(), id.to_string(), evaluation.class_name(id)];
            let value = |metric: &Metric| metric.of(score).map_or_else(String::new, |v| v.to_string());
            record.extend(metrics.iter().map(value));
            write_record(&mut out, record);
        }
    }
    out
}
