//! The worst cases, with pictures.

use super::overlay::overlay;
use super::text::{Text, organ, short, value};
use super::{ReportOptions, organs};
use crate::run::read_pair;
use crate::{EvaluateError, Evaluation, case_mean};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use viscera_io::{Image, ReadOptions, expand_inputs, read_image};
use viscera_metrics::{CaseScore, Metric, check_same_grid};
use viscera_page::{OUTLINE_KEY, Page};

/// The cases that have a Dice, the one with the lowest mean over its classes first.
pub(super) fn ranked(evaluation: &Evaluation) -> Vec<usize> {
    let means = evaluation
        .summary
        .metric_per_case
        .iter()
        .map(|c| case_mean(c, Metric::Dice));
    let mut order: Vec<(usize, f64)> = means.enumerate().filter_map(|(at, mean)| Some((at, mean?))).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
    order.into_iter().map(|(at, _)| at).collect()
}

/// The foreground class with the lowest Dice, of equal ones that with the lowest surface Dice.
fn worst_class(scores: &CaseScore) -> Option<u8> {
    let classes = scores.metrics.range(1..).filter_map(|(&id, score)| {
        let dice = score.dice?;
        // Empty in both with a rule that makes this a success: there is nothing to see.
        (score.overlap.n_ref + score.overlap.n_pred > 0)
            .then(|| (id, [dice, Metric::SurfaceDice.of(score).unwrap_or(1.0)]))
    });
    let lower = |a: &(u8, [f64; 2]), b: &(u8, [f64; 2])| a.1[0].total_cmp(&b.1[0]).then(a.1[1].total_cmp(&b.1[1]));
    classes.min_by(lower).map(|(id, _)| id)
}

pub(super) fn section(
    page: &mut Page,
    evaluation: &Evaluation,
    options: &ReportOptions,
    notes: &mut Vec<String>,
) -> Result<(), EvaluateError> {
    let images = Images::find(evaluation, options)?;
    let mut shown = String::new();
    let mut all_images = true;
    for at in ranked(evaluation).into_iter().take(options.pictures) {
        let (Some(pair), Some(scores)) = (evaluation.pairs.get(at), evaluation.summary.metric_per_case.get(at)) else {
            continue;
        };
        let Some(class) = worst_class(scores) else { continue };
        let (reference, prediction, _) = read_pair(pair, evaluation.settings.resample_prediction)?;
        let image = match images.0.get(&pair.case) {
            Some(path) => match read_image(path, &ReadOptions::default()) {
                Ok(read) if check_same_grid(reference.geometry(), read.image.geometry()).is_ok() => Some(read.image),
                Ok(_) => {
                    notes.push(format!(
                        "the image of case \"{}\" lies on another grid and is not shown",
                        pair.case
                    ));
                    None
                }
                Err(error) => {
                    notes.push(format!("the image of case \"{}\" is not shown: {error}", pair.case));
                    None
                }
            },
            None => None,
        };
        all_images &= image.is_some();
        if let Some(pictures) = overlay(&reference, &prediction, class, image.as_ref())? {
            shown.push_str(&article(evaluation, at, class, &pictures, image.as_ref()));
        }
    }
    if shown.is_empty() {
        return Ok(());
    }
    page.section("Worst cases");
    let ground = if all_images {
        "over the CT (centre 40, width 400 HU)"
    } else {
        "over the CT where there is one (centre 40, width 400 HU)"
    };
    page.paragraph(&format!(
        "The cases with the lowest mean Dice, each at the class with its lowest Dice: the slices in which reference and \
         prediction differ most, {ground}. The patient's right is on the left."
    ));
    page.push(OUTLINE_KEY);
    page.push(&shown);
    Ok(())
}

fn article(evaluation: &Evaluation, at: usize, class: u8, pictures: &str, image: Option<&Image>) -> String {
    let (Some(facts), Some(scores)) = (evaluation.cases.get(at), evaluation.summary.metric_per_case.get(at)) else {
        return String::new();
    };
    let mut numbers = String::new();
    if let Some(score) = scores.metrics.get(&class) {
        let mut metrics = organs::main_metrics(evaluation);
        metrics.extend([Metric::VolumeRef, Metric::VolumePred]);
        for metric in metrics {
            let found = metric.of(score);
            let unit = if found.is_some() { metric.unit() } else { "" };
            let blank = if unit.is_empty() { "" } else { " " };
            let _ = write!(numbers, " · {} {}{blank}{unit}", short(metric), value(metric, found));
        }
    }
    let mean = value(Metric::Dice, case_mean(scores, Metric::Dice));
    let plain = if image.is_none() { " · no image" } else { "" };
    format!(
        "<article class=\"case\"><h3><bdi>{}</bdi></h3><p><b>{}</b>{numbers} · mean Dice of the case {mean}{plain}</p>{pictures}</article>",
        Text(&facts.case),
        Text(&organ(&evaluation.class_name(class)))
    )
}

/// Images by case.
struct Images(BTreeMap<String, PathBuf>);

impl Images {
    /// Those of the folder that was named; else of nnU-Net's folder of images beside the references, if it is there.
    fn find(evaluation: &Evaluation, options: &ReportOptions) -> Result<Self, EvaluateError> {
        let cases = match (&options.images, beside(evaluation)) {
            (Some(path), _) => expand_inputs(std::slice::from_ref(path))?,
            (None, Some(path)) => expand_inputs(&[path])?,
            (None, None) => Vec::new(),
        };
        let mut images: BTreeMap<String, PathBuf> = cases.into_iter().map(|c| (c.name, c.path)).collect();
        // A single image belongs to a single case, whatever its name.
        if let (Some(path), [pair]) = (&options.images, evaluation.pairs.as_slice())
            && path.is_file()
        {
            images.insert(pair.case.clone(), path.clone());
        }
        Ok(Self(images))
    }
}

/// `imagesTr` beside `labelsTr`, or the like with `Ts`; `None` where there is no such folder with images.
fn beside(evaluation: &Evaluation) -> Option<PathBuf> {
    let folder = evaluation.pairs.first()?.reference.parent()?;
    let suffix = folder.file_name()?.to_str()?.strip_prefix("labels")?;
    let images = folder.parent().unwrap_or(Path::new("")).join(format!("images{suffix}"));
    expand_inputs(std::slice::from_ref(&images)).is_ok().then_some(images)
}
