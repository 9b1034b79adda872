//! How the volumes agree.

use super::class_colour;
use super::plot::{Dot, Guide, scatter};
use super::text::{Text, number, organ, rgb};
use crate::Evaluation;
use std::fmt::Write as _;
use viscera_page::Page;

/// Volumes of one class in one case.
struct Pair {
    class: u8,
    reference: f64,
    prediction: f64,
    what: String,
}

pub(super) fn section(page: &mut Page, evaluation: &Evaluation) {
    let mut pairs = Vec::new();
    for (facts, scores) in evaluation.scored() {
        for (&class, score) in scores.metrics.range(1..) {
            let (reference, prediction) = (score.volume_ref_ml, score.volume_pred_ml);
            pairs.push(Pair {
                class,
                reference,
                prediction,
                what: format!(
                    "{}, {}: {reference:.1} ml, predicted {prediction:.1} ml",
                    facts.case,
                    organ(&evaluation.class_name(class))
                ),
            });
        }
    }
    let empty = pairs
        .iter()
        .filter(|p| p.reference <= 0.0 || p.prediction <= 0.0)
        .count();
    pairs.retain(|p| p.reference > 0.0 && p.prediction > 0.0);
    if pairs.is_empty() {
        return;
    }
    page.section("Volumes");
    let dot = |p: &Pair, x: f64, y: f64| Dot {
        x,
        y,
        rgb: class_colour(evaluation, p.class),
        what: p.what.clone(),
    };
    let agreement: Vec<Dot> = pairs.iter().map(|p| dot(p, p.reference, p.prediction)).collect();
    // Organs differ in size by a factor of a thousand, so that only relative differences can share an axis.
    let percent = |p: &Pair| 200.0 * (p.prediction - p.reference) / (p.prediction + p.reference);
    let difference: Vec<Dot> = pairs
        .iter()
        .map(|p| dot(p, (p.reference + p.prediction) / 2.0, percent(p)))
        .collect();
    let n = pairs.len() as f64;
    let bias = pairs.iter().map(percent).sum::<f64>() / n;
    let mut levels = vec![(bias, format!("mean {} %", number(Some(bias), 1)))];
    if pairs.len() > 1 {
        let squares: f64 = pairs.iter().map(|p| (percent(p) - bias).powi(2)).sum();
        let reach = 1.96 * (squares / (n - 1.0)).sqrt();
        for (value, name) in [(bias + reach, "+1.96 SD"), (bias - reach, "\u{2212}1.96 SD")] {
            levels.push((value, format!("{name} {} %", number(Some(value), 1))));
        }
    }
    let mut picture = String::from("<div class=\"pair\">");
    picture.push_str(&scatter(
        &agreement,
        &Guide::Equal,
        ["reference volume (ml)", "predicted volume (ml)"],
    ));
    picture.push_str(&scatter(
        &difference,
        &Guide::Levels(levels),
        ["mean of both volumes (ml)", "prediction − reference (% of mean)"],
    ));
    picture.push_str("</div><ul class=\"legend\">");
    for &id in evaluation.summary.mean.keys() {
        let _ = write!(
            picture,
            "<li><i class=\"swatch\" style=\"background:{}\"></i>{}</li>",
            rgb(class_colour(evaluation, id)),
            Text(&organ(&evaluation.class_name(id)))
        );
    }
    picture.push_str("</ul>");
    let left_out = match empty {
        0 => String::new(),
        1 => " One pair of class and case is empty in reference or prediction and cannot be shown.".to_owned(),
        n => format!(" {n} pairs of class and case are empty in reference or prediction and cannot be shown."),
    };
    page.figure(
        &picture,
        &format!(
            "Volumes of every class and case. Left: prediction against reference, both logarithmic; on the line they are equal. \
             Right: difference against mean (Bland and Altman), in percent of the mean, with the mean of all points and \
             limits of agreement.{left_out}"
        ),
    );
}
