//! `viscera inspect`.

use crate::args::InspectArgs;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use viscera_image::Histogram;
use viscera_pipeline::{Inspection, inspect};

/// Longest bar of the histogram in characters.
const LONGEST: f64 = 48.0;

pub(super) fn run(args: &InspectArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let found = inspect(&args.file, args.volume)?;
    if printer.is_json() {
        printer.value(&found)?;
    } else {
        text(&found, printer);
    }
    for warning in found.warnings.list() {
        printer.warning(warning.to_string());
    }
    Ok(Outcome::Done)
}

fn text(found: &Inspection, printer: &Printer) {
    let grid = &found.geometry.grid;
    let triple = |v: [f64; 3], digits: usize| v.map(|v| format!("{v:.digits$}")).join(" × ");
    let [z, y, x] = grid.shape;
    let extent: [f64; 3] = std::array::from_fn(|a| grid.shape[a] as f64 * grid.spacing[a]);
    let numbers = |values: &[f64]| values.iter().map(|v| format!("{v:.0}")).collect::<Vec<_>>().join(", ");
    let rows = [
        ("voxels (x × y × z)", format!("{x} × {y} × {z}, {}", found.voxels)),
        ("spacing in mm", triple(reversed(grid.spacing), 3)),
        ("extent in mm", triple(reversed(extent), 0)),
        ("axes grow towards", found.geometry.orientation.clone()),
        (
            "origin (R, A, S) in mm",
            grid.origin.map(|v| format!("{v:.1}")).join(", "),
        ),
        ("min, 0.5 %, median, 99.5 %, max", numbers(&found.percentiles)),
    ];
    let rows: Vec<Vec<String>> = rows.map(|(name, value)| vec![name.to_owned(), value]).to_vec();
    printer.table(&[Side::Left, Side::Left], &rows);
    printer.line("");
    histogram(&found.histogram, printer);
}

fn reversed([z, y, x]: [f64; 3]) -> [f64; 3] {
    [x, y, z]
}

/// Bars by the square root of the share, so that small peaks are seen beside that of air.
fn histogram(histogram: &Histogram, printer: &Printer) {
    let width = (histogram.high - histogram.low) / histogram.counts.len() as f64;
    let mut bins = vec![(format!("< {:.0}", histogram.low), histogram.below)];
    for (i, &count) in histogram.counts.iter().enumerate() {
        bins.push((format!("{:.0}", histogram.low + width * i as f64), count));
    }
    bins.push((format!("> {:.0}", histogram.high), histogram.above));
    let all: u64 = bins.iter().map(|(_, n)| n).sum();
    let most = bins.iter().map(|(_, n)| *n).max().unwrap_or(0);
    let mut rows = vec![vec!["HU from".to_owned(), "%".to_owned()]];
    for (name, count) in bins {
        let bar = (count as f64 / most.max(1) as f64).sqrt() * LONGEST;
        let percent = 100.0 * count as f64 / all.max(1) as f64;
        rows.push(vec![name, format!("{percent:.2}"), "#".repeat(bar.ceil() as usize)]);
    }
    printer.table(&[Side::Right, Side::Right, Side::Left], &rows);
}
