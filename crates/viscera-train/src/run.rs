//! A whole training: each stage of a recipe in turn, then the model file.

use crate::checkpoint::load_weights;
use crate::trainer::{Job, best_path, graph, last_path};
use crate::{CachedCase, Device, Progress, TrainError, TrainingData, ValidationReport};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use viscera_io::atomic_write;
use viscera_net::Storage;
use viscera_pipeline::recipe::{Stage, Stream, TrainingSettings};
use viscera_pipeline::{Model, Recipe};

/// What the recipe leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Ids of the stages to train; all of the recipe when empty.
    pub stages: Vec<String>,
    /// Where networks are computed.
    pub device: Device,
    /// Goes on with a run that was stopped. Without it, a folder with a run in it is refused.
    pub resume: bool,
    /// Replaces the recipe's seeds.
    pub seed: Option<u64>,
    /// Replaces the recipe's number of steps, for trials: so many steps per stage.
    pub iterations: Option<u64>,
    /// Time for the whole call in hours, shared evenly by the stages that it trains. Learning rates fall with the clock
    /// where that runs ahead of the steps; then the same seed no longer gives the same run.
    pub hours: Option<f64>,
    /// Which fold validates, where the data set has a list of folds.
    pub fold: usize,
    /// Share of the cases that validates, where no split is given.
    pub validation_share: f64,
    /// Folder of prepared cases; `cache` in the run folder by default. Several runs may share one.
    pub cache: Option<PathBuf>,
    /// Batches prepared early.
    pub ahead: usize,
    /// A model whose weights the stages start from.
    pub init: Option<PathBuf>,
    /// How the model file stores weights.
    pub storage: Storage,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            device: Device::default(),
            resume: false,
            seed: None,
            iterations: None,
            hours: None,
            fold: 0,
            validation_share: 0.2,
            cache: None,
            ahead: 2,
            init: None,
            storage: Storage::Bf16,
        }
    }
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// Each stage that was trained.
    pub stages: Vec<StageReport>,
    /// The model file; `None` when the run was stopped, or a stage of the recipe has not been trained yet.
    pub model: Option<PathBuf>,
}

/// How the training of a stage ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Its id.
    pub stage: String,
    /// Optimiser steps made, over all sessions of the run.
    pub steps: u64,
    /// Seconds spent, over all sessions of the run.
    pub seconds: f64,
    /// Best mean Dice of the validations, and the step that reached it.
    pub best: Option<(f64, u64)>,
    /// The last validation of this session.
    pub validation: Option<ValidationReport>,
    /// Whether it came to its end.
    pub finished: bool,
}

