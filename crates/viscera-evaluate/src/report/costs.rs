//! Curves of memory and time, where `viscera bench` left them beside the predictions.

use super::text::{Text, number};
use crate::Evaluation;
use crate::known::read_json;
use std::path::{Path, PathBuf};
use viscera_monitor::{Bench, Curve, Record};
use viscera_page::{Line, Look, line_plot};
use viscera_page::{Page, Table};

/// Ending of the files.
const ENDING: &str = "bench.json";

/// Most runs that have a row of their own.
const MOST_ROWS: usize = 40;

pub(super) fn section(page: &mut Page, evaluation: &Evaluation, notes: &mut Vec<String>) {
    let Some(folder) = evaluation.pairs.first().and_then(|pair| pair.prediction.parent()) else {
        return;
    };
    let mut benches: Vec<(String, Bench)> = Vec::new();
    for path in files(folder) {
        match read_json::<Bench>(&path) {
            Ok(Some(bench)) => {
                let file = path.file_name().map(|n| n.to_string_lossy().into_owned());
                let name = bench.case.clone().or(file).unwrap_or_default();
                benches.push((name, bench));
            }
            Ok(None) => {}
            Err(error) => notes.push(format!("costs are not shown: {error}")),
        }
    }
    if benches.iter().all(|(_, bench)| bench.runs.is_empty()) {
        return;
    }
    page.section("Time and memory");
    let mut picture = String::from("<div class=\"pair\">");
    let curve = |title: &str, points: &dyn Fn(&Record) -> Vec<(f64, f64)>| {
        let runs = benches
            .iter()
            .flat_map(|(name, bench)| bench.runs.iter().map(move |run| (name, run)));
        let lines: Vec<Line> = runs
            .map(|(name, run)| Line {
                points: points(run),
                what: name.clone(),
                look: Look::Plain,
            })
            .filter(|line| line.points.len() > 1)
            .collect();
        if lines.is_empty() {
            String::new()
        } else {
            line_plot(&lines, ["time (s)", title], false)
        }
    };
    picture.push_str(&curve("memory of the processes (MiB)", &|run| {
        Curve::TreeRss.points(&run.samples)
    }));
    picture.push_str(&curve("processor (% of one core)", &Record::tree_cpu_curve));
    if benches
        .iter()
        .any(|(_, bench)| bench.runs.iter().any(|run| run.machine.gpu.is_some()))
    {
        picture.push_str(&curve("GPU memory in use (MiB)", &|run| {
            Curve::Gpu.points(&run.samples)
        }));
    }
    picture.push_str("</div>");
    page.figure(
        &picture,
        "Costs while the predictions were made, one line per run, as the bench files beside them say.",
    );

    let mut table = Table::new("costs").head([
        "Case",
        "runs",
        "wall clock (s)",
        "processor (s)",
        "peak memory (MiB)",
        "peak GPU (MiB)",
    ]);
    for (name, bench) in benches.iter().take(MOST_ROWS) {
        let gpu = bench
            .runs
            .iter()
            .filter(|r| r.machine.gpu.is_some())
            .filter_map(|r| r.gpu_max_flare23_mib)
            .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
        table.row(
            "",
            &format!("<bdi>{}</bdi>", Text(name)),
            [
                bench.runs.len().to_string(),
                number(Some(bench.wall_s.median), 2),
                number(Some(bench.cpu_s.median), 2),
                number(bench.peak_rss_mib.map(|s| s.median), 0),
                number(gpu, 0),
            ],
        );
    }
    let rest = benches.len().saturating_sub(MOST_ROWS);
    let more = if rest > 0 {
        format!(" {rest} more are not listed.")
    } else {
        String::new()
    };
    page.table(
        &format!("Costs per case: medians over runs; of the GPU, the largest value.{more}"),
        &table,
    );
}

/// The files of a folder that end as bench files do, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|n| n.to_string_lossy().ends_with(ENDING)))
        .collect();
    files.sort();
    files
}
