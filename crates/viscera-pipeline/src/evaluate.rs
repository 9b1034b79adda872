//! Scores of predictions against references: two files, or two folders whose cases are joined by name.

use crate::PipelineError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_image::{AnnotatedClasses, LabelEntry, LabelMap, LabelTable};
use viscera_io::{
    Annotations, Classes, DatasetJson, InputCase, IoError, LabelIds, case_name, expand_inputs, read_label_map,
};
use viscera_metrics::{CaseScore, ScoreOptions, Summary};

/// The result of an evaluation.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Scores per case, and their means; in nnU-Net's shape.
    #[serde(flatten)]
    pub summary: Summary,
    /// Names of the class ids.
    pub classes: BTreeMap<u8, String>,
    /// Cases of the reference that have no prediction.
    pub missing: Vec<String>,
}

/// Compares a prediction with a reference, both files or both folders.
///
/// Only classes that the reference annotates are scored. They are `classes` (names or ids) where given; else those of
/// `annotations.json` or `dataset.json` in the reference's folder or the one above; else those that occur in the
/// reference's label map. Names come from that `dataset.json`, else they are FLARE's.
///
/// # Errors
/// [`PipelineError::Io`] for files that cannot be read, [`PipelineError::UnknownClass`],
/// [`PipelineError::NothingToCompare`] when no name matches, [`PipelineError::Measure`] when grids differ.
pub fn evaluate(reference: &Path, prediction: &Path, classes: Option<&[String]>) -> Result<Evaluation, PipelineError> {
    let folder = if reference.is_dir() {
        Some(reference)
    } else {
        reference.parent()
    };
    let known = Known::of(folder.unwrap_or(Path::new(".")))?;
    let wanted = classes.map(|names| ids(names, &known.table)).transpose()?;

    let (pairs, missing) = if reference.is_dir() {
        pairs(reference, prediction)?
    } else {
        let name = case_name(reference).unwrap_or_else(|| "reference".to_owned());
        (vec![(name, reference.to_owned(), prediction.to_owned())], Vec::new())
    };
    let mut scores = Vec::new();
    for (case, reference, prediction) in pairs {
        let truth = read_label_map(&reference)?;
        let found = read_label_map(&prediction)?;
        let annotated = wanted
            .or_else(|| known.cases.get(&case).copied())
            .or(known.default)
            .unwrap_or_else(|| occurring(&truth));
        let (r, p) = (reference.display().to_string(), prediction.display().to_string());
        let score = CaseScore::measure(r, p, &truth, &found, &annotated, &ScoreOptions::default())
            .map_err(|source| PipelineError::Measure { case, source })?;
        scores.push(score);
    }
    let summary = Summary::of(scores);
    let classes = summary.mean.keys().map(|&id| (id, known.name(id))).collect();
    Ok(Evaluation {
        summary,
        classes,
        missing,
    })
}

/// (case, reference, prediction), and the cases without a prediction.
type Pairs = (Vec<(String, PathBuf, PathBuf)>, Vec<String>);

fn pairs(reference: &Path, prediction: &Path) -> Result<Pairs, PipelineError> {
    let references = expand_inputs(&[reference.to_owned()])?;
    let predictions = expand_inputs(&[prediction.to_owned()])?;
    let mut pairs = Vec::new();
    let mut missing = Vec::new();
    for InputCase { name, path } in references {
        match predictions.iter().find(|p| p.name == name) {
            Some(found) => pairs.push((name, path, found.path.clone())),
            None => missing.push(name),
        }
    }
    if pairs.is_empty() {
        return Err(PipelineError::NothingToCompare {
            reference: reference.to_owned(),
            prediction: prediction.to_owned(),
        });
    }
    Ok((pairs, missing))
}

/// The ids of classes given by name or id.
fn ids(names: &[String], table: &LabelTable) -> Result<AnnotatedClasses, PipelineError> {
    let id = |name: &String| match (table.by_name(name), name.parse::<u8>()) {
        (Some(entry), _) => Ok(entry.id),
        (None, Ok(id)) if id > 0 => Ok(id),
        _ => Err(PipelineError::UnknownClass {
            name: name.clone(),
            known: table.entries().iter().map(|e| e.name.clone()).collect(),
        }),
    };
    names.iter().map(id).collect()
}

fn occurring(labels: &LabelMap) -> AnnotatedClasses {
    let mut seen = [false; 256];
    labels.data().iter().for_each(|&label| seen[usize::from(label)] = true);
    (1..=u8::MAX).filter(|&id| seen[usize::from(id)]).collect()
}

/// What is known of the classes of references in a folder.
struct Known {
    table: LabelTable,
    cases: BTreeMap<String, AnnotatedClasses>,
    default: Option<AnnotatedClasses>,
}

