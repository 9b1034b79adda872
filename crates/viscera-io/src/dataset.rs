//! Data sets, and which classes each case annotates: raw folders of nnU-Net (version 2, and version 1's `dataset.json`),
//! and those of `layout.rs`.
//!
//! A raw folder is one with `dataset.json`, images `imagesTr/CASE_0000.nii.gz`, label maps `labelsTr/CASE.nii.gz`, and
//! the like with `Ts` for tests. `annotations.json` beside it is ours:
//! `{"default": ["liver", …] or "all", "cases": {"CASE": ["spleen"] or "all" or []}, "pseudo": {"CASE": ["liver"]}}`, the
//! last for those of them that a network annotated. Without it, every case annotates all.

use crate::layout::{self, Listed};
use crate::{DatasetFault, IoError, write_json};
use rayon::prelude::*;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_image::{AnnotatedClasses, LabelEntry, LabelTable};

/// Training or test cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// `imagesTr` and `labelsTr`.
    Train,
    /// `imagesTs` and, where it is there, `labelsTs`.
    Test,
}

impl Split {
    fn images(self) -> &'static str {
        match self {
            Self::Train => "imagesTr",
            Self::Test => "imagesTs",
        }
    }

    fn labels(self) -> &'static str {
        match self {
            Self::Train => "labelsTr",
            Self::Test => "labelsTs",
        }
    }
}

/// The id of a class in `dataset.json`, or the ids of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelIds {
    /// A class.
    One(i64),
    /// A region: the union of classes.
    Region(Vec<i64>),
}

/// `dataset.json`. Keys that we do not use are kept as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetJson {
    /// Channel number to modality: `{"0": "CT"}`.
    #[serde(alias = "modality")]
    pub channel_names: BTreeMap<String, String>,
    /// Class name to id, in the file's order; with `background`, and perhaps `ignore`.
    #[serde(serialize_with = "labels_out", deserialize_with = "labels_in")]
    pub labels: Vec<(String, LabelIds)>,
    /// Number of training cases.
    #[serde(rename = "numTraining", default)]
    pub num_training: usize,
    /// Ending of all image files, with its dot.
    #[serde(default = "nii_gz")]
    pub file_ending: String,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn nii_gz() -> String {
    ".nii.gz".to_owned()
}

fn labels_out<S: Serializer>(labels: &[(String, LabelIds)], out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(labels.iter().map(|(name, ids)| (name, ids)))
}

/// Version 2 maps names to ids, version 1 ids to names.
fn labels_in<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<(String, LabelIds)>, D::Error> {
    let map = Map::<String, Value>::deserialize(input)?;
    let pair = |(key, value): (String, Value)| match (key.parse(), value) {
        (Ok(id), Value::String(name)) => Ok((name, LabelIds::One(id))),
        (_, value) => Ok((key, serde_json::from_value(value)?)),
    };
    map.into_iter()
        .map(pair)
        .collect::<Result<_, serde_json::Error>>()
        .map_err(serde::de::Error::custom)
}

impl DatasetJson {
    /// The description of a CT data set with the classes of a table.
    #[must_use]
    pub fn new(table: &LabelTable, num_training: usize) -> Self {
        let background = ("background".to_owned(), LabelIds::One(0));
        let classes = table
            .entries()
            .iter()
            .map(|e| (e.name.clone(), LabelIds::One(e.id.into())));
        Self {
            channel_names: BTreeMap::from([("0".to_owned(), "CT".to_owned())]),
            labels: std::iter::once(background).chain(classes).collect(),
            num_training,
            file_ending: nii_gz(),
            other: Map::new(),
        }
    }

