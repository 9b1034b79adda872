//! Tells how a run goes, in the way that was asked for, and collects what comes of it.

use super::events::{Cost, Line};
use crate::args::ProgressMode;
use crate::exit;
use crate::printer::{Printer, Side};
use indicatif::ProgressBar;
use serde::Serialize;
use viscera_engine::{Precision, peak_gflops};
use viscera_pipeline::batch::{Batch, Event, Summary};
use viscera_pipeline::{Manifest, Organ};

/// The result of a run, for programs.
#[derive(Debug, Default, Serialize)]
pub(super) struct Run {
    pub(super) cases: Vec<Done>,
    pub(super) failed: Vec<Failure>,
}

/// A finished case.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Done {
    #[serde(skip)]
    pub(super) case: String,
    #[serde(skip)]
    pub(super) organs: Vec<Organ>,
    manifest: serde_json::Value,
}

impl Done {
    /// Whether a warning puts its masks in doubt. A stored manifest is only known by its content.
    pub(super) fn is_in_doubt(&self) -> bool {
        let warnings = self.manifest["warnings"].as_array();
        warnings.is_some_and(|all| all.iter().any(|w| w["severity"] != "note"))
    }
}

/// A case that could not be segmented.
#[derive(Debug, Serialize)]
pub(super) struct Failure {
    case: String,
    /// The error, then its causes.
    errors: Vec<String>,
    exit_code: u8,
    #[serde(skip)]
    pub(super) error: anyhow::Error,
}

impl Run {
    /// For programs, if that was asked for.
    pub(super) fn print(&self, printer: &Printer) -> anyhow::Result<()> {
        if printer.is_json() { printer.value(self) } else { Ok(()) }
    }
}

/// Tells and collects.
pub(super) struct Reporter<'a> {
    mode: ProgressMode,
    statistics: bool,
    printer: &'a Printer,
    bar: ProgressBar,
    /// Cases of this run, finished ones too.
    cases: usize,
    /// Whether the user named one case only: its error is told as the run's.
    single: bool,
    run: Run,
}

impl<'a> Reporter<'a> {
    /// Tells what is to be done.
    pub(super) fn new(
        mode: ProgressMode,
        statistics: bool,
        single: bool,
        printer: &'a Printer,
        batch: &Batch,
    ) -> anyhow::Result<Self> {
        let forecast = batch.forecast();
        let stored = batch.finished();
        let bar = match mode {
            ProgressMode::Auto => printer.bar(forecast.scans),
            ProgressMode::Bar => printer.bar_always(forecast.scans),
            _ => ProgressBar::hidden(),
        };
        let mut run = Run::default();
        for manifest in stored {
            run.cases.push(Done {
                case: manifest.case.clone(),
                organs: manifest.organs.clone(),
                manifest: manifest.content.clone(),
            });
        }
        let reporter = Self {
            mode,
            statistics,
            printer,
            bar,
            cases: forecast.scans + stored.len(),
            single,
            run,
        };
        if mode == ProgressMode::None || (printer.is_json() && mode == ProgressMode::Auto) {
            return Ok(reporter);
        }
        let cost = Cost {
            seconds: forecast
                .total
                .seconds(peak_gflops(Precision::F32), rayon::current_num_threads()),
            memory_bytes: forecast.memory,
            gmac: forecast.total.macs as f64 / 1e9,
            overlap: forecast.overlap,
        };
        if mode == ProgressMode::Json {
            reporter.line(&Line::Started {
                cases: forecast.scans,
                skipped: stored.iter().map(|m| m.case.as_str()).collect(),
                model: &batch.model()?,
                estimate: cost,
            });
        } else {
            reporter.announce(forecast.scans, stored.len(), cost);
        }
        Ok(reporter)
    }

    fn announce(&self, scans: usize, stored: usize, cost: Cost) {
        let s = if scans == 1 { "" } else { "s" };
        if self.cases == 0 {
            self.printer.note("this part has no scans");
        }
        if stored > 0 {
            self.printer
                .note(format!("{stored} of {} scans are finished", self.cases));
        }
        if scans > 0 {
            self.printer.note(format!(
                "{scans} scan{s}: about {}, and up to about {} of memory",
                duration(cost.seconds),
                size(cost.memory_bytes)
            ));
        }
    }

