//! `viscera phantom`.

use crate::args::PhantomArgs;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use serde::Serialize;
use std::path::{Path, PathBuf};
use viscera_image::phantom::PhantomConfig;
use viscera_pipeline::{Anatomies, Cohort, PhantomSet, Use, phantom_config};

/// The result of a run, for programs.
#[derive(Serialize)]
struct Run {
    folder: PathBuf,
    made: usize,
    already_there: usize,
}

pub(super) fn run(args: PhantomArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    if let Some(path) = &args.anatomies {
        let anatomies = Anatomies::load(path)?;
        let bar = printer.bar(anatomies.count());
        let made = anatomies.write(&args.out, args.seed.unwrap_or(1), |case| {
            bar.set_message(case.to_owned());
            bar.inc(1);
        })?;
        bar.finish_and_clear();
        return report(args.out, made, anatomies.count(), printer);
    }
    let set = PhantomSet::create(&args.out, cohort(&args)?)?;
    let mut made = 0;
    let bar = printer.bar(set.cases().len());
    // One after the other: a phantom is painted by all cores.
    for case in set.cases() {
        bar.set_message(case.name.clone());
        made += usize::from(set.make(case)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    if !set.cohort().is_plain() {
        table(set.cohort(), printer);
    }
    report(args.out, made, set.cases().len(), printer)
}

/// Says what was made of so many cases.
fn report(folder: PathBuf, made: usize, cases: usize, printer: &Printer) -> anyhow::Result<Outcome> {
    let run = Run {
        folder,
        made,
        already_there: cases - made,
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

/// The cohort that was asked for: by file, by name, or a plain one of the other arguments.
fn cohort(args: &PhantomArgs) -> anyhow::Result<Cohort> {
    if let Some(name) = &args.cohort {
        let path = Path::new(name);
        let cohort = if path.is_file() {
            Cohort::load(path)?
        } else {
            Cohort::builtin(name)?
        };
        let seed = args.seed.unwrap_or(cohort.seed);
        return Ok(Cohort { seed, ..cohort });
    }
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
    Ok(Cohort::plain(args.cases, args.seed.unwrap_or(1), config))
}

/// Cases of each centre by use.
fn table(cohort: &Cohort, printer: &Printer) {
    let head = ["centre".to_owned()].into_iter();
    let head = head.chain(Use::ALL.map(|usage| usage.name().to_owned()));
    let row = |centre: &viscera_pipeline::Centre| {
        let counts = Use::ALL.map(|usage| centre.count(usage).to_string());
        [centre.name.clone()].into_iter().chain(counts).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head.collect())
        .chain(cohort.centres.iter().map(row))
        .collect();
    let right = Side::Right;
    printer.table(&[Side::Left, right, right, right, right], &rows);
}