/// Trains a recipe on a data set ([`viscera_io::Dataset`]).
///
/// `run` gets `recipe.toml`, `splits.json`, `log.jsonl`, per stage `ID.last.safetensors` (to resume) and
/// `ID.best.safetensors` (weights with the best validation Dice), and `model.safetensors` when all stages are trained.
///
/// # Errors
/// [`TrainError`]; what was reached is in the last checkpoint.
pub fn train(
    recipe: &Recipe,
    data: &Path,
    run: &Path,
    options: &TrainOptions,
    progress: &mut dyn Progress,
) -> Result<TrainReport, TrainError> {
    recipe.check_trainable()?;
    let table = recipe.label_table()?;
    let chosen = chosen(recipe, options)?;
    for (stage, _) in &chosen {
        let last = last_path(run, &stage.id);
        if !options.resume && last.exists() {
            return Err(TrainError::content(
                last,
                "there is a run in this folder; resume it, or choose another",
            ));
        }
    }
    let init = options.init.as_deref().map(Model::load).transpose()?;
    std::fs::create_dir_all(run).map_err(TrainError::file(run))?;
    let text = recipe.canonical()?;
    atomic_write(&run.join("recipe.toml"), |file| file.write_all(text.as_bytes()))?;
    let seed = |settings: &TrainingSettings| options.seed.unwrap_or(settings.seed);
    let first_seed = chosen.first().map_or(0, |(_, settings)| seed(settings));
    let set = TrainingData::open(data, run, &table, options.fold, options.validation_share, first_seed)?;
    let wants_unlabelled = chosen
        .iter()
        .any(|(_, settings)| settings.loss.sees(Stream::Unlabelled));
    if !set.unlabelled.is_empty() && !wants_unlabelled {
        progress.note(&format!("{} cases without labels are left out", set.unlabelled.len()));
    }

    let start = Instant::now();
    let mut reports = Vec::new();
    let mut loaded: Option<Loaded> = None;
    for (at, (stage, settings)) in chosen.iter().enumerate() {
        let cache = options.cache.clone().unwrap_or_else(|| run.join("cache"));
        let unlabelled = settings.loss.sees(Stream::Unlabelled);
        let fits = |l: &Loaded| l.spacing_mm == settings.cache_spacing_mm && l.unlabelled == unlabelled;
        let cases = match loaded.take().filter(fits) {
            Some(cases) => cases,
            None => Loaded::new(&set, settings.cache_spacing_mm, unlabelled, &cache, progress)?,
        };
        // The stages left share what is left of the time.
        let budget = options.hours.map(|hours| {
            let left = hours * 3600.0 - start.elapsed().as_secs_f64();
            (left / (chosen.len() - at) as f64).max(1.0)
        });
        let network = graph(stage, &table)?;
        let own = init.as_ref().and_then(|model| {
            let weights = model.network(Some(&stage.id)).ok()?.folds.first()?;
            weights.check(&network).is_ok().then(|| weights.clone())
        });
        if init.is_some() && own.is_none() {
            let reason = format!("the model to start from has no weights that fit stage \"{}\"", stage.id);
            return Err(TrainError::Settings { reason });
        }
        let job = Job {
            stage,
            settings,
            table: &table,
            train: Arc::clone(&cases.train),
            validation: &cases.validation,
            run: run.to_owned(),
            device: options.device,
            seed: seed(settings),
            resume: options.resume,
            init: own,
            budget,
            ahead: options.ahead,
        };
        let outcome = job.run(progress)?;
        let stopped = !outcome.counters.finished;
        reports.push(StageReport {
            stage: stage.id.clone(),
            steps: outcome.counters.step,
            seconds: outcome.counters.seconds,
            best: outcome.counters.best,
            validation: outcome.validation,
            finished: outcome.counters.finished,
        });
        loaded = Some(cases);
        if stopped {
            return Ok(TrainReport {
                stages: reports,
                model: None,
            });
        }
    }
    let model = write_model(recipe, run, options, &set)?;
    Ok(TrainReport { stages: reports, model })
}

/// The stages to train, with their settings as they hold.
fn chosen<'a>(recipe: &'a Recipe, options: &TrainOptions) -> Result<Vec<(&'a Stage, TrainingSettings)>, TrainError> {
    if let Some(id) = options.stages.iter().find(|id| recipe.stage(id).is_none()) {
        return Err(TrainError::settings(format!("the recipe has no stage \"{id}\"")));
    }
    if options.hours.is_some_and(|h| h.is_nan() || h <= 0.0) || options.iterations == Some(0) {
        return Err(TrainError::settings("hours and iterations must be positive"));
    }
    recipe
        .stages
        .iter()
        .filter(|s| options.stages.is_empty() || options.stages.contains(&s.id))
        .map(|stage| {
            let settings = recipe.training.get(&stage.id);
            let mut settings = settings
                .cloned()
                .ok_or_else(|| TrainError::settings(format!("the recipe has no [training.{}] table", stage.id)))?;
            if let Some(iterations) = options.iterations {
                settings.iterations_per_epoch = settings.iterations_per_epoch.min(iterations);
                // A last, shorter epoch is cut by making all epochs divide the steps.
                while iterations % settings.iterations_per_epoch != 0 {
                    settings.iterations_per_epoch -= 1;
                }
                settings.epochs = iterations / settings.iterations_per_epoch;
            }
            Ok((stage, settings))
        })
        .collect()
}