    /// The classes, without background and `ignore`. Classes of FLARE have FLARE's colours, others one by their id.
    ///
    /// # Errors
    /// [`DatasetFault::BadLabelId`] for a region or an id outside 0..=255, [`IoError::Image`] when ids or names come
    /// twice; `path` names the file in errors.
    fn label_table(&self, path: &Path) -> Result<LabelTable, IoError> {
        let mut entries = Vec::new();
        for (name, ids) in self.labels.iter().filter(|(name, _)| name != "ignore") {
            let id = match ids {
                LabelIds::One(id) => u8::try_from(*id).map_err(|_| id.to_string()),
                LabelIds::Region(ids) => Err(format!("the region {ids:?}")),
            };
            let id = id.map_err(|found| {
                let name = name.clone();
                fault(path, DatasetFault::BadLabelId { name, found })
            })?;
            if id > 0 {
                let (name, rgb) = (name.clone(), class_colour(name, id));
                entries.push(LabelEntry { id, name, rgb });
            }
        }
        Ok(LabelTable::new("dataset.json", entries)?)
    }
}

/// The colour `[red, green, blue]` of a class in pictures: FLARE's classes have their own by name, others one by their
/// id, with hues by the golden angle, so that neighbouring ids differ much.
#[must_use]
pub fn class_colour(name: &str, id: u8) -> [u8; 3] {
    if let Some(entry) = LabelTable::flare14().by_name(name) {
        return entry.rgb;
    }
    let sector = f64::from(id) * 137.507_764 / 60.0;
    [0.0, 4.0, 2.0].map(|shift: f64| {
        let distance = ((sector + shift) % 6.0 - 3.0).abs() - 1.0;
        (255.0 * (0.3 + 0.7 * distance.clamp(0.0, 1.0))).round() as u8
    })
}

/// The classes that a case annotates, as `annotations.json` spells them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Classes {
    /// `"all"` of `dataset.json`.
    All,
    /// Some, by name; an empty list for an unlabelled case.
    Named(Vec<String>),
}

impl TryFrom<Value> for Classes {
    type Error = DatasetFault;

    fn try_from(value: Value) -> Result<Self, DatasetFault> {
        let found = value.to_string();
        match value {
            Value::String(word) if word == "all" => Ok(Self::All),
            list => match serde_json::from_value(list) {
                Ok(names) => Ok(Self::Named(names)),
                Err(_) => Err(DatasetFault::BadClasses { found }),
            },
        }
    }
}

impl From<Classes> for Value {
    fn from(classes: Classes) -> Self {
        match classes {
            Classes::All => "all".into(),
            Classes::Named(names) => names.into(),
        }
    }
}

/// `annotations.json`: which classes each case annotates. Not annotated is not absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Annotations {
    /// For cases that are not listed.
    #[serde(default = "all_classes")]
    pub default: Classes,
    /// By case.
    #[serde(default)]
    pub cases: BTreeMap<String, Classes>,
    /// The hospital, scanner or study that a case comes from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub centres: BTreeMap<String, String>,
    /// By case, the classes that a network annotated rather than a person.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pseudo: BTreeMap<String, Classes>,
}

fn all_classes() -> Classes {
    Classes::All
}

impl Default for Annotations {
    /// Every case annotates all classes.
    fn default() -> Self {
        Self {
            default: Classes::All,
            cases: BTreeMap::new(),
            centres: BTreeMap::new(),
            pseudo: BTreeMap::new(),
        }
    }
}

/// One case of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// The CT.
    pub image: PathBuf,
    /// The label map; `None` for an unlabelled case.
    pub labels: Option<PathBuf>,
    /// The classes that the label map annotates.
    pub annotated: AnnotatedClasses,
    /// Those of them that a network annotated rather than a person.
    pub pseudo: AnnotatedClasses,
    /// The hospital, scanner or study that it comes from, where that is known.
    pub centre: Option<String>,
}

/// A data set.
#[derive(Debug, Clone)]
pub struct Dataset {
    root: PathBuf,
    description: DatasetJson,
    annotations: Annotations,
    table: LabelTable,
    /// The cases, where their names do not follow from the folder.
    listed: Option<Vec<Listed>>,
    /// Whether nobody says what the cases annotate.
    undeclared: bool,
}

