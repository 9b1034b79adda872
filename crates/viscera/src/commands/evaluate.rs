//! `viscera evaluate`.

use crate::args::{BothEmpty, EvaluateArgs, FlareYear};
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use viscera_evaluate::{EvaluateOptions, Evaluation, ReportOptions, ToleranceChoice, evaluate, write_results};
use viscera_metrics::stats::Described;
use viscera_metrics::{EmptyRule, FlareEdition, FlareOptions, Metric};

pub(super) fn run(args: EvaluateArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let report = ReportOptions {
        images: args.images,
        command: std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect(),
        ..ReportOptions::default()
    };
    let edition = args.flare.map(|year| match year {
        FlareYear::Flare21 => FlareEdition::Flare21,
        FlareYear::Flare22 => FlareEdition::Flare22,
        FlareYear::Flare23 => FlareEdition::Flare23,
    });
    let mut tolerance = ToleranceChoice::default();
    for (name, mm) in args.tolerance {
        match name {
            Some(name) => tolerance.named.push((name, mm)),
            None => tolerance.default_mm = Some(mm),
        }
    }
    let options = EvaluateOptions {
        classes: args.classes,
        no_surface: args.no_surface,
        tolerance,
        both_empty: match args.both_empty {
            BothEmpty::Skip => EmptyRule::Skip,
            BothEmpty::One => EmptyRule::One,
        },
        flare: edition.map(|edition| FlareOptions {
            edition,
            inclusive: args.inclusive,
        }),
        resample_prediction: args.resample_prediction,
        lesions: args.lesions,
        lesions_in_organs: args.lesions_in_organs,
        confidence: args.confidence,
        case_table: args.cases,
        by: args.by,
        ..EvaluateOptions::default()
    };
    let bar = printer.bar(0);
    let evaluation = evaluate(&args.reference, &args.prediction, &options, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let evaluation = evaluation?;
    let written = args
        .out
        .map(|dir| write_results(&dir, &evaluation, &report))
        .transpose()?;
    if printer.is_json() {
        printer.value(&evaluation)?;
    } else {
        table(&evaluation, printer);
    }
    if let Some(written) = written {
        written.notes.iter().for_each(|note| printer.warning(note));
        for file in &written.files {
            printer.note(format!("wrote {}", file.display()));
        }
    }
    for facts in evaluation.cases.iter().filter(|facts| facts.resampled) {
        printer.note(format!(
            "the prediction of case \"{}\" was brought to the reference's grid",
            facts.case
        ));
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

/// Measures of the table, and the digits that they deserve.
const COLUMNS: [(Metric, &str, usize); 3] = [
    (Metric::Dice, "Dice", 4),
    (Metric::SurfaceDice, "NSD", 4),
    (Metric::Hausdorff95, "HD95 mm", 2),
];

/// Means per class over the cases that have a value; with confidence intervals where there are two cases or more.
pub(super) fn table(evaluation: &Evaluation, printer: &Printer) {
    let mean = &evaluation.summary.foreground_mean;
    let asked = |metric: Metric| mean.iter().any(|(m, _)| m == metric);
    let columns: Vec<_> = COLUMNS.into_iter().filter(|(metric, ..)| asked(*metric)).collect();
    let intervals = evaluation.cases.len() > 1;
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    let interval = |described: Option<&Described>, digits: usize| match described {
        Some(d) if d.n > 1 => format!("{:.digits$} to {:.digits$}", d.ci[0], d.ci[1]),
        _ => "-".to_owned(),
    };
    let mut sides = vec![Side::Left, Side::Right];
    let mut head = vec!["class".to_owned(), "cases".to_owned()];
    let level = format!("{} % CI", evaluation.settings.bootstrap.level * 100.0);
    for (_, title, _) in &columns {
        head.push((*title).to_owned());
        sides.push(Side::Right);
        if intervals {
            head.push(level.clone());
            sides.push(Side::Right);
        }
    }
    let mut rows = vec![head];
    for (id, class) in &evaluation.summary.mean {
        let mut row = vec![evaluation.class_name(*id), class.cases_scored.to_string()];
        for &(metric, _, digits) in &columns {
            row.push(number(class.mean.get(metric), digits));
            if intervals {
                let described = evaluation.statistics.classes.get(id).and_then(|m| m.get(&metric));
                row.push(interval(described, digits));
            }
        }
        rows.push(row);
    }
    let mut sum = vec!["mean of classes".to_owned(), String::new()];
    for &(metric, _, digits) in &columns {
        sum.push(number(mean.get(metric), digits));
        if intervals {
            sum.push(String::new());
        }
    }
    rows.push(sum);
    if let Some(flare) = &evaluation.flare {
        let [dsc, nsd] = flare.organs.map(|v| number(v, 4));
        rows.push(vec![
            format!("{} rules, organs", edition(flare.options.edition)),
            String::new(),
        ]);
        let row = rows.last_mut();
        if let Some(row) = row {
            row.push(dsc);
            if intervals {
                row.push(String::new());
            }
            if asked(Metric::SurfaceDice) {
                row.push(nsd);
            }
        }
    }
    printer.table(&sides, &rows);
    if let Some(lesions) = &evaluation.lesions {
        let s = &lesions.summary;
        printer.line(format!(
            "  lesions: {} of {} found, {} false positives in {} cases, F1 {}",
            s.total.found,
            s.total.lesions,
            s.total.false_positives,
            s.cases,
            number(s.pooled_f1, 4)
        ));
    }
    if let Some(block) = &evaluation.calibration {
        let all = &block.overall;
        printer.line(format!(
            "  calibration: error {:.4} expected, {:.4} at most; mean confidence {:.4}, right {:.4}; {} cases",
            all.ece, all.mce, all.confidence, all.accuracy, block.cases
        ));
    }
}

fn edition(edition: FlareEdition) -> &'static str {
    match edition {
        FlareEdition::Flare21 => "FLARE21",
        FlareEdition::Flare22 => "FLARE22",
        FlareEdition::Flare23 => "FLARE23",
    }
}
