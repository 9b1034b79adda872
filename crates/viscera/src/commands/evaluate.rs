//! `viscera evaluate`.

use crate::args::EvaluateArgs;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use viscera_io::write_json;
use viscera_metrics::Metric;
use viscera_pipeline::{Evaluation, evaluate};

pub(super) fn run(args: &EvaluateArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let evaluation = evaluate(&args.reference, &args.prediction, args.classes.as_deref())?;
    if let Some(path) = &args.out {
        write_json(path, &evaluation)?;
    }
    if printer.is_json() {
        printer.value(&evaluation)?;
    } else {
        table(&evaluation, printer);
    }
    for case in &evaluation.missing {
        printer.warning(format!("case \"{case}\" has no prediction"));
    }
    Ok(if evaluation.missing.is_empty() {
        Outcome::Done
    } else {
        Outcome::FailedCases
    })
}

/// Dice and volumes per class, averaged over the cases that annotate it.
pub(super) fn table(evaluation: &Evaluation, printer: &Printer) {
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    let head = ["class", "Dice", "cases", "reference ml", "prediction ml"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (id, class) in &evaluation.summary.mean {
        rows.push(vec![
            evaluation.classes.get(id).cloned().unwrap_or_else(|| id.to_string()),
            number(class.mean.get(Metric::Dice), 4),
            class.cases_scored.to_string(),
            number(class.mean.get(Metric::VolumeRef), 1),
            number(class.mean.get(Metric::VolumePred), 1),
        ]);
    }
    let mean = &evaluation.summary.foreground_mean;
    rows.push(vec!["mean".to_owned(), number(mean.get(Metric::Dice), 4)]);
    printer.table(&[Side::Left, Side::Right, Side::Right, Side::Right, Side::Right], &rows);
}