impl Dataset {
    /// Opens a folder or a list: reads and checks its description and, where it is there, `annotations.json`, which lies
    /// beside a list.
    ///
    /// # Errors
    /// [`IoError::Dataset`] for what is missing or does not fit together, [`IoError::Json`] for wrong syntax,
    /// [`IoError::Read`] when the system refuses.
    pub fn open(root: &Path) -> Result<Self, IoError> {
        let layout = layout::find(root)?;
        let folder = if root.is_file() {
            root.parent().unwrap_or(root)
        } else {
            root
        };
        let annotations: Option<Annotations> = read_json(&folder.join("annotations.json"))?;
        let declared = annotations.is_some();
        let annotations = annotations.unwrap_or_default();
        let dataset = match layout {
            Some(layout) => Self {
                listed: Some(layout.cases),
                undeclared: layout.undeclared && !declared,
                ..Self::joined(root, layout.description, annotations)?
            },
            None => {
                let missing = || {
                    let name = "dataset.json".to_owned();
                    fault(root, DatasetFault::Missing { name })
                };
                let description = read_json(&root.join("dataset.json"))?.ok_or_else(missing)?;
                Self::joined(root, description, annotations)?
            }
        };
        let known: Vec<String> = [Split::Train, Split::Test]
            .into_iter()
            .map(|split| dataset.names(split))
            .collect::<Result<Vec<_>, _>>()?
            .concat();
        let annotations = &dataset.annotations;
        let mut listed = annotations
            .cases
            .keys()
            .chain(annotations.centres.keys())
            .chain(annotations.pseudo.keys());
        match listed.find(|case| !known.contains(case)) {
            Some(case) => Err(fault(root, DatasetFault::UnknownCase { case: case.clone() })),
            None => Ok(dataset),
        }
    }

    /// Makes a folder with `dataset.json` and `annotations.json`; [`Self::image_path`] and [`Self::labels_path`] say
    /// where the cases go.
    ///
    /// # Errors
    /// As [`Self::open`] for what does not fit together, [`IoError::Write`] when the system refuses.
    pub fn create(root: &Path, description: DatasetJson, annotations: Annotations) -> Result<Self, IoError> {
        let dataset = Self::joined(root, description, annotations)?;
        write_json(&root.join("dataset.json"), &dataset.description)?;
        write_json(&root.join("annotations.json"), &dataset.annotations)?;
        Ok(dataset)
    }

    /// A folder in nnU-Net's layout whose cases may still be on their way: what its description and annotations say is not
    /// compared with the files. `None` where there is no `dataset.json`.
    ///
    /// # Errors
    /// As [`Self::open`], but for cases that are not there.
    pub fn open_unfinished(root: &Path) -> Result<Option<Self>, IoError> {
        let Some(description) = read_json(&root.join("dataset.json"))? else {
            return Ok(None);
        };
        let annotations = read_json(&root.join("annotations.json"))?.unwrap_or_default();
        Self::joined(root, description, annotations).map(Some)
    }

