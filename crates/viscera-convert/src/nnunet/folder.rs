//! A result folder: which checkpoints there are, and the model that they make.

use super::recipe::{Parts, STAGE, recipe};
use super::{configuration, dataset};
use crate::ConvertError;
use crate::pickle::Checkpoint;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_pipeline::recipe::Axis;
use viscera_pipeline::{Model, StageWeights};

/// Largest plans or data set file. A million cases would fit.
const MAX_JSON: u64 = 64 << 20;
/// The configuration that is taken where there are several.
const USUAL: &str = "3d_fullres";

/// What to import of a result folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Folds, by name (`0`, `1`, …, `all`); without, all numbered ones that are there, or else `all`.
    pub folds: Option<Vec<String>>,
    /// Which checkpoint of a fold.
    pub checkpoint: Which,
    /// The configuration; without, the folder's, and `3d_fullres` where there are several.
    pub configuration: Option<String>,
}

/// Which checkpoint of a fold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Which {
    /// The last: `checkpoint_final.pth`.
    #[default]
    Final,
    /// The best in validation: `checkpoint_best.pth`.
    Best,
}

impl Which {
    fn file(self) -> &'static str {
        match self {
            Self::Final => "checkpoint_final.pth",
            Self::Best => "checkpoint_best.pth",
        }
    }
}

