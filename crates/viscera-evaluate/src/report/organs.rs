//! Scores per class: a table, box plots, and all measures.

use super::plot::{BoxRow, box_plot};
use super::text::{Text, interval, mean_std, organ, short, value, with_unit};
use super::{class_colour, class_markup};
use crate::Evaluation;
use crate::statistics::Measures;
use std::fmt::Write as _;
use viscera_metrics::Metric;
use viscera_page::{Page, Table};

/// The measures that people look at first.
pub(super) const MAIN: [Metric; 3] = [Metric::Dice, Metric::SurfaceDice, Metric::Hausdorff95];

/// Those of [`MAIN`] that were measured.
pub(super) fn main_metrics(evaluation: &Evaluation) -> Vec<Metric> {
    let mean = &evaluation.summary.foreground_mean;
    let asked = |metric: &Metric| mean.iter().any(|(m, _)| m == *metric);
    MAIN.into_iter().filter(asked).collect()
}

pub(super) fn section(page: &mut Page, evaluation: &Evaluation) {
    page.section("Scores per organ");
    let metrics = main_metrics(evaluation);
    page.table(&main_caption(evaluation), &main_table(evaluation, &metrics));
    plots(page, evaluation, &metrics);
    page.table(
        "Means of all measures per class, over the cases that have a value. Relative volume errors are (prediction − reference) / reference.",
        &all_table(evaluation),
    );
    if evaluation.cases.len() > 1 {
        matrix(page, evaluation);
    }
}

fn main_caption(evaluation: &Evaluation) -> String {
    let level = evaluation.settings.bootstrap.level * 100.0;
    format!(
        "Scores per class: mean ± standard deviation over cases, median, and the {level:.0} % bootstrap confidence interval of the mean. \
         n is the number of cases that have a Dice of those that annotate the class, where these differ. \
         The last row describes the cases' means over their classes."
    )
}

fn main_table(evaluation: &Evaluation, metrics: &[Metric]) -> Table {
    let mut top = String::from("<th></th><th></th>");
    let mut head = vec!["Class".to_owned(), "n".to_owned()];
    for &metric in metrics {
        let _ = write!(
            top,
            "<th class=\"span\" colspan=\"3\" scope=\"colgroup\"><span>{}</span></th>",
            with_unit(metric)
        );
        head.extend(["mean ± SD", "median", "CI of mean"].map(str::to_owned));
    }
    let mut table = Table::new("scores").head_markup(top).head(head);
    let cells = |measures: &Measures| -> Vec<String> {
        let cell = |&metric: &Metric| {
            let described = measures.get(&metric);
            [
                mean_std(metric, described),
                value(metric, described.map(|d| d.median)),
                interval(metric, described),
            ]
        };
        metrics.iter().flat_map(cell).collect()
    };
    let none = Measures::new();
    for (&id, class) in &evaluation.summary.mean {
        let measures = evaluation.statistics.classes.get(&id).unwrap_or(&none);
        let n = if class.cases_scored == class.cases_annotated {
            class.cases_scored.to_string()
        } else {
            format!("{} of {}", class.cases_scored, class.cases_annotated)
        };
        let row = std::iter::once(n).chain(cells(measures));
        table.row("", &class_markup(evaluation, id), row);
    }
    let n = evaluation.statistics.cases.get(&Metric::Dice).map_or(0, |d| d.n);
    let row = std::iter::once(n.to_string()).chain(cells(&evaluation.statistics.cases));
    table.row("sum", "All, per case", row);
    table
}

fn plots(page: &mut Page, evaluation: &Evaluation, metrics: &[Metric]) {
    let mut pictures = String::from("<div class=\"pair\">");
    // Distances have outliers that leave nothing to see of the rest.
    for &metric in metrics.iter().filter(|m| m.unit().is_empty()) {
        let rows: Vec<BoxRow> = evaluation
            .summary
            .mean
            .keys()
            .filter_map(|&id| box_row(evaluation, metric, id))
            .collect();
        if rows.is_empty() {
            continue;
        }
        pictures.push_str(&box_plot(&rows, &with_unit(metric), 1.0));
    }
    pictures.push_str("</div>");
    page.figure(
        &pictures,
        "Scores of every case, by class. Boxes reach over the middle half of the cases, whiskers to the outermost case within \
         1.5 box lengths; the line is the median, the diamond the mean. Every point is one case.",
    );
}

