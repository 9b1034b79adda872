//! `viscera demo`.

use crate::args::DemoArgs;
use crate::commands::{evaluate, segment};
use crate::exit::Outcome;
use crate::printer::Printer;
use serde::Serialize;
use std::path::PathBuf;
use viscera_evaluate::{EvaluateOptions, Evaluation};
use viscera_image::phantom::{FieldOfView, PhantomConfig};
use viscera_io::InputCase;
use viscera_pipeline::{Cohort, JobOptions, Manifest, Outputs, PhantomSet, SegmentOptions, Segmenter, segment_case};

/// A spacing at which a phantom is made and segmented in seconds.
const SPACING: [f64; 3] = [2.5, 1.25, 1.25];

/// The result of a run, for programs.
#[derive(Serialize)]
struct Run {
    phantom: PathBuf,
    manifest: Manifest,
    scores: Evaluation,
    picture: PathBuf,
}

pub(super) fn run(args: &DemoArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    let segmenter = Segmenter::new(super::models().load("default")?, &SegmentOptions::default())?;
    let config = PhantomConfig {
        spacing: Some(SPACING),
        field_of_view: Some(FieldOfView::Abdomen),
        ..PhantomConfig::default()
    };
    let set = PhantomSet::create(&args.out.join("phantom"), Cohort::plain(1, args.seed, config))?;
    let (phantom, truth) = match set.cases() {
        [case] => (case, set.labels(case)),
        _ => anyhow::bail!("one phantom was to be made"),
    };
    let truth = truth.ok_or_else(|| anyhow::anyhow!("the phantom has no label map"))?;
    printer.note("making a phantom: a synthetic abdominal CT with known organs");
    set.make(phantom)?;
    let case = InputCase {
        name: phantom.name.clone(),
        path: set.image(phantom),
    };
    printer.note("segmenting it with the default model");
    let options = JobOptions {
        outputs: Outputs {
            preview: true,
            ..Outputs::default()
        },
        volume: None,
    };
    let manifest = segment_case(&segmenter, &case, &args.out, &options)?;
    segment::report(&manifest, false, printer);

    let classes: Vec<String> = segmenter
        .model()
        .labels()
        .entries()
        .iter()
        .map(|e| e.name.clone())
        .collect();
    let result = args.out.join(format!("{}.nii.gz", case.name));
    let scoring = EvaluateOptions {
        classes: Some(classes),
        ..EvaluateOptions::default()
    };
    let scores = viscera_evaluate::evaluate(&truth, &result, &scoring, |_, _| ())?;
    evaluate::table(&scores, printer);
    let run = Run {
        phantom: case.path,
        picture: args.out.join(format!("{}.png", case.name)),
        manifest,
        scores,
    };
    printer.line(format!("the scan:    {}", run.phantom.display()));
    printer.line(format!("the masks:   {}", result.display()));
    printer.line(format!("the picture: {}", run.picture.display()));
    if printer.is_json() {
        printer.value(&run)?;
    }
    Ok(Outcome::Done)
}
