//! `viscera compare`.

use crate::args::CompareArgs;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use viscera_evaluate::{CompareOptions, Comparison, compare, write_comparison};

pub(super) fn run(args: &CompareArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let options = CompareOptions {
        metrics: args.metrics.clone(),
        ..CompareOptions::default()
    };
    let comparison = compare(&args.results, &options)?;
    if let Some(dir) = &args.out {
        let command: Vec<String> = std::env::args_os().map(|a| a.to_string_lossy().into_owned()).collect();
        for file in write_comparison(dir, &comparison, &command)? {
            printer.note(format!("wrote {}", file.display()));
        }
    }
    if printer.is_json() {
        printer.value(&comparison)?;
        return Ok(Outcome::Done);
    }
    printer.line(format!(
        "{} results on {} common cases and {} common classes",
        comparison.systems.len(),
        comparison.cases.len(),
        comparison.classes.len()
    ));
    if comparison.left_out > 0 {
        printer.warning(format!(
            "{} pairs of case and class are not in all results and are left out",
            comparison.left_out
        ));
    }
    tests(&comparison, printer);
    ranking(&comparison, printer);
    Ok(Outcome::Done)
}

fn tests(comparison: &Comparison, printer: &Printer) {
    let [(a, _), (b, _)] = comparison.systems.as_slice() else {
        return;
    };
    let head = ["measure", "class", "n", a, b, "median diff.", "p", "p (Holm)"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for test in &comparison.tests {
        let w = &test.wilcoxon;
        rows.push(vec![
            test.metric.key().to_owned(),
            test.class.clone().unwrap_or_else(|| "all, per case".to_owned()),
            w.n.to_string(),
            format!("{:.4}", test.means[0]),
            format!("{:.4}", test.means[1]),
            format!("{:+.4}", w.median_difference),
            format!("{:.4}", w.p),
            format!("{:.4}", test.p_holm),
        ]);
    }
    let mut sides = vec![Side::Left, Side::Left];
    sides.resize(8, Side::Right);
    printer.table(&sides, &rows);
}

fn ranking(comparison: &Comparison, printer: &Printer) {
    let head = ["result", "rank", "interval", "mean rank"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let mut systems: Vec<_> = comparison.ranking.systems.iter().collect();
    systems.sort_by(|a, b| a.rank.total_cmp(&b.rank));
    for system in systems {
        rows.push(vec![
            system.name.clone(),
            system.rank.to_string(),
            format!("{} to {}", system.interval[0], system.interval[1]),
            format!("{:.3}", system.mean_rank),
        ]);
    }
    printer.table(&[Side::Left, Side::Right, Side::Right, Side::Right], &rows);
    if let Some(stability) = comparison.ranking.stability {
        printer.line(format!(
            "  Kendall's tau of this ranking and those of resampled cases: {:.2} ({:.2} to {:.2})",
            stability.mean_tau, stability.interval[0], stability.interval[1]
        ));
    }
}
