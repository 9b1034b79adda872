//! The lines of `--progress json`.

use serde::Serialize;
use viscera_pipeline::{ModelFacts, Severity};

/// One line: an object whose key `event` says what it is. docs/batch.md describes them for users.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Line<'a> {
    /// Comes first.
    Started {
        /// Cases to be segmented.
        cases: usize,
        /// Names of those that are finished and left out.
        skipped: Vec<&'a str>,
        model: &'a ModelFacts,
        estimate: Cost,
    },
    CaseStarted {
        case: &'a str,
        /// From 1.
        number: usize,
    },
    Step {
        case: &'a str,
        step: &'a str,
        /// Of this step, 0 to 1.
        fraction: f64,
        /// Once it is done.
        seconds: Option<f64>,
    },
    Warning {
        case: &'a str,
        code: &'a str,
        severity: Severity,
        organs: Vec<&'a str>,
        message: String,
    },
    CaseFinished {
        case: &'a str,
        seconds: f64,
        outputs: &'a [String],
        /// Of the whole run, about.
        seconds_left: f64,
    },
    CaseFailed {
        case: &'a str,
        /// The error, then its causes.
        errors: &'a [String],
        /// The exit code that it would have alone, and its name.
        exit_code: u8,
        class: &'static str,
    },
    /// Comes last.
    Finished {
        finished: usize,
        failed: usize,
        skipped: usize,
        /// Not begun or given up.
        left: usize,
        interrupted: bool,
        seconds: f64,
    },
}

/// What a run will cost, about.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Cost {
    pub(super) seconds: f64,
    pub(super) memory_bytes: u64,
    /// Multiply-accumulates, thousand millions.
    pub(super) gmac: f64,
    /// Whether reading and writing overlap with computing.
    pub(super) overlap: bool,
}
