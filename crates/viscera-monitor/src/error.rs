//! Why a command cannot be measured.

use std::io;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The interval is not between 0.01 s and 60 s.
    #[error("an interval of {seconds} s: it must be between 0.01 and 60 s")]
    Interval {
        /// What was asked for.
        seconds: f64,
    },
    /// There is no GPU of the index that was asked for.
    #[error("there is no GPU {index} ({reason})")]
    NoSuchGpu {
        /// NVML's index.
        index: u32,
        /// What NVML says.
        reason: String,
    },
    /// The command did not start.
    #[error("\"{program}\" cannot be started")]
    Start {
        /// The program, as it was given.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The command started, but its end could not be waited for.
    #[error("the end of \"{program}\" cannot be waited for")]
    Wait {
        /// The program, as it was given.
        program: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system does not let its processes be watched.
    #[error("{what} is not possible")]
    Watch {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}
