//! `viscera data`.

use crate::args::DataCommand;
use crate::exit::Outcome;
use crate::printer::{Printer, Side};
use anyhow::bail;
use std::path::{Path, PathBuf};
use viscera_io::{Case, Dataset, Split, write_json};
use viscera_train::{DataReport, Fingerprint, SplitBy, check_data, folds, load_folds};

pub(super) fn run(command: &DataCommand, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        DataCommand::Check { data, splits } => {
            let dataset = Dataset::open(data)?;
            let folds = splits.as_deref().map(load_folds).transpose()?.unwrap_or_default();
            let train = dataset.cases(Split::Train)?;
            // A data set need not have tests.
            let test = dataset.cases(Split::Test).unwrap_or_default();
            let report = check_data(&train, &test, dataset.labels(), &folds);
            if printer.is_json() {
                printer.value(&report)?;
            } else {
                show(&report, printer);
            }
            if report.has_errors() {
                return Ok(Outcome::FailedCases);
            }
        }
        DataCommand::Annotate { data, force } => {
            let path = folder(data).join("annotations.json");
            if path.exists() && !force {
                bail!("{} is there already; --force replaces it", path.display());
            }
            write_json(&path, &Dataset::open(data)?.found_classes()?)?;
            printer.note(format!("wrote {}", path.display()));
        }
        DataCommand::Fingerprint { data, out } => {
            let found = fingerprint(&Dataset::open(data)?)?;
            found.save(out)?;
            printer.note(format!("wrote {}", out.display()));
        }
        DataCommand::Split {
            data,
            folds: count,
            by_centre,
            seed,
            out,
        } => {
            let by = if *by_centre { SplitBy::Centre } else { SplitBy::Case };
            let labelled: Vec<Case> = labelled(&Dataset::open(data)?)?;
            let path = out.clone().unwrap_or_else(|| folder(data).join("splits.json"));
            write_json(&path, &folds(&labelled, *count, by, *seed)?)?;
            printer.note(format!("wrote {}", path.display()));
        }
    }
    Ok(Outcome::Done)
}

/// The fingerprint of the labelled cases.
pub(super) fn fingerprint(dataset: &Dataset) -> anyhow::Result<Fingerprint> {
    Ok(Fingerprint::of(&labelled(dataset)?)?)
}

fn labelled(dataset: &Dataset) -> anyhow::Result<Vec<Case>> {
    let cases = dataset.cases(Split::Train)?;
    Ok(cases.into_iter().filter(|case| case.labels.is_some()).collect())
}

/// The folder of a data set, or of a list.
fn folder(data: &Path) -> PathBuf {
    if data.is_file() {
        return data.parent().unwrap_or(Path::new("")).to_owned();
    }
    data.to_owned()
}

fn show(report: &DataReport, printer: &Printer) {
    let mut rows = vec![["class", "annotated", "occurs"].map(str::to_owned).to_vec()];
    for (class, annotated) in &report.annotated {
        let present = report.present.get(class).copied().unwrap_or_default();
        rows.push(vec![class.clone(), annotated.to_string(), present.to_string()]);
    }
    printer.table(&[Side::Left, Side::Right, Side::Right], &rows);
    for finding in &report.findings {
        let word = if finding.kind.is_error() { "error" } else { "warning" };
        printer.line(format!("{word}: case {}: {}", finding.case, finding.text));
    }
    printer.line(format!("{} cases, {} findings", report.cases, report.findings.len()));
}
