//! `viscera bench segment`: each case in a process of its own, one at a time, as the FLARE challenges do it.

use super::{failed, monitor, remarks, repeat, tables};
use crate::args::BenchSegmentArgs;
use crate::exit::Outcome;
use crate::printer::Printer;
use anyhow::Context;
use std::process::{Command, Stdio};
use viscera_io::{expand_inputs, write_json};
use viscera_monitor::Bench;

pub(super) fn run(args: &BenchSegmentArgs, threads: Option<u16>, printer: &Printer) -> anyhow::Result<Outcome> {
    let cases = expand_inputs(&args.inputs)?;
    let monitor = monitor(&args.settings)?;
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let temporary = tempfile::tempdir().context("there is no place for temporary files")?;
    let out = args.out.as_deref().unwrap_or(temporary.path());
    let bar = printer.bar(cases.len());
    let mut benches: Vec<Bench> = Vec::new();
    for case in &cases {
        bar.set_message(case.name.clone());
        let command = || {
            let mut command = Command::new(&program);
            command.arg("segment").arg(&case.path).arg("--out").arg(out);
            command.arg("--model").arg(&args.model).args(["--progress", "none"]);
            if let Some(threads) = threads {
                command.arg("--threads").arg(threads.to_string());
            }
            // The results are the table here; errors and warnings are still to be seen.
            command.args(&args.rest).stdin(Stdio::null()).stdout(Stdio::null());
            command
        };
        let bench = repeat(&monitor, Some(case.name.clone()), args.settings.runs, command)?;
        if args.out.is_some() {
            write_json(&out.join(format!("{}.bench.json", case.name)), &bench)?;
        }
        bar.suspend(|| remarks(&bench, args.settings.runs, printer));
        bar.inc(1);
        let interrupted = bench.runs.iter().any(|record| record.interrupted);
        benches.push(bench);
        if interrupted {
            break;
        }
    }
    bar.finish_and_clear();
    if printer.is_json() {
        printer.value(&benches)?;
    } else {
        tables::cases(&benches, printer);
    }
    let last = benches.last().and_then(|bench| bench.runs.last());
    Ok(match last.filter(|record| record.interrupted) {
        Some(record) => Outcome::Command(u8::try_from(record.exit_code).unwrap_or(1)),
        None if benches.iter().flat_map(|bench| &bench.runs).any(failed) => Outcome::FailedCases,
        None => Outcome::Done,
    })
}
