//! Pseudo-labels: a trained model labels what people did not.

use crate::{Progress, TrainError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;
use viscera_image::{AnnotatedClasses, LabelTable};
use viscera_io::{
    Annotations, Case, Classes, ReadOptions, atomic_write, read_image, read_label_map, write_json, write_label_map,
};
use viscera_pipeline::recipe::{Role, Stream};
use viscera_pipeline::{Model, SegmentOptions, Segmenter};

/// Name of the list that a folder of pseudo-labels holds: a data set like any other.
pub const PSEUDO_LIST: &str = "list.toml";

/// Which cases are labelled, and which of these are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct PseudoLabelOptions {
    /// Those that people labelled in part, those that nobody labelled.
    pub cases: Vec<Stream>,
    /// Cases are left out whose organs' mean confidence is lower, 0 to 1.
    pub least_confidence: f64,
}

impl Default for PseudoLabelOptions {
    fn default() -> Self {
        Self {
            cases: vec![Stream::Partial, Stream::Unlabelled],
            least_confidence: 0.0,
        }
    }
}

/// What became of the cases.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct PseudoLabelReport {
    /// Labelled now.
    pub labelled: usize,
    /// Labelled in an earlier call.
    pub already_there: usize,
    /// Left out, with the reason.
    pub left_out: BTreeMap<String, String>,
    /// Whether all cases were looked at; not when whoever watches said stop.
    pub finished: bool,
}

/// A case's record in the folder, written when its label map is whole.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Which model labelled it: SHA-256 of its recipe and weights.
    model: String,
    confidence: Option<f64>,
    left_out: Option<String>,
    annotated: Vec<String>,
    pseudo: Vec<String>,
}

/// Labels cases of a data set (with the classes `known`) and writes `out/labels/CASE.nii.gz`, `out/cases/CASE.json`, and in
/// the end a data set of all given cases, `out/list.toml` with `annotations.json` beside it, which names the classes that
/// the model labelled.
///
/// A class that people annotated in a case stays as they drew it: what the model finds of it is erased, and what they
/// drew is laid over the rest (FLARE23's self-training). Cases that have a record of the same model are not labelled again.
///
/// # Errors
/// [`TrainError::DataSet`] when a class has another id in the model; [`TrainError::Pipeline`] for a model that cannot
/// segment; [`TrainError::Io`] for a file. A scan that cannot be segmented is left out.
pub fn pseudo_label(
    model: Model,
    cases: &[Case],
    known: &LabelTable,
    out: &Path,
    options: &PseudoLabelOptions,
    progress: &mut dyn Progress,
) -> Result<PseudoLabelReport, TrainError> {
    let found = found_classes(&model)?;
    for entry in found.entries() {
        if known.by_name(&entry.name).is_none_or(|own| own.id != entry.id) {
            return Err(TrainError::DataSet {
                reason: format!("class \"{}\" of the model is another or none here", entry.name),
            });
        }
    }
    let finds = AnnotatedClasses::all(&found);
    let identity = identity(&model)?;
    let segmenter = Segmenter::new(model, &SegmentOptions::default())?;
    let names = |set: AnnotatedClasses| -> Vec<String> {
        let entries = known.entries().iter().filter(|e| set.contains(e.id));
        entries.map(|e| e.name.clone()).collect()
    };
    let mut report = PseudoLabelReport::default();
    let mut list = List {
        labels: known.entries().iter().map(|e| (e.name.clone(), e.id)).collect(),
        cases: Vec::new(),
    };
    let mut annotations = Annotations {
        default: Classes::Named(Vec::new()),
        ..Annotations::default()
    };
    for (number, case) in cases.iter().enumerate() {
        let missing: AnnotatedClasses = finds.iter().filter(|&id| !case.annotated.contains(id)).collect();
        let stream = if case.annotated.is_empty() {
            Stream::Unlabelled
        } else {
            Stream::Partial
        };
        let mut row = Row::of(case)?;
        let (mut annotated, mut pseudo) = (names(case.annotated), names(case.pseudo));
        if !missing.is_empty() && options.cases.contains(&stream) {
            let file = out.join("labels").join(format!("{}.nii.gz", case.name));
            let path = out.join("cases").join(format!("{}.json", case.name));
            let earlier = std::fs::read(&path)
                .ok()
                .and_then(|text| serde_json::from_slice(&text).ok());
            let record = match earlier.filter(|record: &Record| record.model == identity) {
                Some(record) => {
                    report.already_there += 1;
                    record
                }
                None => {
                    if progress.labelling(&case.name, number, cases.len()).is_break() {
                        return Ok(report);
                    }
                    let record = label(&segmenter, case, known, missing, &file, &identity, options, &names)?;
                    write_json(&path, &record)?;
                    report.labelled += usize::from(record.left_out.is_none());
                    record
                }
            };
            match record.left_out {
                Some(reason) => {
                    report.left_out.insert(case.name.clone(), reason);
                }
                None => {
                    row.label = Some(std::path::absolute(&file).map_err(TrainError::file(&file))?);
                    (annotated, pseudo) = (record.annotated, record.pseudo);
                }
            }
        }
        annotations.cases.insert(case.name.clone(), Classes::Named(annotated));
        if !pseudo.is_empty() {
            annotations.pseudo.insert(case.name.clone(), Classes::Named(pseudo));
        }
        list.cases.push(row);
    }
    let path = out.join(PSEUDO_LIST);
    let text = toml::to_string(&list).map_err(|e| TrainError::content(&path, e))?;
    write_json(&out.join("annotations.json"), &annotations)?;
    atomic_write(&path, |file| file.write_all(text.as_bytes()))?;
    report.finished = true;
    Ok(report)
}

