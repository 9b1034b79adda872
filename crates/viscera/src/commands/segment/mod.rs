//! `viscera segment`.

mod events;
mod reporter;

use crate::args::{ProgressMode, SegmentArgs};
use crate::exit::Outcome;
use crate::interrupt;
use crate::printer::{Printer, Side};
use anyhow::bail;
use reporter::Reporter;
use std::collections::BTreeMap;
use viscera_io::{expand_inputs, with_list};
use viscera_pipeline::batch::{Batch, BatchOptions, Probed, part, probe};
use viscera_pipeline::{JobOptions, Manifest, Organ, Outputs, SegmentOptions, Segmenter, write_statistics};

pub(super) fn run(args: SegmentArgs, printer: &Printer) -> anyhow::Result<Outcome> {
    if args.progress == ProgressMode::Json && printer.is_json() {
        bail!("--json and --progress json both print to standard output: choose one");
    }
    let inputs = with_list(&args.inputs, std::io::stdin().lock())?;
    let mut cases = expand_inputs(&inputs)?;
    // A single scan that fails is the whole run's error.
    let single = cases.len() == 1;
    let mut statistics = "statistics.csv".to_owned();
    if let (Some(parts), Some(id)) = (args.num_parts, args.part_id) {
        if id >= parts {
            bail!(
                "--part-id counts from 0: of {parts} parts the last is {}, not {id}",
                parts - 1
            );
        }
        cases = part(cases, parts, id);
        statistics = format!("statistics_part_{id}.csv");
    }
    let stop = interrupt::watch()?;
    let job = JobOptions {
        outputs: Outputs {
            labels: args.format,
            split: args.split,
            meshes: args.mesh,
            statistics: args.statistics,
            preview: args.preview,
        },
        volume: args.volume,
    };
    // Headers first: what cannot be read is refused before a model is loaded.
    let mut scans = probe(cases, &job);
    if single && let Some(Probed { facts: Err(_), .. }) = scans.first() {
        scans.remove(0).facts?;
    }
    let options = SegmentOptions {
        roi_subset: args.roi_subset,
        allow_non_hu: args.allow_non_hu,
        tta: args.tta.map(Into::into),
        step_size: args.step_size,
        precision: args.precision.into(),
        probabilities: args.probabilities.map(Into::into),
    };
    let segmenter = Segmenter::new(super::models().load(&args.model)?, &options)?;
    let options = BatchOptions {
        out: args.out.clone(),
        job,
        resume: args.resume,
        fail_fast: args.fail_fast,
        max_memory: args.max_memory,
    };
    let batch = Batch::new(segmenter, scans, options);
    let mut reporter = Reporter::new(args.progress, args.statistics, single, printer, &batch)?;
    let summary = batch.run(&stop, |event| reporter.event(event))?;
    let mut run = reporter.finish(&summary);
    run.cases.sort_by(|a, b| a.case.cmp(&b.case));
    if args.statistics {
        let rows: Vec<(&str, &[Organ])> = run
            .cases
            .iter()
            .map(|c| (c.case.as_str(), c.organs.as_slice()))
            .collect();
        write_statistics(&args.out.join(statistics), &rows)?;
    }
    if summary.interrupted {
        run.print(printer)?;
        return Ok(Outcome::Interrupted);
    }
    if single && !run.failed.is_empty() {
        return Err(run.failed.remove(0).error);
    }
    run.print(printer)?;
    let doubtful = run.cases.iter().filter(|c| c.is_in_doubt()).count();
    if args.fail_on_qc && doubtful > 0 {
        printer.note(format!("{doubtful} of {} scans have masks in doubt", run.cases.len()));
        return Ok(Outcome::FailedCases);
    }
    Ok(if run.failed.is_empty() {
        Outcome::Done
    } else {
        Outcome::FailedCases
    })
}

/// One line per case, its warnings, and on request a table of organs.
pub(super) fn report(manifest: &Manifest, statistics: bool, printer: &Printer) {
    let found = manifest.report.organs.iter().filter(|o| o.voxels > 0).count();
    printer.line(format!(
        "{}: {found} of {} organs in {:.1} s: {}",
        manifest.case,
        manifest.report.organs.len(),
        manifest.seconds,
        files(&manifest.outputs)
    ));
    warn(manifest, printer);
    if statistics {
        table(&manifest.report.organs, printer);
    }
}

/// Names of files for people: of those in a folder, the folder and how many.
fn files(names: &[String]) -> String {
    let mut inner: BTreeMap<&str, usize> = BTreeMap::new();
    let mut listed: Vec<String> = Vec::new();
    for name in names {
        match name.split_once('/') {
            Some((folder, _)) => *inner.entry(folder).or_default() += 1,
            None => listed.push(name.clone()),
        }
    }
    listed.extend(inner.iter().map(|(folder, n)| format!("{folder}/ ({n} files)")));
    listed.join(", ")
}

fn warn(manifest: &Manifest, printer: &Printer) {
    for warning in manifest.report.warnings.list() {
        printer.warning(format!("{}: {warning}", manifest.case));
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
