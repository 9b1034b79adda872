//! Data sets that are not raw folders of nnU-Net: Medical Segmentation Decathlon, FLARE, and lists of files.
//!
//! * Decathlon: `dataset.json` names the files, `"training": [{"image": "./imagesTr/a.nii.gz", "label": …}, …]` and
//!   `"test": ["./imagesTs/b.nii.gz", …]`.
//! * FLARE22, FLARE23: no `dataset.json`; `imagesTr…` or `images` beside `labelsTr…` or `labels`, with the same ending,
//!   and folders whose names begin with `unlabel`. Classes are those of FLARE (14 of them). Which of them a case
//!   annotates nobody wrote down: `annotations.json` must say it, and [`crate::Dataset::found_classes`] makes one.
//! * A list: `LIST.toml` with `labels = "flare13"`, `"flare14"` or `{ liver = 1, … }` and `[[case]]` tables, or `LIST.csv`
//!   with a head, beside a `dataset.json` that has the labels. Keys or columns are `image`, `label`, `classes` (names, in
//!   the CSV joined by semicolons, or `all`), `split` (`train` or `test`), `centre` and `name`; paths are relative to the
//!   list. Only `image` must be there.

use crate::dataset::{fault, read_json};
use crate::{Classes, DatasetFault, DatasetJson, IoError, LabelIds, Split, case_name};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use viscera_image::LabelTable;

/// Longest list that is read, in bytes.
const LONGEST_LIST: u64 = 64 << 20;

/// A case as a layout names it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) image: PathBuf,
    pub(crate) labels: Option<PathBuf>,
    /// `None`: as `annotations.json` says.
    pub(crate) classes: Option<Classes>,
    pub(crate) split: Split,
    pub(crate) centre: Option<String>,
}

/// What a layout says of a whole data set.
pub(crate) struct Layout {
    pub(crate) description: DatasetJson,
    pub(crate) cases: Vec<Listed>,
    /// Whether nobody wrote down what the cases annotate.
    pub(crate) undeclared: bool,
}

/// The layout at `root`, if it is none of nnU-Net's raw folders.
pub(crate) fn find(root: &Path) -> Result<Option<Layout>, IoError> {
    let layout = match root.extension().and_then(|e| e.to_str()) {
        Some("toml") if root.is_file() => Some(toml_list(root)?),
        Some("csv") if root.is_file() => Some(csv_list(root)?),
        _ => match read_json::<DatasetJson>(&root.join("dataset.json"))? {
            Some(description) => decathlon(root, description)?,
            None => flare(root)?,
        },
    };
    let mut names = BTreeSet::new();
    for case in layout.iter().flat_map(|layout| &layout.cases) {
        // Names become names of files.
        if case.name.is_empty() || case.name.starts_with('.') || case.name.contains(['/', '\\', '\0']) {
            return Err(bad(root, format!("a case cannot have the name {:?}", case.name)));
        }
        if !names.insert((case.split == Split::Test, &case.name)) {
            return Err(bad(root, format!("two cases have the name \"{}\"", case.name)));
        }
        if let Some(path) = [Some(&case.image), case.labels.as_ref()]
            .into_iter()
            .flatten()
            .find(|path| !path.is_file())
        {
            return Err(bad(
                root,
                format!("case \"{}\": there is no file {}", case.name, path.display()),
            ));
        }
    }
    Ok(layout)
}

fn bad(path: &Path, reason: String) -> IoError {
    fault(path, DatasetFault::BadList { reason })
}

/// `None` where `dataset.json` names no file that is there: nnU-Net's version 1 names images without their channel.
fn decathlon(root: &Path, description: DatasetJson) -> Result<Option<Layout>, IoError> {
    #[derive(Deserialize)]
    struct Pair {
        image: String,
        label: String,
    }
    let Some(Value::Array(training)) = description.other.get("training") else {
        return Ok(None);
    };
    let Ok(pairs) = training.iter().map(Pair::deserialize).collect::<Result<Vec<_>, _>>() else {
        return Ok(None);
    };
    if !pairs.first().is_some_and(|pair| root.join(&pair.image).is_file()) {
        return Ok(None);
    }
    let mut cases: Vec<Listed> = pairs
        .into_iter()
        .map(|pair| listed(root.join(pair.image), Some(root.join(pair.label)), Split::Train))
        .collect();
    if let Some(Value::Array(test)) = description.other.get("test") {
        let paths = test.iter().filter_map(Value::as_str);
        cases.extend(paths.map(|path| listed(root.join(path), None, Split::Test)));
    }
    Ok(Some(Layout {
        description,
        cases,
        undeclared: false,
    }))
}

/// The file's name without its ending and nnU-Net's channel.
fn name_of(image: &Path) -> String {
    let whole = || image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    case_name(image).unwrap_or_else(whole)
}

fn listed(image: PathBuf, labels: Option<PathBuf>, split: Split) -> Listed {
    Listed {
        name: name_of(&image),
        image,
        labels,
        classes: None,
        split,
        centre: None,
    }
}