/// SHA-256 of a model's recipe and weights, whether or not it lies in a file.
fn identity(model: &Model) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    hash.update(model.recipe().canonical()?);
    let folds = model.networks().flat_map(|network| network.folds);
    for values in folds.flat_map(|weights| &weights.values) {
        hash.update(bytemuck::cast_slice::<f32, u8>(values));
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The classes that a model's segmenting stages find.
fn found_classes(model: &Model) -> Result<LabelTable, TrainError> {
    let mut entries = BTreeMap::new();
    for stage in model.recipe().stages.iter().filter(|s| s.role == Role::Segment) {
        let table = stage.table(model.labels())?;
        entries.extend(table.entries().iter().map(|e| (e.id, e.clone())));
    }
    Ok(LabelTable::new(model.labels().name(), entries.into_values().collect())?)
}

#[allow(clippy::too_many_arguments)] // one call
fn label(
    segmenter: &Segmenter,
    case: &Case,
    known: &LabelTable,
    missing: AnnotatedClasses,
    file: &Path,
    identity: &str,
    options: &PseudoLabelOptions,
    names: &dyn Fn(AnnotatedClasses) -> Vec<String>,
) -> Result<Record, TrainError> {
    let mut record = Record {
        model: identity.to_owned(),
        confidence: None,
        left_out: None,
        annotated: Vec::new(),
        pseudo: Vec::new(),
    };
    let scan = read_image(&case.image, &ReadOptions::default())?;
    let mut result = match segmenter.segment(&scan) {
        Ok(result) => result,
        Err(error) => {
            record.left_out = Some(error.to_string());
            return Ok(record);
        }
    };
    let sure: Vec<f64> = result
        .report
        .organs
        .iter()
        .filter_map(|organ| organ.confidence)
        .collect();
    let mean = (!sure.is_empty()).then(|| sure.iter().sum::<f64>() / sure.len() as f64);
    record.confidence = mean;
    if mean.unwrap_or(0.0) < options.least_confidence {
        record.left_out = Some(format!("a mean confidence of {:.3}", mean.unwrap_or(0.0)));
        return Ok(record);
    }
    if let Some(path) = &case.labels {
        let drawn = read_label_map(path)?;
        crate::data::same_grid(&case.name, scan.image.geometry(), &drawn)?;
        for (label, &drawn) in result.labels.data_mut().iter_mut().zip(drawn.data()) {
            if drawn > 0 {
                *label = drawn;
            } else if !missing.contains(*label) {
                *label = 0;
            }
        }
    }
    write_label_map(file, &result.labels, &scan.header, known.entries())?;
    let all: AnnotatedClasses = case.annotated.iter().chain(missing.iter()).collect();
    let pseudo: AnnotatedClasses = case.pseudo.iter().chain(missing.iter()).collect();
    (record.annotated, record.pseudo) = (names(all), names(pseudo));
    Ok(record)
}

/// A list of cases, as [`viscera_io::Dataset`] reads it.
#[derive(Serialize)]
struct List {
    labels: BTreeMap<String, u8>,
    #[serde(rename = "case")]
    cases: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    image: std::path::PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<std::path::PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    centre: Option<String>,
}

impl Row {
    fn of(case: &Case) -> Result<Self, TrainError> {
        let absolute = |path: &Path| std::path::absolute(path).map_err(TrainError::file(path));
        Ok(Self {
            name: case.name.clone(),
            image: absolute(&case.image)?,
            label: case.labels.as_deref().map(absolute).transpose()?,
            centre: case.centre.clone(),
        })
    }
}
