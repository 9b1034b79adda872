//! The commands, one file each.

mod bench;
mod compare;
#[cfg(feature = "train")]
mod data;
mod demo;
mod evaluate;
mod inspect;
mod model;
mod phantom;
#[cfg(feature = "train")]
mod plan;
#[cfg(feature = "train")]
mod pseudo_label;
mod recipe;
mod segment;
#[cfg(feature = "train")]
mod train;

use crate::args::{Args, Command};
use crate::env_vars;
use crate::exit::Outcome;
use crate::printer::Printer;
use anyhow::Context;
use viscera_pipeline::ModelStore;

/// Runs what was typed.
pub(crate) fn run(args: Args, printer: &Printer) -> anyhow::Result<Outcome> {
    if let Some(threads) = args.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(usize::from(threads));
        pool.build_global().context("the threads cannot be started")?;
    }
    match args.command {
        Command::Segment(args) => segment::run(args, printer),
        Command::Evaluate(args) => evaluate::run(args, printer),
        Command::Compare(args) => compare::run(&args, printer),
        Command::Phantom(args) => phantom::run(args, printer),
        Command::Inspect(args) => inspect::run(&args, printer),
        Command::Recipe(command) => recipe::run(&command, printer),
        Command::Model(command) => model::run(&command, printer),
        #[cfg(feature = "train")]
        Command::Data(command) => data::run(&command, printer),
        #[cfg(feature = "train")]
        Command::Plan(args) => plan::run(&args, printer),
        #[cfg(feature = "train")]
        Command::Train(args) => train::run(args, printer),
        #[cfg(feature = "train")]
        Command::PseudoLabel(args) => pseudo_label::run(&args, printer),
        Command::Bench(command) => bench::run(&command, args.threads, printer),
        Command::Demo(args) => demo::run(&args, printer),
    }
}

fn models() -> ModelStore {
    ModelStore::new(env_vars::model_folders())
}