    pub(super) fn event(&mut self, event: Event<'_>) {
        match event {
            Event::CaseStarted { case, number } => {
                self.bar.set_message(case.to_owned());
                self.line(&Line::CaseStarted { case, number });
            }
            Event::Step { case, progress } => {
                let share = match progress.seconds {
                    Some(_) => String::new(),
                    None => format!(" {:.0} %", 100.0 * progress.fraction),
                };
                self.bar.set_message(format!("{case}: {}{share}", progress.step));
                self.line(&Line::Step {
                    case,
                    step: &progress.step,
                    fraction: progress.fraction,
                    seconds: progress.seconds,
                });
            }
            Event::CaseFinished { manifest, seconds_left } => self.finished(&manifest, seconds_left),
            Event::CaseFailed { case, error } => self.failed(case, error.into()),
        }
    }

    fn finished(&mut self, manifest: &Manifest, seconds_left: f64) {
        match self.mode {
            ProgressMode::Json => {
                for warning in manifest.report.warnings.list() {
                    self.line(&Line::Warning {
                        case: &manifest.case,
                        code: warning.code(),
                        severity: warning.severity(),
                        organs: warning.organs(),
                        message: warning.to_string(),
                    });
                }
                self.line(&Line::CaseFinished {
                    case: &manifest.case,
                    seconds: manifest.seconds,
                    outputs: &manifest.outputs,
                    seconds_left,
                });
            }
            ProgressMode::None => super::warn(manifest, self.printer),
            _ => self
                .bar
                .suspend(|| super::report(manifest, self.statistics, self.printer)),
        }
        self.bar.inc(1);
        self.run.cases.push(Done {
            case: manifest.case.clone(),
            organs: manifest.report.organs.clone(),
            // What was written as JSON a moment ago has a JSON form.
            manifest: serde_json::to_value(manifest).unwrap_or_default(),
        });
    }

    fn failed(&mut self, case: &str, error: anyhow::Error) {
        let failure = Failure {
            case: case.to_owned(),
            errors: error.chain().map(ToString::to_string).collect(),
            exit_code: exit::number(&error),
            error,
        };
        if self.mode == ProgressMode::Json {
            self.line(&Line::CaseFailed {
                case,
                errors: &failure.errors,
                exit_code: failure.exit_code,
                class: exit::class(failure.exit_code),
            });
        } else if !self.single {
            let lines = failure.errors.iter().map(String::as_str);
            let help = exit::help(&failure.error);
            self.bar.suspend(|| self.printer.failure(case, lines, help));
        }
        self.bar.inc(1);
        self.run.failed.push(failure);
    }

    /// Tells how it ended.
    pub(super) fn finish(self, summary: &Summary) -> Run {
        self.bar.finish_and_clear();
        self.line(&Line::Finished {
            finished: summary.finished,
            failed: summary.failed,
            skipped: summary.skipped,
            left: summary.left,
            interrupted: summary.interrupted,
            seconds: summary.seconds,
        });
        if matches!(self.mode, ProgressMode::Json | ProgressMode::None) {
            return self.run;
        }
        if !self.run.failed.is_empty() && !self.single {
            let (failed, cases) = (self.run.failed.len(), self.cases);
            self.printer.note(format!("{failed} of {cases} scans failed"));
            let row = |f: &Failure| vec![f.case.clone(), f.errors.join(": ")];
            let rows: Vec<_> = self.run.failed.iter().map(row).collect();
            self.printer.note_table(&[Side::Left, Side::Left], &rows);
        }
        if summary.left > 0 {
            let what = if summary.interrupted { "interrupted" } else { "ended" };
            let left = summary.left;
            self.printer.note(format!(
                "{what}; {left} of {} scans are not done, --resume goes on",
                self.cases
            ));
        }
        self.run
    }

    fn line(&self, line: &Line<'_>) {
        if self.mode == ProgressMode::Json {
            self.printer.event(line);
        }
    }
}

/// A time for people, in two figures or so.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s < 100.0 => (s, "s"),
        s if s < 6000.0 => (s / 60.0, "min"),
        s => (s / 3600.0, "h"),
    };
    if value < 10.0 && unit != "s" {
        format!("{value:.1} {unit}")
    } else {
        format!("{:.0} {unit}", value.max(1.0))
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1000.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{:.1} GiB", mib / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        for (seconds, text) in [
            (0.2, "1 s"),
            (99.4, "99 s"),
            (150.0, "2.5 min"),
            (5400.0, "90 min"),
            (8000.0, "2.2 h"),
            (360_000.0, "100 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
        assert_eq!(
            (size(300 << 20).as_str(), size(1536 << 20).as_str()),
            ("300 MiB", "1.5 GiB")
        );
    }
}
