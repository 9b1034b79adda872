//! The command line of viscera: arguments become settings, settings a call into the libraries, results are printed.
//! There is no logic here; exit codes are in [`exit`].

mod args;
mod commands;
mod env_vars;
mod exit;
mod interrupt;
mod printer;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Usage errors end here, with clap's exit code 2.
    let args = args::Args::parse();
    let printer = printer::Printer::new(args.json);
    match commands::run(args, &printer) {
        Ok(outcome) => outcome.code(),
        Err(error) => {
            printer.error(&error);
            exit::code(&error)
        }
    }
}
