//! Every setting that made the numbers.

use super::ReportOptions;
use super::text::{Text, organ};
use crate::Evaluation;
use viscera_metrics::{EmptyDistance, EmptyRule, GRID_TOLERANCE_MM};
use viscera_page::{Page, Table};

pub(super) fn section(page: &mut Page, evaluation: &Evaluation, options: &ReportOptions) {
    page.section("Settings");
    let settings = &evaluation.settings;
    let mut table = Table::new("settings");
    let mut row = |name: &str, value: String| table.row("", name, [Text(&value).to_string()]);
    row("Program", format!("viscera {}", settings.viscera));
    row("Reference", settings.reference.clone());
    row("Prediction", settings.prediction.clone());
    row("Annotated classes", settings.annotated.clone());
    row(
        "Grids",
        if settings.resample_prediction {
            "predictions on other grids are brought to the reference's by nearest neighbour in the world".to_owned()
        } else {
            format!("must be the same in the world to {GRID_TOLERANCE_MM} mm at every corner")
        },
    );
    row(
        "Empty in both",
        match settings.scores.both_empty {
            EmptyRule::Skip => "no score; such a case is in no mean of the class".to_owned(),
            EmptyRule::One => "counts as right: ratios 1, distances 0".to_owned(),
        },
    );
    row(
        "Empty in one",
        match settings.scores.one_empty {
            EmptyDistance::Skip => "ratios 0; distances have no value and are in no mean".to_owned(),
            EmptyDistance::Infinite => "ratios 0; distances infinite".to_owned(),
            EmptyDistance::Diagonal => "ratios 0; distances are the image's diagonal".to_owned(),
        },
    );
    row("Surfaces", surfaces(evaluation));
    if let Some(flare) = &settings.scores.flare {
        let inclusive = if flare.inclusive { ", last slices kept" } else { "" };
        row("FLARE", format!("{}{inclusive}", super::groups::edition(flare.edition)));
    }
    if let Some((class, lesions)) = &settings.lesions {
        row(
            "Lesions",
            format!(
                "components of {class}; a match has at least {} common voxels and an intersection over union of at least {}; \
                 components of {} mm³ and more count",
                lesions.min_overlap_voxels.max(1),
                lesions.min_iou,
                lesions.min_volume_mm3
            ),
        );
    }
    if settings.lesions_in_organs {
        row(
            "Organs",
            "a lesion counts as part of the organ that reaches it first, in reference and prediction".to_owned(),
        );
    }
    if let Some(path) = &settings.confidence {
        row("Confidence", path.clone());
    }
    if let Some(path) = &settings.case_table {
        row("Case table", format!("{path}; by {}", settings.by.join(", ")));
    }
    let bootstrap = &settings.bootstrap;
    row(
        "Confidence intervals",
        format!(
            "{} % percentile intervals of the mean, {} bootstrap resamples of the cases, seed {}",
            bootstrap.level * 100.0,
            bootstrap.resamples,
            bootstrap.seed
        ),
    );
    if !options.command.is_empty() {
        let quoted: Vec<String> = options.command.iter().map(|argument| shell(argument)).collect();
        table.row("", "Command", [format!("<code>{}</code>", Text(&quoted.join(" ")))]);
    }
    page.push("<figure class=\"table\">");
    page.push(&table.markup());
    page.push("</figure>");
    page.paragraph("For research, not for diagnosis. metrics.csv and summary.json beside this file hold every number.");
}

fn surfaces(evaluation: &Evaluation) -> String {
    let scores = &evaluation.settings.scores;
    if !scores.surface {
        return "not measured".to_owned();
    }
    let class = |(&id, name): (&u8, &String)| format!("{} {}", organ(name), scores.tolerances.of(id));
    let classes: Vec<String> = evaluation.classes.iter().map(class).collect();
    format!(
        "surface Dice at a tolerance in mm of: {}; distances between marching-cubes surface elements, weighted by area",
        classes.join(", ")
    )
}

/// An argument as one would type it.
fn shell(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:@%+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        argument.to_owned()
    } else {
        format!("'{}'", argument.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_can_be_typed_again() {
        assert_eq!(shell("--classes=a,b"), "--classes=a,b");
        assert_eq!(shell("it's <b>"), "'it'\\''s <b>'");
        assert_eq!(shell(""), "''");
    }
}
