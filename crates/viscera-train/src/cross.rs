//! Cross-validation: a run per fold, their scores together, and their networks as one ensemble.

use crate::dataset::{NNUNET_SPLIT_FILE, SPLIT_FILE};
use crate::run::{TrainOptions, TrainReport, train};
use crate::{Fold, Progress, Splits, TrainError, ValidationReport, folds, load_folds};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;
use viscera_io::{Dataset, Split, write_json};
use viscera_pipeline::{Model, Recipe, StageWeights};

/// Folds where the data set names none, as in nnU-Net.
const FOLDS: usize = 5;

/// How a cross-validation ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CrossReport {
    /// The run of each fold so far.
    pub folds: Vec<TrainReport>,
    /// By training of a stage and by class: Dice of each fold's best validation.
    pub dice: BTreeMap<String, BTreeMap<String, FoldScores>>,
    /// The ensemble of all folds; `None` when the run was stopped, or its folds cannot be joined.
    pub model: Option<PathBuf>,
}

/// A score over the folds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FoldScores {
    /// Mean.
    pub mean: f64,
    /// Standard deviation over the folds (n − 1); 0 for one.
    pub std: f64,
    /// Each fold's, in order; a fold where the class does not occur is left out.
    pub folds: Vec<f64>,
}

impl FoldScores {
    fn of(folds: Vec<f64>) -> Self {
        let n = folds.len() as f64;
        let mean = folds.iter().sum::<f64>() / n.max(1.0);
        let squares: f64 = folds.iter().map(|v| (v - mean).powi(2)).sum();
        Self {
            mean,
            std: (squares / (n - 1.0).max(1.0)).sqrt(),
            folds,
        }
    }
}

/// Trains a recipe once per fold of the data set's list of folds (`splits.json`, `splits_final.json`), or of five folds that
/// are drawn with the seed.
///
/// `run` gets a run `fold_K` each, with prepared cases in common, `splits.json`, `cross_validation.json` with the scores, and
/// `model.safetensors`, the ensemble of all folds. A run that was stopped goes on with [`TrainOptions::resume`].
///
/// # Errors
/// As [`train`]; [`TrainError::Content`] when the data set names one split and no folds, or cases that there are not. Then
/// nothing is written.
pub fn cross_validate(
    recipe: &Recipe,
    data: &Path,
    run: &Path,
    options: &TrainOptions,
    progress: &mut dyn Progress,
) -> Result<CrossReport, TrainError> {
    let list = find_folds(data, run, options.seed.unwrap_or(0))?;
    std::fs::create_dir_all(run).map_err(TrainError::file(run))?;
    write_json(&run.join(SPLIT_FILE), &list)?;
    let cache = options.cache.clone().unwrap_or_else(|| run.join("cache"));
    let start = Instant::now();
    let folders: Vec<PathBuf> = (0..list.len()).map(|k| run.join(format!("fold_{k}"))).collect();
    let mut report = CrossReport {
        folds: Vec::new(),
        dice: BTreeMap::new(),
        model: None,
    };
    for (number, (fold, folder)) in list.iter().zip(&folders).enumerate() {
        std::fs::create_dir_all(folder).map_err(TrainError::file(folder))?;
        let split = Splits {
            train: fold.train.clone(),
            validation: fold.val.clone(),
        };
        write_json(&folder.join(SPLIT_FILE), &split)?;
        progress.note(&format!("fold {number} of {}", list.len()));
        // The folds left share what is left of the time.
        let left = (list.len() - number) as f64;
        let hours = options
            .hours
            .map(|hours| ((hours - start.elapsed().as_secs_f64() / 3600.0) / left).max(1e-3));
        let options = TrainOptions {
            cache: Some(cache.clone()),
            hours,
            ..options.clone()
        };
        let fold = train(recipe, data, folder, &options, progress)?;
        let finished = fold.stages.iter().all(|stage| stage.finished);
        report.folds.push(fold);
        report.dice = scores(&folders[..=number])?;
        write_json(&run.join("cross_validation.json"), &report.dice)?;
        if !finished {
            return Ok(report);
        }
    }
    if report.folds.iter().all(|fold| fold.model.is_some()) {
        report.model = ensemble(recipe, run, &folders, options, progress)?;
    }
    Ok(report)
}

