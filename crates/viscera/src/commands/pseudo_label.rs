//! `viscera pseudo-label`.

use super::train::Watcher;
use crate::args::PseudoLabelArgs;
use crate::exit::Outcome;
use crate::printer::Printer;
use anyhow::bail;
use viscera_io::{Dataset, Split};
use viscera_pipeline::recipe::Stream;
use viscera_train::{PSEUDO_LIST, PseudoLabelOptions, pseudo_label};

pub(super) fn run(args: &PseudoLabelArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    if !(0.0..=1.0).contains(&args.least_confidence) {
        bail!("--least-confidence {} is not between 0 and 1", args.least_confidence);
    }
    let model = super::models().load(&args.model)?;
    let dataset = Dataset::open(&args.data)?;
    let cases = dataset.cases(Split::Train)?;
    let mut options = PseudoLabelOptions {
        least_confidence: args.least_confidence,
        ..PseudoLabelOptions::default()
    };
    if args.unlabelled_only {
        options.cases = vec![Stream::Unlabelled];
    }
    let mut watcher = Watcher::new(printer)?;
    let report = pseudo_label(model, &cases, dataset.labels(), &args.out, &options, &mut watcher)?;
    let outcome = watcher.outcome();
    if printer.is_json() {
        printer.value(&report)?;
    }
    for (case, reason) in &report.left_out {
        printer.note(format!("{case} is left out: {reason}"));
    }
    printer.line(format!(
        "{} cases labelled, {} were there already, {} left out: {}",
        report.labelled,
        report.already_there,
        report.left_out.len(),
        args.out.join(PSEUDO_LIST).display()
    ));
    Ok(outcome)
}
