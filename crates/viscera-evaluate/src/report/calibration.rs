//! Whether predictions are as often right as they are sure.

use super::class_markup;
use super::text::number;
use crate::Evaluation;
use viscera_metrics::Reliability;
use viscera_page::{Line, Look, line_plot};
use viscera_page::{Page, Table};

pub(super) fn section(page: &mut Page, evaluation: &Evaluation) {
    let Some(block) = &evaluation.calibration else { return };
    page.section("Calibration");
    let bins = block.overall.bins.iter();
    let line = Line {
        points: bins.filter_map(|bin| Some((bin.confidence?, bin.accuracy?))).collect(),
        what: "all classes".to_owned(),
        look: Look::Plain,
    };
    page.figure(
        &line_plot(&[line], ["confidence", "share of voxels that are right"], true),
        &format!(
            "Reliability over {} cases: voxels where the reference or the prediction has an organ, in {} bins of confidence. \
             Below the dashed line the predictions are too sure.",
            block.cases,
            block.overall.bins.len()
        ),
    );
    let head = [
        "Predicted class",
        "voxels",
        "mean confidence",
        "right",
        "expected error",
        "largest error",
        "Brier score",
    ];
    let mut table = Table::new("calibration").head(head);
    let cells = |r: &Reliability| {
        let shares = [r.confidence, r.accuracy, r.ece, r.mce, r.brier];
        std::iter::once(r.voxels.to_string())
            .chain(shares.map(|share| number(Some(share), 3)))
            .collect::<Vec<_>>()
    };
    for (&id, reliability) in &block.classes {
        let name = if id == 0 {
            "background (missed)".to_owned()
        } else {
            class_markup(evaluation, id)
        };
        table.row("", &name, cells(reliability));
    }
    table.row("sum", "All", cells(&block.overall));
    page.table(
        "Calibration of the predicted class. Errors are differences between confidence and the share that is right.",
        &table,
    );
}
