//! `viscera bench run`.

use super::{monitor, remarks, repeat, tables};
use crate::args::BenchRunArgs;
use crate::exit::Outcome;
use crate::printer::Printer;
use std::ffi::OsString;
use std::io;
use std::process::{Command, Stdio};
use viscera_io::write_json;

pub(super) fn run(args: &BenchRunArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let monitor = monitor(&args.settings)?;
    let command = || {
        let mut words = args.command.iter();
        let mut command = Command::new(words.next().map(OsString::as_os_str).unwrap_or_default());
        command.args(words);
        if printer.is_json() {
            // Standard output is then JSON and nothing else.
            command.stdout(Stdio::from(io::stderr()));
        }
        command
    };
    let bench = repeat(&monitor, None, args.settings.runs, command)?;
    if let Some(path) = &args.out {
        write_json(path, &bench)?;
    }
    if printer.is_json() {
        printer.value(&bench)?;
    } else {
        tables::command(&bench, printer);
    }
    remarks(&bench, args.settings.runs, printer);
    let code = bench.runs.last().map_or(0, |record| record.exit_code);
    Ok(Outcome::Command(u8::try_from(code).unwrap_or(1)))
}