impl Known {
    /// Reads `dataset.json` and `annotations.json` of a folder or the one above. The images need not be there.
    fn of(folder: &Path) -> Result<Self, PipelineError> {
        let mut known = Self {
            table: LabelTable::flare14(),
            cases: BTreeMap::new(),
            default: None,
        };
        let roots = [Some(folder), folder.parent()].into_iter().flatten();
        let is_root = |root: &&Path| {
            ["dataset.json", "annotations.json"]
                .iter()
                .any(|f| root.join(f).is_file())
        };
        let Some(root) = roots.into_iter().find(is_root) else {
            return Ok(known);
        };
        if let Some(dataset) = read_json::<DatasetJson>(&root.join("dataset.json"))? {
            known.table = table(&dataset)?;
        }
        let annotations: Annotations = read_json(&root.join("annotations.json"))?.unwrap_or_default();
        let annotated = |classes: &Classes| match classes {
            Classes::All => Ok(AnnotatedClasses::all(&known.table)),
            Classes::Named(names) => ids(names, &known.table),
        };
        let mut cases = BTreeMap::new();
        for (case, classes) in &annotations.cases {
            cases.insert(case.clone(), annotated(classes)?);
        }
        known.default = Some(annotated(&annotations.default)?);
        known.cases = cases;
        Ok(known)
    }

    fn name(&self, id: u8) -> String {
        self.table
            .by_id(id)
            .map_or_else(|| format!("label {id}"), |e| e.name.clone())
    }
}

/// The classes of `dataset.json` with one id each; colours do not matter here.
fn table(dataset: &DatasetJson) -> Result<LabelTable, PipelineError> {
    let classes = dataset.labels.iter().filter(|(name, _)| name != "ignore");
    let entry = |(name, ids): &(String, LabelIds)| match ids {
        LabelIds::One(id) => u8::try_from(*id).ok().filter(|id| *id > 0).map(|id| LabelEntry {
            id,
            name: name.clone(),
            rgb: [0; 3],
        }),
        LabelIds::Region(_) => None,
    };
    Ok(LabelTable::new("dataset.json", classes.filter_map(entry).collect())?)
}

/// A JSON file, or `None` when it is not there.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PipelineError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(PipelineError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let value = serde_json::from_slice(&text).map_err(|source| IoError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use viscera_image::{Geometry, Volume};
    use viscera_io::{SourceHeader, write_label_map};
    use viscera_metrics::Metric;

    fn write(path: &Path, labels: Vec<u8>) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let map = Volume::new(Geometry::ras([1, 2, 2], [1.0; 3]), labels).unwrap();
        write_label_map(path, &map, &SourceHeader::from_geometry(map.geometry()), &[]).unwrap();
    }

    #[test]
    fn folders_are_joined_by_name_and_annotations_hold() {
        let dir = tempfile::tempdir().unwrap();
        let (truth, found) = (dir.path().join("truth/labels"), dir.path().join("found"));
        write(&truth.join("a.nii.gz"), vec![1, 1, 3, 0]);
        write(&truth.join("b.nii.gz"), vec![1, 0, 0, 0]);
        write(&truth.join("c.nii.gz"), vec![1, 0, 0, 0]);
        write(&found.join("a.nii.gz"), vec![1, 0, 3, 2]);
        write(&found.join("b.nii.gz"), vec![0, 0, 0, 0]);

        // Nothing known: classes that occur.
        let plain = evaluate(&truth, &found, None).unwrap();
        assert_eq!(plain.missing, ["c"]);
        assert_eq!(plain.classes.values().collect::<Vec<_>>(), ["liver", "spleen"]);
        assert_eq!(
            plain.summary.mean[&1].mean.get(Metric::Dice),
            Some((2.0 / 3.0 + 0.0) / 2.0)
        );
        assert_eq!(plain.summary.mean[&3].cases_annotated, 1);

        // annotations.json one folder up.
        let text = r#"{"default": ["liver"], "cases": {"a": ["liver", "kidney_right", "spleen"]}}"#;
        std::fs::write(dir.path().join("truth/annotations.json"), text).unwrap();
        let annotated = evaluate(&truth, &found, None).unwrap();
        assert_eq!(annotated.summary.mean[&2].mean.get(Metric::Dice), Some(0.0));
        assert_eq!(annotated.summary.mean[&2].cases_annotated, 1);
        assert_eq!(annotated.summary.mean[&1].cases_annotated, 2);

        let chosen = evaluate(&truth, &found, Some(&["spleen".to_owned(), "1".to_owned()])).unwrap();
        assert_eq!(chosen.summary.mean.keys().copied().collect::<Vec<_>>(), [1, 3]);
        let unknown = evaluate(&truth, &found, Some(&["milt".to_owned()]));
        assert!(matches!(unknown, Err(PipelineError::UnknownClass { .. })));
    }
}
