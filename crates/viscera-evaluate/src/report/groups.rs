//! Tables of groups of cases, of FLARE's scores, and of lesions.

use super::organs::main_metrics;
use super::text::{NONE, Text, interval, mean_std, number, organ, value, with_unit};
use super::{class_markup, pair};
use crate::Evaluation;
use std::fmt::Write as _;
use viscera_metrics::{FlareEdition, Metric};
use viscera_page::{Page, Table};

/// Means by a FLARE challenge's rules beside the strict ones.
pub(super) fn flare(page: &mut Page, evaluation: &Evaluation) {
    let Some(flare) = &evaluation.flare else { return };
    page.section(&format!("Scores by the rules of {}", edition(flare.options.edition)));
    let mut table = Table::new("flare").head(["Class", "DSC", "NSD", "strict Dice", "strict surface Dice"]);
    for (&id, &scores) in &flare.classes {
        let mean = evaluation.summary.mean.get(&id).map(|class| &class.mean);
        let strict = [Metric::Dice, Metric::SurfaceDice].map(|m| mean.and_then(|mean| mean.get(m)));
        table.row(
            "",
            &class_markup(evaluation, id),
            pair(scores).into_iter().chain(pair(strict)),
        );
    }
    let blank = || ["", ""].map(str::to_owned);
    table.row("sum", "Mean of organs", pair(flare.organs).into_iter().chain(blank()));
    let slices = if flare.options.inclusive {
        "The last labelled slice of aorta, vena cava and oesophagus is kept, so these scores do not compare with published ones."
    } else {
        "As in the official script, the last labelled slice of aorta, vena cava and oesophagus is left out where the challenge cuts there."
    };
    page.table(
        &format!(
            "Means over cases by the official rules: values rounded to four decimals per case, both empty 1, one empty 0. {slices} \
             The strict scores of the other tables stand beside them; their tolerances may differ."
        ),
        &table,
    );
}

/// The challenge's name.
pub(super) fn edition(edition: FlareEdition) -> &'static str {
    match edition {
        FlareEdition::Flare21 => "FLARE21",
        FlareEdition::Flare22 => "FLARE22",
        FlareEdition::Flare23 => "FLARE23",
    }
}

/// Lesion-wise detection.
pub(super) fn lesions(page: &mut Page, evaluation: &Evaluation) {
    let Some(block) = &evaluation.lesions else { return };
    let (s, total) = (&block.summary, &block.summary.total);
    page.section("Lesions");
    let mut table = Table::new("lesions").head(["", "all lesions together", "mean of cases"]);
    let ratio = |v: Option<f64>| number(v, 3);
    for (name, pooled, mean) in [
        ("Recall", s.pooled_recall, s.mean_recall),
        ("Precision", s.pooled_precision, s.mean_precision),
        ("F1", s.pooled_f1, s.mean_f1),
    ] {
        table.row("", name, [ratio(pooled), ratio(mean)]);
    }
    table.row(
        "part",
        "Lesions, found of all",
        [format!("{} of {}", total.found, total.lesions), String::new()],
    );
    table.row(
        "",
        "False positives",
        [total.false_positives.to_string(), number(s.false_positives_per_case, 2)],
    );
    table.row(
        "",
        "Missed volume (ml)",
        [number(Some(total.missed_ml), 1), String::new()],
    );
    table.row(
        "",
        "False positive volume (ml)",
        [number(Some(total.false_positive_ml), 1), String::new()],
    );
    table.row(
        "part",
        "Cases with lesions, share with one found",
        [s.cases_with_lesions.to_string(), ratio(s.case_sensitivity)],
    );
    table.row(
        "",
        "Cases without lesions, share with a false positive",
        [s.cases_without_lesions.to_string(), ratio(s.case_false_positive_rate)],
    );
    let name = organ(&evaluation.class_name(block.class));
    page.table(
        &format!(
            "Detection of components of “{}” over {} cases that annotate it. Components match where they overlap; see the settings.",
            Text(&name),
            s.cases
        ),
        &table,
    );
}

/// Scores per group of cases.
pub(super) fn section(page: &mut Page, evaluation: &Evaluation) {
    if evaluation.groups.is_empty() {
        return;
    }
    page.section("Groups of cases");
    let metrics = main_metrics(evaluation);
    for (column, groups) in &evaluation.groups {
        let mut head = vec![column.clone(), "cases".to_owned()];
        for &metric in &metrics {
            head.extend([with_unit(metric), "CI of mean".to_owned()]);
        }
        let mut table = Table::new("groups").head(head);
        for group in groups {
            let cell = |&metric: &Metric| {
                let described = group.statistics.cases.get(&metric);
                [mean_std(metric, described), interval(metric, described)]
            };
            let cells = std::iter::once(group.cases.to_string()).chain(metrics.iter().flat_map(cell));
            table.row("", &format!("<bdi>{}</bdi>", Text(&group.value)), cells);
        }
        page.table(
            &format!(
                "Cases by “{}”: mean ± standard deviation of the cases' means over their classes.",
                Text(column)
            ),
            &table,
        );

        let mut head = String::from("<th scope=\"col\">Class</th>");
        for group in groups {
            let _ = write!(head, "<th scope=\"col\"><bdi>{}</bdi></th>", Text(&group.value));
        }
        let mut table = Table::new("groups").head_markup(head);
        for &id in evaluation.summary.mean.keys() {
            let cells = groups.iter().map(|group| {
                let described = group.statistics.classes.get(&id).and_then(|m| m.get(&Metric::Dice));
                described.map_or_else(|| NONE.to_owned(), |d| value(Metric::Dice, Some(d.mean)))
            });
            table.row("", &class_markup(evaluation, id), cells);
        }
        page.table(&format!("Mean Dice per class, by “{}”.", Text(column)), &table);
    }
}
