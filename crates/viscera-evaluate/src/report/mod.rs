//! The report: one HTML file that needs nothing else, on a screen, on a telephone, on paper.

mod calibration;
mod costs;
mod groups;
mod organs;
mod overlay;
mod plot;
mod settings;
mod text;
mod volumes;
mod worst;

pub(crate) mod comparison;

use crate::{EvaluateError, Evaluation};
use std::fmt::Write as _;
use std::path::PathBuf;
use text::{NONE, Text, number};
use viscera_metrics::Metric;
use viscera_page::Page;

/// What the report shows beyond the scores.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportOptions {
    /// Folder (or file) of the CTs for the pictures, joined by name; `None` looks for `imagesTr` beside `labelsTr`.
    pub images: Option<PathBuf>,
    /// How many of the worst cases have pictures.
    pub pictures: usize,
    /// The command line that made the numbers.
    pub command: Vec<String>,
}

impl Default for ReportOptions {
    fn default() -> Self {
        Self {
            images: None,
            pictures: 6,
            command: Vec::new(),
        }
    }
}

/// The report as HTML, and what it could not show.
pub(crate) fn report(evaluation: &Evaluation, options: &ReportOptions) -> Result<(String, Vec<String>), EvaluateError> {
    let mut page = Page::default();
    let mut notes = Vec::new();
    head(&mut page, evaluation);
    organs::section(&mut page, evaluation);
    volumes::section(&mut page, evaluation);
    worst::section(&mut page, evaluation, options, &mut notes)?;
    groups::flare(&mut page, evaluation);
    groups::lesions(&mut page, evaluation);
    calibration::section(&mut page, evaluation);
    groups::section(&mut page, evaluation);
    costs::section(&mut page, evaluation, &mut notes);
    settings::section(&mut page, evaluation, options);
    Ok((page.finish("Segmentation scores"), notes))
}

/// Title, what was compared, headline numbers.
fn head(page: &mut Page, evaluation: &Evaluation) {
    let settings = &evaluation.settings;
    let mut out = String::from("<header><h1>Segmentation scores</h1><dl class=\"what\">");
    for (what, value) in [("Reference", &settings.reference), ("Prediction", &settings.prediction)] {
        let _ = write!(out, "<dt>{what}</dt><dd><bdi>{}</bdi></dd>", Text(value));
    }
    out.push_str("</dl><div class=\"headline\">");
    let mean = &evaluation.summary.foreground_mean;
    for metric in [Metric::Dice, Metric::SurfaceDice, Metric::Hausdorff95] {
        let Some(value) = mean.get(metric) else { continue };
        let unit = if metric.unit().is_empty() {
            String::new()
        } else {
            format!("<small>{}</small>", metric.unit())
        };
        let digits = if metric.unit().is_empty() { 3 } else { 1 };
        let _ = write!(
            out,
            "<div><strong>{}{unit}</strong><span>mean {}, each class counts once</span></div>",
            number(Some(value), digits),
            text::short(metric)
        );
    }
    let resampled = evaluation.cases.iter().filter(|c| c.resampled).count();
    let _ = write!(
        out,
        "<div><strong>{}</strong><span>{}</span></div><div><strong>{}</strong><span>classes</span></div></div>",
        evaluation.cases.len(),
        if evaluation.cases.len() == 1 { "case" } else { "cases" },
        evaluation.classes.len()
    );
    if !evaluation.missing.is_empty() || resampled > 0 {
        out.push_str("<ul class=\"notes\">");
        if resampled > 0 {
            let _ = write!(
                out,
                "<li>{resampled} of the predictions lay on another grid and were brought to the reference's by nearest neighbour.</li>"
            );
        }
        if !evaluation.missing.is_empty() {
            let names: Vec<String> = evaluation
                .missing
                .iter()
                .map(|m| format!("<bdi>{}</bdi>", Text(m)))
                .collect();
            let _ = write!(
                out,
                "<li>References without a prediction, not in any number here: {}.</li>",
                names.join(", ")
            );
        }
        out.push_str("</ul>");
    }
    out.push_str("</header>");
    page.push(&out);
}

/// A class's name behind a patch of its colour, as markup.
fn class_markup(evaluation: &Evaluation, class: u8) -> String {
    format!(
        "<i class=\"swatch\" style=\"background:{}\"></i><bdi>{}</bdi>",
        text::rgb(class_colour(evaluation, class)),
        Text(&text::organ(&evaluation.class_name(class)))
    )
}

/// The colour of a class: that of the label table, else one by its id.
fn class_colour(evaluation: &Evaluation, class: u8) -> [u8; 3] {
    let entry = evaluation.table.by_id(class);
    entry.map_or_else(|| viscera_io::class_colour("", class), |e| e.rgb)
}

/// Two of a FLARE challenge's means.
fn pair(values: [Option<f64>; 2]) -> [String; 2] {
    values.map(|v| v.map_or_else(|| NONE.to_owned(), |v| number(Some(v), 4)))
}
