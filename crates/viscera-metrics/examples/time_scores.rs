//! Seconds and memory of all measures of a prediction against a reference: `time_scores REFERENCE PREDICTION [RUNS]`.
//!
//! Classes are those of FLARE that occur in the reference, tolerances are FLARE's. Prints one JSON object:
//! `seconds` per run, `bytes_per_voxel` of memory in use at most beyond the two label maps (on Linux), `metrics` as in
//! `summary.json`, with the scores of FLARE 2023, which are not timed. `peer.py` beside this file does the same in Python and compares.

use std::path::Path;
use std::time::Instant;
use viscera_image::AnnotatedClasses;
use viscera_io::read_label_map;
use viscera_metrics::{CaseScore, FlareEdition, FlareOptions, ScoreOptions};

/// A line of this process's status in bytes, such as `VmHWM`, the most memory that it ever used.
fn status(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim_start_matches(':')
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<f64>()
        .ok()
        .map(|kib| kib * 1024.0)
}

#[allow(clippy::print_stdout)]
fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (reference, prediction) = (
        read_label_map(Path::new(&arguments[0])).unwrap(),
        read_label_map(Path::new(&arguments[1])).unwrap(),
    );
    let runs: usize = arguments.get(2).map_or(5, |runs| runs.parse().unwrap());
    let annotated: AnnotatedClasses = (1..=14).filter(|id| reference.data().contains(id)).collect();
    let mut options = ScoreOptions::default();
    for class in 1..=14 {
        options
            .tolerances
            .classes_mm
            .insert(class, FlareEdition::Flare23.tolerance_mm(class).unwrap());
    }
    // Reading may have taken more for a while: the peak starts anew here.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS");
    let mut seconds = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let score = CaseScore::measure("r", "p", &reference, &prediction, &annotated, &options).unwrap();
        seconds.push(start.elapsed().as_secs_f64());
        drop(score);
    }
    let voxels = reference.data().len() as f64;
    options.flare = Some(FlareOptions {
        edition: FlareEdition::Flare23,
        inclusive: false,
    });
    let with_flare = CaseScore::measure("r", "p", &reference, &prediction, &annotated, &options).unwrap();
    let bytes = status("VmHWM")
        .zip(before)
        .map(|(most, before)| (most - before) / voxels);
    let report = serde_json::json!({
        "shape": reference.shape(),
        "seconds": seconds,
        "bytes_per_voxel": bytes,
        "metrics": with_flare.metrics,
    });
    println!("{report}");
}
