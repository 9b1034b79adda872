//! `viscera segment`.

use crate::args::SegmentArgs;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use serde::Serialize;
use viscera_io::expand_inputs;
use viscera_pipeline::{
    JobOptions, Manifest, Organ, PipelineError, SegmentOptions, Segmenter, segment_case, write_statistics,
};

/// The result of a run, for programs.
#[derive(Serialize)]
struct Run {
    cases: Vec<Manifest>,
    failed: Vec<Failure>,
}

/// A case that could not be segmented.
#[derive(Serialize)]
struct Failure {
    case: String,
    /// The error, then its causes.
    errors: Vec<String>,
}

pub(super) fn run(args: SegmentArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let cases = expand_inputs(&args.inputs)?;
    let options = SegmentOptions {
        roi_subset: args.roi_subset,
        allow_non_hu: args.allow_non_hu,
        tta: args.tta.map(Into::into),
        step_size: args.step_size,
    };
    let segmenter = Segmenter::new(super::models().load(&args.model)?, &options)?;
    let job = JobOptions {
        preview: args.preview,
        volume: args.volume,
    };
    let bar = printer.bar(cases.len());
    let mut run = Run {
        cases: Vec::new(),
        failed: Vec::new(),
    };
    for case in &cases {
        bar.set_message(case.name.clone());
        let result = segment_case(&segmenter, case, &args.out, &job);
        bar.suspend(|| -> Result<(), anyhow::Error> {
            match result {
                Ok(manifest) => {
                    report(&manifest, args.statistics, printer);
                    run.cases.push(manifest);
                    Ok(())
                }
                // A single scan that fails is the whole run's error.
                Err(error) if cases.len() == 1 => Err(error.into()),
                Err(error) => {
                    run.failed.push(failure(&case.name, error, printer));
                    Ok(())
                }
            }
        })?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    if args.statistics {
        let cases: Vec<(&str, &[Organ])> = run
            .cases
            .iter()
            .map(|m| (m.case.as_str(), m.report.organs.as_slice()))
            .collect();
        write_statistics(&args.out.join("statistics.csv"), &cases)?;
    }
    if printer.is_json() {
        printer.value(&run)?;
    }
    if run.failed.is_empty() {
        Ok(Outcome::Done)
    } else {
        printer.note(format!("{} of {} scans failed", run.failed.len(), cases.len()));
        Ok(Outcome::FailedCases)
    }
}

fn failure(case: &str, error: PipelineError, printer: &Printer) -> Failure {
    let error = anyhow::Error::from(error).context(format!("case \"{case}\" failed"));
    printer.error(&error);
    Failure {
        case: case.to_owned(),
        errors: error.chain().skip(1).map(ToString::to_string).collect(),
    }
}

/// One line per case, its warnings, and on request a table of organs.
pub(super) fn report(manifest: &Manifest, statistics: bool, printer: &Printer) {
    let found = manifest.report.organs.iter().filter(|o| o.voxels > 0).count();
    printer.line(format!(
        "{}: {found} of {} organs in {:.1} s: {}",
        manifest.case,
        manifest.report.organs.len(),
        manifest.seconds,
        manifest.outputs.join(", ")
    ));
    for warning in manifest.report.warnings.list() {
        printer.warning(format!("{}: {warning}", manifest.case));
    }
    if statistics {
        table(&manifest.report.organs, printer);
    }
}

fn table(organs: &[Organ], printer: &Printer) {
    let mut rows = vec![["organ", "ml", "mean HU", ""].map(str::to_owned).to_vec()];
    for organ in organs {
        rows.push(vec![
            organ.name.clone(),
            if organ.voxels > 0 {
                format!("{:.1}", organ.volume_ml)
            } else {
                "-".to_owned()
            },
            organ.mean_hu.map_or_else(|| "-".to_owned(), |hu| format!("{hu:.0}")),
            if organ.touches_border { "at the border" } else { "" }.to_owned(),
        ]);
    }
    printer.table(&[Side::Left, Side::Right, Side::Right, Side::Left], &rows);
}