/// A model and what is worth knowing of how it was made.
#[derive(Debug)]
pub struct Imported {
    /// The model.
    pub model: Model,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// Reads a result folder of nnU-Net v2: the one with `plans.json`, or the data set's folder above it. The recipe has
/// one stage; several folds become an ensemble.
///
/// # Errors
/// [`ConvertError::Read`], [`ConvertError::NnUnet`] naming the file and what it says that cannot be carried over (regions,
/// cascades, 2-D, other networks), [`ConvertError::Checkpoint`], [`ConvertError::Pipeline`].
pub fn import(path: &Path, options: &Options) -> Result<Imported, ConvertError> {
    let folder = folder(path, options.configuration.as_deref())?;
    let (plans_path, dataset_path) = (folder.join("plans.json"), folder.join("dataset.json"));
    let plans = json(&plans_path)?;
    let dataset = json(&dataset_path)?;
    let of = |path: &Path| {
        let path = path.to_owned();
        move |reason: String| ConvertError::NnUnet {
            path: path.clone(),
            reason,
        }
    };
    let folds = folds(&folder, options)?;
    let mut checkpoints = Vec::new();
    for fold in &folds {
        let file = folder.join(format!("fold_{fold}")).join(options.checkpoint.file());
        checkpoints.push(Checkpoint::open(&file)?);
    }
    let Some(first) = checkpoints.first() else {
        return Err(of(&folder)("no fold to import".to_owned()));
    };
    let said = first.root().get("init_args").and_then(|a| a.get("configuration"));
    let said = said.and_then(|c| c.text());
    let name = said.or(options.configuration.as_deref()).unwrap_or(USUAL);
    if options.configuration.as_deref().is_some_and(|asked| asked != name) {
        return Err(first.error(format!("was trained in the configuration \"{name}\"")));
    }
    let mut warnings = Vec::new();
    let trainer = first
        .root()
        .get("trainer_name")
        .and_then(|t| t.text())
        .unwrap_or("unknown");
    if !trainer.starts_with("nnUNetTrainer") {
        warnings.push(format!(
            "the trainer {trainer} is not nnU-Net's: if it changed what the network computes, so that its weights fit \
             all the same, the results differ"
        ));
    }
    let configuration = configuration::configuration(&plans, name).map_err(of(&plans_path))?;
    let channels = dataset::channels(&dataset).map_err(of(&dataset_path))?;
    let set = plans.get("dataset_name").and_then(Value::as_str).unwrap_or("nnU-Net");
    let plans_name = plans.get("plans_name").and_then(Value::as_str).unwrap_or("nnUNetPlans");
    let labels = dataset::labels(&dataset, set).map_err(of(&dataset_path))?;
    let recipe = recipe(Parts {
        plans: &plans,
        configuration: &configuration,
        channels: &channels,
        name: set.to_owned(),
        reference: format!("nnU-Net v2, {trainer}__{plans_name}__{name}"),
        mirror: mirror(first)?,
        folds: if folds.len() > 1 { folds.clone() } else { Vec::new() },
    })
    .map_err(of(&plans_path))?;
    recipe.validate(&labels)?;
    let stage = recipe
        .stage(STAGE)
        .ok_or_else(|| of(&plans_path)("no stage".to_owned()))?;
    let outputs = stage.inference.channels(labels.entries().len());
    let graph = stage.network.graph(channels.len(), outputs)?;
    let mut weights = Vec::new();
    for checkpoint in &checkpoints {
        let state = checkpoint.root().get("network_weights");
        let state = state
            .ok_or_else(|| checkpoint.error("has no \"network_weights\": not written by nnU-Net v2".to_owned()))?;
        weights.push(checkpoint.weights(state, &graph)?);
    }
    let facts = serde_json::json!({
        "imported_from": "nnU-Net v2",
        "trainer": trainer,
        "plans": plans_name,
        "configuration": name,
        "checkpoint": options.checkpoint.file(),
        "folds": folds,
        "epochs": checkpoints.iter().map(|c| c.root().get("current_epoch").and_then(|e| e.int())).collect::<Vec<_>>(),
        "channels": channels,
    });
    let weights = StageWeights {
        graph: None,
        folds: weights,
    };
    let weights = BTreeMap::from([(STAGE.to_owned(), weights)]);
    let model = Model::new(set, recipe, labels, weights, "", facts)?;
    Ok(Imported { model, warnings })
}

/// The folder with the plans.
fn folder(path: &Path, asked: Option<&str>) -> Result<PathBuf, ConvertError> {
    if path.join("plans.json").is_file() {
        return Ok(path.to_owned());
    }
    let mut found: Vec<PathBuf> = names(path)?
        .into_iter()
        .map(|name| path.join(name))
        .filter(|folder| folder.join("plans.json").is_file())
        .collect();
    if found.len() > 1 || asked.is_some() {
        let ending = format!("__{}", asked.unwrap_or(USUAL));
        found.retain(|folder| folder.to_string_lossy().ends_with(&ending));
    }
    match (found.pop(), found.is_empty()) {
        (Some(folder), true) => Ok(folder),
        (folder, _) => Err(ConvertError::NnUnet {
            path: path.to_owned(),
            reason: match folder {
                None => {
                    "no result folder of nnU-Net v2: there is no plans.json here, nor in one folder below that fits"
                }
                Some(_) => "several trainers or plans; name the folder TRAINER__PLANS__CONFIGURATION",
            }
            .to_owned(),
        }),
    }
}

/// Names of the folds to import.
fn folds(folder: &Path, options: &Options) -> Result<Vec<String>, ConvertError> {
    let file = options.checkpoint.file();
    let mut there: Vec<String> = names(folder)?
        .into_iter()
        .filter_map(|name| name.strip_prefix("fold_").map(str::to_owned))
        .filter(|fold| folder.join(format!("fold_{fold}")).join(file).is_file())
        .collect();
    let wrong = |reason: String| ConvertError::NnUnet {
        path: folder.to_owned(),
        reason,
    };
    if let Some(asked) = &options.folds {
        if let Some(missing) = asked.iter().find(|fold| !there.contains(fold)) {
            let there = there.join(", ");
            return Err(wrong(format!("fold {missing} has no {file}; there are: {there}")));
        }
        return Ok(asked.clone());
    }
    if there.is_empty() {
        return Err(wrong(format!("no fold has a {file}")));
    }
    there.sort_by_key(|fold| fold.parse::<u32>().unwrap_or(u32::MAX));
    // As nnU-Net does: the network of all cases only where there are no folds.
    if there.iter().any(|fold| fold != "all") {
        there.retain(|fold| fold != "all");
    }
    Ok(there)
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>, ConvertError> {
    let unreadable = |source| ConvertError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        names.push(entry.map_err(unreadable)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn json(path: &Path) -> Result<Value, ConvertError> {
    let unreadable = |source| ConvertError::Read {
        path: path.to_owned(),
        source,
    };
    let wrong = |reason: String| ConvertError::NnUnet {
        path: path.to_owned(),
        reason,
    };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_JSON {
        return Err(wrong(format!("{size} bytes; no such file is that long")));
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    serde_json::from_slice(&bytes).map_err(|e| wrong(format!("not the JSON that was expected: {e}")))
}

/// Axes along which the trainer allowed mirroring.
fn mirror(checkpoint: &Checkpoint) -> Result<Vec<Axis>, ConvertError> {
    let Some(axes) = checkpoint
        .root()
        .get("inference_allowed_mirroring_axes")
        .and_then(|a| a.items())
    else {
        return Ok(Vec::new());
    };
    let axis = |item: crate::pickle::Item<'_>| match item.int() {
        Some(0) => Ok(Axis::Z),
        Some(1) => Ok(Axis::Y),
        Some(2) => Ok(Axis::X),
        other => Err(checkpoint.error(format!("mirrors axis {other:?}; there are 0, 1 and 2"))),
    };
    axes.map(axis).collect()
}
