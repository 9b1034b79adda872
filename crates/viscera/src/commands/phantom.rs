//! `viscera phantom`.

use crate::args::PhantomArgs;
use crate::exit::Outcome;
use crate::printer::Printer;
use serde::Serialize;
use std::path::PathBuf;
use viscera_image::phantom::PhantomConfig;
use viscera_pipeline::{PhantomSet, phantom_config};

/// The result of a run, for programs.
#[derive(Serialize)]
struct Run {
    folder: PathBuf,
    made: usize,
    already_there: usize,
}

pub(super) fn run(args: PhantomArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let given = args
        .config
        .as_deref()
        .map(phantom_config)
        .transpose()?
        .unwrap_or_default();
    let config = PhantomConfig {
        spacing: args.spacing.or(given.spacing),
        shape: args.shape.or(given.shape),
        ..given
    };
    let set = PhantomSet::create(&args.out, args.cases, args.seed, config)?;
    let mut made = 0;
    let bar = printer.bar(args.cases);
    // One after the other: a phantom is painted by all cores.
    for number in 0..args.cases {
        bar.set_message(set.name(number));
        made += usize::from(set.make(number)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let run = Run {
        folder: args.out,
        made,
        already_there: args.cases - made,
    };
    if printer.is_json() {
        printer.value(&run)?;
    }
    printer.line(format!(
        "{} made, {} already there: {}",
        run.made,
        run.already_there,
        run.folder.display()
    ));
    Ok(Outcome::Done)
}