/// `None` where there is no folder of images.
fn flare(root: &Path) -> Result<Option<Layout>, IoError> {
    let mut cases = Vec::new();
    for folder in entries(root)? {
        let Some(name) = folder.file_name().and_then(|n| n.to_str()).filter(|_| folder.is_dir()) else {
            continue;
        };
        let lower = name.to_lowercase();
        if let Some(ending) = lower.strip_prefix("images") {
            // The name keeps its case: labelsTr2200 beside imagesTr2200.
            let labels = root.join(format!("labels{}", name.get("images".len()..).unwrap_or_default()));
            let split = if ending.is_empty() || ending.starts_with("tr") {
                Split::Train
            } else {
                Split::Test
            };
            for image in scans(&folder)? {
                let file = format!("{}.nii.gz", name_of(&image));
                let map = Some(labels.join(file)).filter(|path| path.is_file());
                // An image to train on whose label map is lost is not the same as an unlabelled one.
                if map.is_none() && split == Split::Train && labels.is_dir() {
                    let case = name_of(&image);
                    return Err(fault(root, DatasetFault::NoLabelMap { case }));
                }
                cases.push(listed(image, map, split));
            }
        } else if lower.starts_with("unlabel") {
            for image in scans(&folder)? {
                cases.push(listed(image, None, Split::Train));
            }
        }
    }
    if cases.is_empty() {
        return Ok(None);
    }
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    let count = cases
        .iter()
        .filter(|c| c.split == Split::Train && c.labels.is_some())
        .count();
    Ok(Some(Layout {
        description: DatasetJson::new(&LabelTable::flare14(), count),
        cases,
        undeclared: true,
    }))
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let failed = |source| IoError::Read {
        path: folder.to_owned(),
        source,
    };
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(failed)).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}

fn scans(folder: &Path) -> Result<Vec<PathBuf>, IoError> {
    let name = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).map(str::to_owned);
    let scan = |path: &PathBuf| name(path).is_some_and(|n| n.ends_with(".nii.gz") && !n.starts_with('.'));
    Ok(entries(folder)?.into_iter().filter(scan).collect())
}

/// One line of a list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    image: PathBuf,
    label: Option<PathBuf>,
    classes: Option<Classes>,
    split: Option<String>,
    centre: Option<String>,
    name: Option<String>,
}

impl Row {
    fn case(self, list: &Path) -> Result<Listed, IoError> {
        let folder = list.parent().unwrap_or(Path::new(""));
        let split = match self.split.as_deref() {
            None | Some("train") => Split::Train,
            Some("test") => Split::Test,
            Some(other) => return Err(bad(list, format!("split = \"{other}\" is neither train nor test"))),
        };
        let image = folder.join(self.image);
        Ok(Listed {
            name: self.name.unwrap_or_else(|| name_of(&image)),
            image,
            labels: self.label.map(|path| folder.join(path)),
            classes: self.classes,
            split,
            centre: self.centre,
        })
    }
}

fn text(path: &Path) -> Result<String, IoError> {
    let failed = |source| IoError::Read {
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > LONGEST_LIST {
        return Err(bad(path, format!("a list of {length} bytes is too long")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

fn toml_list(path: &Path) -> Result<Layout, IoError> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Labels {
        Table(String),
        Own(BTreeMap<String, i64>),
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        labels: Labels,
        #[serde(default, rename = "case")]
        cases: Vec<Row>,
    }
    let list: List = toml::from_str(&text(path)?).map_err(|e| bad(path, e.to_string()))?;
    let mut description = match list.labels {
        Labels::Table(name) => {
            let table = [LabelTable::flare13(), LabelTable::flare14()]
                .into_iter()
                .find(|t| t.name() == name);
            let table = table.ok_or_else(|| bad(path, format!("there is no label table \"{name}\"")))?;
            DatasetJson::new(&table, 0)
        }
        Labels::Own(labels) => {
            let mut description = DatasetJson::new(&LabelTable::flare13(), 0);
            description.labels = labels.into_iter().map(|(name, id)| (name, LabelIds::One(id))).collect();
            description
        }
    };
    let cases = list
        .cases
        .into_iter()
        .map(|row| row.case(path))
        .collect::<Result<Vec<_>, _>>()?;
    description.num_training = cases.len();
    Ok(Layout {
        description,
        cases,
        undeclared: false,
    })
}

fn csv_list(path: &Path) -> Result<Layout, IoError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let description = read_json(&folder.join("dataset.json"))?.ok_or_else(|| {
        let name = "dataset.json".to_owned();
        fault(folder, DatasetFault::Missing { name })
    })?;
    let text = text(path)?;
    if text.contains('"') {
        return Err(bad(
            path,
            "quotes are not read; a TOML list can hold any name".to_owned(),
        ));
    }
    let mut lines = text
        .trim_start_matches('\u{feff}')
        .lines()
        .filter(|line| !line.trim().is_empty());
    let head: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let mut cases = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != head.len() {
            let reason = format!("\"{line}\" has {} fields, the head {}", fields.len(), head.len());
            return Err(bad(path, reason));
        }
        // As the TOML list has it: an empty field is left out, and classes are a list.
        let value = |(key, field): (&&str, &str)| {
            let value = match *key {
                "classes" if field != "all" => field.split(';').map(str::trim).filter(|c| !c.is_empty()).collect(),
                _ => Value::from(field),
            };
            ((*key).to_owned(), value)
        };
        let filled = head.iter().zip(fields).filter(|(_, field)| !field.is_empty());
        let row = Row::deserialize(Value::Object(filled.map(value).collect())).map_err(|e| bad(path, e.to_string()))?;
        cases.push(row.case(path)?);
    }
    Ok(Layout {
        description,
        cases,
        undeclared: false,
    })
}