    fn joined(root: &Path, description: DatasetJson, annotations: Annotations) -> Result<Self, IoError> {
        let count = description.channel_names.len();
        if count > 1 {
            return Err(fault(root, DatasetFault::SeveralChannels { count }));
        }
        let table = description.label_table(&root.join("dataset.json"))?;
        let dataset = Self {
            root: root.to_owned(),
            description,
            annotations,
            table,
            listed: None,
            undeclared: false,
        };
        // Every name must be known, used or not.
        let notes = &dataset.annotations;
        let listed = notes
            .cases
            .values()
            .chain(notes.pseudo.values())
            .chain([&notes.default]);
        listed
            .map(|classes| dataset.ids(classes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(dataset)
    }

    /// `dataset.json`.
    #[must_use]
    pub fn description(&self) -> &DatasetJson {
        &self.description
    }

    /// `annotations.json`; every case annotates all classes where it is absent.
    #[must_use]
    pub fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    /// The classes of `dataset.json`.
    #[must_use]
    pub fn labels(&self) -> &LabelTable {
        &self.table
    }

    /// Where the image of a case lies.
    #[must_use]
    pub fn image_path(&self, split: Split, case: &str) -> PathBuf {
        let name = format!("{case}_0000{}", self.description.file_ending);
        self.root.join(split.images()).join(name)
    }

    /// Where the label map of a case lies.
    #[must_use]
    pub fn labels_path(&self, split: Split, case: &str) -> PathBuf {
        let name = format!("{case}{}", self.description.file_ending);
        self.root.join(split.labels()).join(name)
    }

    /// The cases, sorted by name. A test case may lack a label map; a training case only if it annotates no class.
    ///
    /// # Errors
    /// [`DatasetFault::NoLabelMap`], [`DatasetFault::NoImage`], or [`DatasetFault::Missing`] when there is no case at
    /// all, [`DatasetFault::Undeclared`] when nobody says what cases annotate; [`IoError::Read`] when the system refuses.
    pub fn cases(&self, split: Split) -> Result<Vec<Case>, IoError> {
        if let Some(listed) = &self.listed {
            if self.undeclared {
                return Err(fault(&self.root, DatasetFault::Undeclared));
            }
            let of_split = listed.iter().filter(|case| case.split == split);
            return of_split.map(|case| self.listed_case(case)).collect();
        }
        let names = self.names(split)?;
        for case in endings(&self.root.join(split.labels()), &self.description.file_ending)? {
            if !names.contains(&case) {
                return Err(fault(&self.root, DatasetFault::NoImage { case }));
            }
        }
        if names.is_empty() {
            let name = format!("{}/CASE_0000{}", split.images(), self.description.file_ending);
            return Err(fault(&self.root, DatasetFault::Missing { name }));
        }
        names.into_iter().map(|name| self.case(split, name)).collect()
    }

    fn case(&self, split: Split, name: String) -> Result<Case, IoError> {
        let classes = self.annotations.cases.get(&name).unwrap_or(&self.annotations.default);
        let annotated = self.ids(classes)?;
        let path = self.labels_path(split, &name);
        let labels = (!annotated.is_empty() && path.is_file()).then_some(path);
        if labels.is_none() && !annotated.is_empty() && split == Split::Train {
            return Err(fault(&self.root, DatasetFault::NoLabelMap { case: name }));
        }
        let annotated = if labels.is_some() {
            annotated
        } else {
            AnnotatedClasses::none()
        };
        Ok(Case {
            image: self.image_path(split, &name),
            pseudo: self.pseudo(&name, annotated)?,
            annotated,
            centre: self.annotations.centres.get(&name).cloned(),
            labels,
            name,
        })
    }

    fn listed_case(&self, listed: &Listed) -> Result<Case, IoError> {
        let (name, notes) = (&listed.name, &self.annotations);
        let said = listed.classes.as_ref().or_else(|| notes.cases.get(name));
        let classes = self.ids(said.unwrap_or(&notes.default))?;
        let labels = listed.labels.clone().filter(|_| !classes.is_empty());
        let annotated = if labels.is_some() {
            classes
        } else {
            AnnotatedClasses::none()
        };
        Ok(Case {
            name: name.clone(),
            image: listed.image.clone(),
            annotated,
            labels,
            pseudo: self.pseudo(name, annotated)?,
            centre: listed.centre.clone().or_else(|| notes.centres.get(name).cloned()),
        })
    }

    /// Those of a case's classes that a network annotated.
    fn pseudo(&self, case: &str, annotated: AnnotatedClasses) -> Result<AnnotatedClasses, IoError> {
        let said = self.annotations.pseudo.get(case).map(|classes| self.ids(classes));
        let said = said.transpose()?.unwrap_or_default();
        Ok(said.iter().filter(|&id| annotated.contains(id)).collect())
    }

    /// Annotations by what is there: every case annotates the classes that occur in its label map. A class that a scan
    /// does not show then counts as not annotated, which costs a little and is never wrong. Centres and pseudo-labels stay
    /// as they are written down.
    ///
    /// # Errors
    /// Those of [`crate::read_label_map`], for the first case that has one; as [`Self::cases`].
    pub fn found_classes(&self) -> Result<Annotations, IoError> {
        // In a raw folder an image without a label map is a fault, unless it says so.
        let alone = |name: &String| self.listed.is_none() && !self.labels_path(Split::Train, name).is_file();
        let unlabelled = self.names(Split::Train)?.into_iter().filter(alone);
        let declared = Self {
            undeclared: false,
            annotations: Annotations {
                default: Classes::All,
                cases: unlabelled.map(|name| (name, Classes::Named(Vec::new()))).collect(),
                ..self.annotations.clone()
            },
            ..self.clone()
        };
        let cases = declared.cases(Split::Train)?;
        let found: Vec<Result<(String, Classes), IoError>> = cases
            .into_par_iter()
            .with_max_len(1)
            .map(|case| {
                let mut occurs = [false; 256];
                if let Some(path) = &case.labels {
                    let map = crate::read_label_map(path)?;
                    // `occurs` has a place for every byte.
                    map.data().iter().for_each(|&id| {
                        if let Some(occurs) = occurs.get_mut(usize::from(id)) {
                            *occurs = true;
                        }
                    });
                }
                let entries = self.table.entries().iter();
                let present = entries.filter(|e| occurs.get(usize::from(e.id)) == Some(&true));
                Ok((case.name, Classes::Named(present.map(|e| e.name.clone()).collect())))
            })
            .collect();
        Ok(Annotations {
            cases: found.into_iter().collect::<Result<_, _>>()?,
            ..self.annotations.clone()
        })
    }

    /// Names of the cases that have an image.
    fn names(&self, split: Split) -> Result<Vec<String>, IoError> {
        if let Some(listed) = &self.listed {
            return Ok(listed
                .iter()
                .filter(|c| c.split == split)
                .map(|c| c.name.clone())
                .collect());
        }
        let ending = format!("_0000{}", self.description.file_ending);
        endings(&self.root.join(split.images()), &ending)
    }

    fn ids(&self, classes: &Classes) -> Result<AnnotatedClasses, IoError> {
        let names = match classes {
            Classes::All => return Ok(AnnotatedClasses::all(&self.table)),
            Classes::Named(names) => names,
        };
        names
            .iter()
            .map(|name| match self.table.by_name(name) {
                Some(entry) => Ok(entry.id),
                None => Err(fault(
                    &self.root.join("annotations.json"),
                    DatasetFault::UnknownClass { name: name.clone() },
                )),
            })
            .collect()
    }
}

pub(crate) fn fault(path: &Path, reason: DatasetFault) -> IoError {
    IoError::Dataset {
        path: path.to_owned(),
        reason,
    }
}

/// A JSON file, or `None` when it is not there.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, IoError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(IoError::Read {
                path: path.to_owned(),
                source,
            });
        }
    };
    serde_json::from_slice(&text).map(Some).map_err(|source| IoError::Json {
        path: path.to_owned(),
        source,
    })
}

/// Names of a folder's files that end so, without the ending, sorted; none for a folder that is not there.
fn endings(folder: &Path, ending: &str) -> Result<Vec<String>, IoError> {
    let failed = |source| IoError::Read {
        path: folder.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        let name = name.to_str().and_then(|n| n.strip_suffix(ending));
        names.extend(name.filter(|n| !n.is_empty() && !n.starts_with('.')).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