/// Cases in memory.
struct Loaded {
    spacing_mm: f64,
    /// Whether cases without labels are among those to train on.
    unlabelled: bool,
    train: Arc<Vec<CachedCase>>,
    validation: Vec<CachedCase>,
}

impl Loaded {
    fn new(
        set: &TrainingData,
        spacing_mm: f64,
        unlabelled: bool,
        cache: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Self, TrainError> {
        progress.note(&format!(
            "preparing {} cases to train on and {} to validate on, at {spacing_mm} mm",
            set.train.len(),
            set.validation.len()
        ));
        let mut train = set.load(&set.train, spacing_mm, cache)?;
        if unlabelled {
            progress.note(&format!("preparing {} cases without labels", set.unlabelled.len()));
            train.extend(set.load(&set.unlabelled, spacing_mm, cache)?);
        }
        let validation = set.load(&set.validation, spacing_mm, cache)?;
        for case in train
            .iter()
            .chain(&validation)
            .filter(|c| c.stream != Stream::Unlabelled && !c.has_foreground())
        {
            progress.note(&format!(
                "case {}: none of its annotated classes occurs in its label map",
                case.name
            ));
        }
        if !train.iter().any(CachedCase::has_foreground) {
            return Err(TrainError::DataSet {
                reason: "no case has any foreground".to_owned(),
            });
        }
        Ok(Self {
            spacing_mm,
            unlabelled,
            train: Arc::new(train),
            validation,
        })
    }
}

/// Joins the best weights of all stages; `None` when a stage has none yet.
fn write_model(
    recipe: &Recipe,
    run: &Path,
    options: &TrainOptions,
    set: &TrainingData,
) -> Result<Option<PathBuf>, TrainError> {
    let table = recipe.label_table()?;
    let mut weights = BTreeMap::new();
    let mut facts = serde_json::Map::new();
    for stage in &recipe.stages {
        let path = best_path(run, &stage.id);
        if !path.exists() {
            return Ok(None);
        }
        let (found, counters) = load_weights(&graph(stage, &table)?, &path)?;
        weights.insert(stage.id.clone(), found);
        let seed = options.seed.or(recipe.training.get(&stage.id).map(|t| t.seed));
        let record = serde_json::json!({
            "steps": counters.step,
            "seconds": counters.seconds.round(),
            "seed": seed,
            "validation_dice": counters.best.filter(|_| !set.validation.is_empty()).map(|(dice, _)| dice),
        });
        facts.insert(stage.id.clone(), record);
    }
    let training = serde_json::json!({
        "cases": set.train.len(),
        "validation_cases": set.validation.len(),
        "device": options.device.name(),
        "version": env!("CARGO_PKG_VERSION"),
        "stages": facts,
    });
    let name = &recipe.recipe.name;
    let card = card(recipe, &training);
    let model = Model::new(name, recipe.clone(), table, weights, card, training)?;
    let path = run.join("model.safetensors");
    model.save(&path, options.storage)?;
    Ok(Some(path))
}

/// The bare facts as a model card.
fn card(recipe: &Recipe, training: &serde_json::Value) -> String {
    let mut text = format!(
        "# {}\n\nTrained by viscera {} on {} cases, validated on {}.\n\n| stage | steps | validation Dice (mean over classes, on the network's grid) |\n|---|---|---|\n",
        recipe.recipe.name,
        training["version"].as_str().unwrap_or_default(),
        training["cases"],
        training["validation_cases"],
    );
    for stage in &recipe.stages {
        let facts = &training["stages"][&stage.id];
        let dice = facts["validation_dice"]
            .as_f64()
            .map_or("–".to_owned(), |d| format!("{d:.3}"));
        text.push_str(&format!("| {} | {} | {dice} |\n", stage.id, facts["steps"]));
    }
    text.push_str("\nFor research; not a medical device.\n");
    text
}
