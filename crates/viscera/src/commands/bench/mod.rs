//! `viscera bench`.

mod net;
mod run;
mod segment;
mod tables;

use crate::args::{BenchCommand, BenchSettings};
use crate::exit::Outcome;
use crate::printer::Printer;
use std::process::Command;
use std::time::Duration;
use viscera_monitor::{Bench, Monitor, MonitorOptions, Record};

pub(super) fn run(command: &BenchCommand, threads: Option<u16>, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        BenchCommand::Run(args) => run::run(args, printer),
        BenchCommand::Segment(args) => segment::run(args, threads, printer),
        BenchCommand::Net(args) => net::run(args, printer).map(|()| Outcome::Done),
    }
}

fn monitor(settings: &BenchSettings) -> anyhow::Result<Monitor> {
    Ok(Monitor::new(&MonitorOptions {
        interval: Duration::try_from_secs_f64(settings.interval)?,
        baseline: Duration::try_from_secs_f64(settings.baseline)?,
        gpu: settings.gpu,
    })?)
}

/// Runs a command so many times. A run that fails or is interrupted is the last: times of failed runs say little.
fn repeat(
    monitor: &Monitor,
    case: Option<String>,
    runs: u32,
    mut command: impl FnMut() -> Command,
) -> anyhow::Result<Bench> {
    let mut records: Vec<Record> = Vec::new();
    for _ in 0..runs {
        let record = monitor.run(&mut command())?;
        let last = failed(&record);
        records.push(record);
        if last {
            break;
        }
    }
    Bench::new(case, records).ok_or_else(|| anyhow::anyhow!("nothing was run"))
}

fn failed(record: &Record) -> bool {
    record.exit_code != 0 || record.interrupted
}

/// Says what a reader of the numbers should know.
fn remarks(bench: &Bench, runs: u32, printer: &Printer) {
    let Some(last) = bench.runs.last() else { return };
    let how = match last.signal {
        Some(signal) => format!("was ended by signal {signal}"),
        None => format!("ended with exit code {}", last.exit_code),
    };
    if failed(last) {
        let which = format!("run {} of {runs}", bench.runs.len());
        printer.warning(format!("{which} {how}; the numbers are of what ran until then"));
    }
    if last.left_running > 0 {
        printer.warning(format!("{} processes of the command still run", last.left_running));
    }
}
