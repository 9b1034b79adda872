//! What is known of the classes of references in a folder: names, colours, and which of them each case annotates.

use crate::EvaluateError;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::Path;
use viscera_image::{AnnotatedClasses, LabelEntry, LabelMap, LabelTable};
use viscera_io::{Annotations, Classes, DatasetJson, IoError, LabelIds, class_colour};

/// Names, and annotated classes per case.
pub(crate) struct Known {
    pub(crate) table: LabelTable,
    cases: BTreeMap<String, AnnotatedClasses>,
    default: Option<AnnotatedClasses>,
    /// Where the annotated classes come from, for people.
    pub(crate) source: &'static str,
}

impl Known {
    /// Reads `dataset.json` and `annotations.json` of a folder or the one above. The images need not be there.
    /// Without these files, names are FLARE's, and a case annotates the classes that occur in it.
    ///
    /// # Errors
    /// [`EvaluateError::Io`] for files that are there and cannot be used, [`EvaluateError::UnknownClass`] for annotated
    /// classes without an id.
    pub(crate) fn of(folder: &Path) -> Result<Self, EvaluateError> {
        let mut known = Self {
            table: LabelTable::flare14(),
            cases: BTreeMap::new(),
            default: None,
            source: "the classes that occur in each reference",
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
        known.source = "dataset.json";
        if let Some(dataset) = read_json::<DatasetJson>(&root.join("dataset.json"))? {
            known.table = table(&dataset)?;
        }
        let annotations = match read_json::<Annotations>(&root.join("annotations.json"))? {
            Some(annotations) => {
                known.source = "annotations.json";
                annotations
            }
            None => Annotations::default(),
        };
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

    /// The classes that a case annotates; without any file that says so, those that occur in its label map.
    pub(crate) fn annotated(&self, case: &str, labels: &LabelMap) -> AnnotatedClasses {
        let listed = self.cases.get(case).copied().or(self.default);
        listed.unwrap_or_else(|| occurring(labels))
    }

    /// Name of a class; `label 7` for an id that the table does not have.
    pub(crate) fn name(&self, id: u8) -> String {
        self.table
            .by_id(id)
            .map_or_else(|| format!("label {id}"), |e| e.name.clone())
    }
}

/// The ids of classes given by name or id.
///
/// # Errors
/// [`EvaluateError::UnknownClass`].
pub(crate) fn ids(names: &[String], table: &LabelTable) -> Result<AnnotatedClasses, EvaluateError> {
    names.iter().map(|name| id(name, table)).collect()
}

/// The id of a class given by name or id.
///
/// # Errors
/// [`EvaluateError::UnknownClass`].
pub(crate) fn id(name: &str, table: &LabelTable) -> Result<u8, EvaluateError> {
    match (table.by_name(name), name.parse::<u8>()) {
        (Some(entry), _) => Ok(entry.id),
        (None, Ok(id)) if id > 0 => Ok(id),
        _ => Err(EvaluateError::UnknownClass {
            name: name.to_owned(),
            known: table.entries().iter().map(|e| e.name.clone()).collect(),
        }),
    }
}

fn occurring(labels: &LabelMap) -> AnnotatedClasses {
    let mut seen = [false; 256];
    labels.data().iter().for_each(|&label| seen[usize::from(label)] = true);
    (1..=u8::MAX).filter(|&id| seen[usize::from(id)]).collect()
}

/// The classes of `dataset.json` with one id each. Classes of FLARE have FLARE's colours, others one by their id.
fn table(dataset: &DatasetJson) -> Result<LabelTable, EvaluateError> {
    let classes = dataset.labels.iter().filter(|(name, _)| name != "ignore");
    let entry = |(name, ids): &(String, LabelIds)| match ids {
        LabelIds::One(id) => u8::try_from(*id).ok().filter(|id| *id > 0).map(|id| LabelEntry {
            id,
            name: name.clone(),
            rgb: class_colour(name, id),
        }),
        LabelIds::Region(_) => None,
    };
    Ok(LabelTable::new("dataset.json", classes.filter_map(entry).collect())?)
}

/// A JSON file, or `None` when it is not there.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, EvaluateError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(EvaluateError::Io(IoError::Read {
                path: path.to_owned(),
                source,
            }));
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

    #[test]
    fn what_a_folder_says_of_its_cases() {
        let dir = tempfile::tempdir().unwrap();
        let labels = dir.path().join("labelsTr");
        std::fs::create_dir(&labels).unwrap();
        let dataset =
            r#"{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "cyst": 2, "whole": [1, 2]}}"#;
        std::fs::write(dir.path().join("dataset.json"), dataset).unwrap();
        let annotations = r#"{"default": "all", "cases": {"a": ["cyst"]}}"#;
        std::fs::write(dir.path().join("annotations.json"), annotations).unwrap();
        let known = Known::of(&labels).unwrap();
        let map = LabelMap::filled(viscera_image::Geometry::ras([1; 3], [1.0; 3]), 0).unwrap();
        assert_eq!(known.annotated("a", &map).iter().collect::<Vec<_>>(), [2]);
        assert_eq!(known.annotated("b", &map).iter().collect::<Vec<_>>(), [1, 2]);
        assert_eq!((known.name(2).as_str(), known.name(9).as_str()), ("cyst", "label 9"));
        assert_eq!(
            known.table.by_id(1).map(|e| e.rgb),
            LabelTable::flare14().by_id(1).map(|e| e.rgb)
        );
    }
}