/// The data set's folds, those of an earlier session of the run, or new ones.
fn find_folds(data: &Path, run: &Path, seed: u64) -> Result<Vec<Fold>, TrainError> {
    let folder = if data.is_file() {
        data.parent().unwrap_or(data)
    } else {
        data
    };
    let candidates = [
        run.join(SPLIT_FILE),
        folder.join(SPLIT_FILE),
        folder.join(NNUNET_SPLIT_FILE),
    ];
    let cases = Dataset::open(data)?.cases(Split::Train)?;
    let labelled: Vec<_> = cases.into_iter().filter(|case| case.labels.is_some()).collect();
    let Some(path) = candidates.iter().find(|path| path.exists()) else {
        return folds(&labelled, FOLDS, crate::SplitBy::Case, seed);
    };
    let list = load_folds(path).map_err(|error| match error {
        TrainError::Content { .. } => TrainError::content(path, "no list of folds; `viscera data split` makes one"),
        other => other,
    })?;
    if list.is_empty() {
        return Err(TrainError::content(path, "there are no folds in it"));
    }
    let mut named = list.iter().flat_map(|fold| fold.train.iter().chain(&fold.val));
    match named.find(|name| labelled.iter().all(|case| case.name != **name)) {
        Some(name) => Err(TrainError::content(
            path,
            format!("there is no labelled case \"{name}\""),
        )),
        None => Ok(list),
    }
}

/// The best validation of each stage in each fold, by class.
fn scores(folders: &[PathBuf]) -> Result<BTreeMap<String, BTreeMap<String, FoldScores>>, TrainError> {
    let mut all: BTreeMap<String, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    for folder in folders {
        let path = folder.join("log.jsonl");
        let file = File::open(&path).map_err(TrainError::file(&path))?;
        let mut best: BTreeMap<String, ValidationReport> = BTreeMap::new();
        for line in BufReader::new(file).lines() {
            let line = line.map_err(TrainError::file(&path))?;
            if !line.contains("\"validation\"") {
                continue;
            }
            let found: Option<ValidationReport> = serde_json::from_str(&line).ok();
            if let Some(found) = found.filter(|v| v.best && v.cases > 0) {
                best.insert(found.stage.clone(), found);
            }
        }
        for (stage, found) in best {
            let classes = all.entry(stage).or_default();
            for (class, dice) in found.dice {
                classes.entry(class).or_default().push(dice);
            }
        }
    }
    let scored =
        |classes: BTreeMap<String, Vec<f64>>| classes.into_iter().map(|(c, v)| (c, FoldScores::of(v))).collect();
    Ok(all
        .into_iter()
        .map(|(stage, classes)| (stage, scored(classes)))
        .collect())
}

/// Joins the folds' models; `None`, with a note, where their recipes differ (intensities that were found in each fold's
/// cases).
fn ensemble(
    recipe: &Recipe,
    run: &Path,
    folders: &[PathBuf],
    options: &TrainOptions,
    progress: &mut dyn Progress,
) -> Result<Option<PathBuf>, TrainError> {
    let models: Vec<Model> = folders
        .iter()
        .map(|folder| Model::load(&folder.join("model.safetensors")))
        .collect::<Result<_, _>>()?;
    let Some(first) = models.first() else { return Ok(None) };
    if models.iter().any(|model| model.recipe() != first.recipe()) {
        progress.note("the folds differ in how they normalise intensities: their models stay apart");
        return Ok(None);
    }
    let mut joint = first.recipe().clone();
    let mut weights: BTreeMap<String, StageWeights> = BTreeMap::new();
    for stage in &mut joint.stages {
        stage.inference.folds = (0..models.len()).map(|k| k.to_string()).collect();
        let found = models.iter().map(|model| {
            let network = model.network(Some(&stage.id))?;
            Ok(network.folds.to_vec())
        });
        let folds: Vec<_> = found.collect::<Result<Vec<_>, TrainError>>()?.concat();
        weights.insert(stage.id.clone(), StageWeights { graph: None, folds });
    }
    let training = serde_json::json!({ "folds": models.iter().map(Model::training).collect::<Vec<_>>() });
    let card = format!(
        "# {}\n\nAn ensemble of {} networks per stage, each trained without the cases that it was validated on.\n\n{}",
        recipe.recipe.name,
        models.len(),
        first.card().split_once("\n\n").map_or("", |(_, rest)| rest),
    );
    let model = Model::new(
        &recipe.recipe.name,
        joint,
        first.labels().clone(),
        weights,
        card,
        training,
    )?;
    let path = run.join("model.safetensors");
    model.save(&path, options.storage)?;
    Ok(Some(path))
}