fn box_row(evaluation: &Evaluation, metric: Metric, id: u8) -> Option<BoxRow> {
    let described = evaluation.statistics.classes.get(&id)?.get(&metric)?.clone();
    let points = evaluation.scored().filter_map(|(facts, scores)| {
        let v = metric.of(scores.metrics.get(&id)?).filter(|v| v.is_finite())?;
        Some((v, format!("{}: {}", facts.case, value(metric, Some(v)))))
    });
    Some(BoxRow {
        label: organ(&evaluation.class_name(id)),
        rgb: class_colour(evaluation, id),
        points: points.collect(),
        described,
    })
}

fn all_table(evaluation: &Evaluation) -> Table {
    let mean = &evaluation.summary.foreground_mean;
    let metrics: Vec<Metric> = mean.iter().map(|(m, _)| m).filter(|m| m.unit() != "voxels").collect();
    let metrics: Vec<Metric> = metrics
        .into_iter()
        .filter(|m| !matches!(m, Metric::FlareDsc | Metric::FlareNsd))
        .collect();
    let mut head = String::from("<th scope=\"col\">Class</th>");
    for &metric in &metrics {
        let (name, unit) = (narrow(metric), metric.unit());
        let unit = if unit.is_empty() {
            String::new()
        } else {
            format!("<br>({unit})")
        };
        let _ = write!(
            head,
            "<th scope=\"col\" title=\"{}\">{name}{unit}</th>",
            Text(metric.title())
        );
    }
    let mut table = Table::new("all").head_markup(head);
    for (&id, class) in &evaluation.summary.mean {
        let cells = metrics.iter().map(|&m| value(m, class.mean.get(m)));
        table.row("", &class_markup(evaluation, id), cells);
    }
    let cells = metrics.iter().map(|&m| value(m, mean.get(m)));
    table.row("sum", "Mean of classes", cells);
    table
}

/// Title for a narrow column, as markup.
fn narrow(metric: Metric) -> &'static str {
    match metric {
        Metric::Jaccard => "Jaccard",
        Metric::SurfaceDice => "Surface<br>Dice",
        Metric::DistanceRefToPred => "ref. to<br>pred.",
        Metric::DistancePredToRef => "pred. to<br>ref.",
        Metric::Sensitivity => "Sensi-<br>tivity",
        Metric::VolumeRef => "Ref.<br>volume",
        Metric::VolumePred => "Pred.<br>volume",
        Metric::VolumeError => "Volume<br>error",
        Metric::AbsVolumeError => "Abs. vol.<br>error",
        metric => short(metric),
    }
}

/// Most rows of the table of cases; the file with all numbers has the rest.
const MATRIX_ROWS: usize = 60;

/// Dice of each case and class, the worst case first.
fn matrix(page: &mut Page, evaluation: &Evaluation) {
    let ids: Vec<u8> = evaluation.summary.mean.keys().copied().collect();
    let mut head = String::from("<th scope=\"col\">Case</th><th scope=\"col\"><b>mean</b></th>");
    for &id in &ids {
        let _ = write!(
            head,
            "<th scope=\"col\">{}</th>",
            Text(&organ(&evaluation.class_name(id)))
        );
    }
    let mut table = Table::new("matrix").head_markup(head);
    let order = super::worst::ranked(evaluation);
    for &at in order.iter().take(MATRIX_ROWS) {
        let (Some(facts), Some(scores)) = (evaluation.cases.get(at), evaluation.summary.metric_per_case.get(at)) else {
            continue;
        };
        let cell = |dice: Option<f64>| match dice {
            Some(v) => format!(
                "<td style=\"--bad:{:.3}\">{}</td>",
                (1.0 - v).clamp(0.0, 1.0),
                value(Metric::Dice, Some(v))
            ),
            None => "<td>–</td>".to_owned(),
        };
        let name = Text(&facts.case);
        let mut cells = format!("<th scope=\"row\" title=\"{name}\"><bdi>{name}</bdi></th>");
        cells.push_str(&cell(crate::case_mean(scores, Metric::Dice)));
        for id in &ids {
            cells.push_str(&cell(scores.metrics.get(id).and_then(|s| s.dice)));
        }
        table.row_markup(&cells);
    }
    let cut = if order.len() > MATRIX_ROWS {
        format!(
            " The {MATRIX_ROWS} worst of {} cases; metrics.csv has all.",
            order.len()
        )
    } else {
        String::new()
    };
    page.table(
        &format!("Dice of every case and class, the case with the lowest mean first. A dash is a class that the reference does not annotate, or that is empty in both.{cut}"),
        &table,
    );
}
