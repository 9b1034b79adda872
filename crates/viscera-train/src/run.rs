//! A whole training: each phase of a recipe, and each stage of a phase, in turn; then the model file.

use crate::checkpoint::load_weights;
use crate::pseudo::PSEUDO_LIST;
use crate::report::RunPage;
use crate::trainer::{Job, best_path, graph, last_path};
use crate::{
    CachedCase, CaseGrid, Device, Intensities, Progress, PseudoLabelOptions, StageCase, StageView, TrainError,
    TrainingData, ValidationReport, pseudo_label,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use viscera_engine::Precision;
use viscera_image::LabelTable;
use viscera_io::{Case, Dataset, atomic_write, write_json};
use viscera_net::{Storage, Weights};
use viscera_pipeline::recipe::{ChannelRule, IntensitySource, Normalise, Phase, PhaseStage, Role, Stage, Stream};
use viscera_pipeline::{Model, Recipe};

/// What the recipe leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainOptions {
    /// Ids of the stages to train, in every phase; all of the recipe when empty.
    pub stages: Vec<String>,
    /// Where networks are computed.
    pub device: Device,
    /// How networks store values while they are trained; bf16 needs less memory.
    pub precision: Precision,
    /// Goes on with a run that was stopped. Without it, a folder with a run in it is refused.
    pub resume: bool,
    /// Replaces the recipe's seeds.
    pub seed: Option<u64>,
    /// Replaces the recipe's number of steps, for trials: so many steps per stage and phase.
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
    /// A model whose weights the stages start from; stages that are not trained keep them.
    pub init: Option<PathBuf>,
    /// How the model file stores weights.
    pub storage: Storage,
}

impl Default for TrainOptions {
    fn default() -> Self {
        Self {
            stages: Vec::new(),
            device: Device::default(),
            precision: Precision::default(),
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
    /// Each training of a stage, in order.
    pub stages: Vec<StageReport>,
    /// The model file; `None` when the run was stopped, or a stage of the recipe has not been trained yet.
    pub model: Option<PathBuf>,
}

/// How the training of a stage ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageReport {
    /// Its id, behind the phase's and a `/` where there are phases.
    pub stage: String,
    /// Optimiser steps made, over all sessions of the run.
    pub steps: u64,
    /// Seconds spent, over all sessions of the run.
    pub seconds: f64,
    /// Best mean Dice of the validations, and the step that reached it; `None` without cases to validate on.
    pub best: Option<(f64, u64)>,
    /// The last validation of this session.
    pub validation: Option<ValidationReport>,
    /// Whether it came to its end.
    pub finished: bool,
}

/// Trains a recipe on a data set ([`viscera_io::Dataset`]), whose own label table the recipe may name.
///
/// `run` gets `recipe.toml`, `splits.json`, `log.jsonl`, the page `report.html` that follows the run, per stage `ID.last.safetensors` (to resume) and
/// `ID.best.safetensors` (weights with the best validation Dice), and `model.safetensors` when all stages are trained. Where
/// the recipe has phases, each has a folder for its stages' files, or for the labels that it makes
/// ([`crate::pseudo_label`]).
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
    let table = recipe.label_table_or(Dataset::open(data)?.labels())?;
    let work = work(recipe, options)?;
    for name in work.iter().filter_map(Work::name) {
        let last = last_path(run, name);
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
    let first = work.iter().find_map(|w| match w {
        Work::Train { part, .. } => Some(part.settings.seed),
        Work::Label { .. } => None,
    });
    let seed = options.seed.or(first).unwrap_or(0);
    let set = TrainingData::open(data, run, &table, options.fold, options.validation_share, seed)?;
    let mut training = Training {
        recipe,
        table,
        run,
        options,
        set,
        init,
        prepared: None,
    };
    if !training.set.unlabelled.is_empty() && !work.iter().any(Work::wants_unlabelled) {
        let count = training.set.unlabelled.len();
        progress.note(&format!("{count} cases without labels are left out"));
    }

    let set = &training.set;
    let cases = [&set.train, &set.validation, &set.unlabelled].map(Vec::len);
    let facts = vec![
        ("Data set", data.display().to_string()),
        (
            "Cases",
            format!(
                "{} to train on, {} to validate on, {} without labels",
                cases[0], cases[1], cases[2]
            ),
        ),
        ("Version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut page = RunPage::new(run, &recipe.recipe.name, facts);
    let result = training.all(&work, &mut page, progress);
    page.end(
        result
            .as_ref()
            .map(|(_, finished)| *finished)
            .map_err(ToString::to_string),
    )
    .and(result)
    .map(|(report, _)| report)
}

/// One thing to do.
enum Work<'a> {
    Train {
        /// Name in the run: the stage's id, behind the phase's where there are phases.
        name: String,
        phase: Option<&'a Phase>,
        part: Box<PhaseStage>,
    },
    Label {
        phase: &'a Phase,
    },
}

impl Work<'_> {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Train { name, .. } => Some(name),
            Self::Label { .. } => None,
        }
    }

    fn wants_unlabelled(&self) -> bool {
        match self {
            Self::Train { part, .. } => part.settings.loss.sees(Stream::Unlabelled),
            Self::Label { phase } => {
                let label = phase.pseudo_label.as_ref();
                label.is_some_and(|l| l.cases.contains(&Stream::Unlabelled))
            }
        }
    }
}

fn training_name(phase: Option<&str>, stage: &str) -> String {
    phase.map_or_else(|| stage.to_owned(), |phase| format!("{phase}/{stage}"))
}

/// All that is to be done, in order, with the settings as they hold.
fn work<'a>(recipe: &'a Recipe, options: &TrainOptions) -> Result<Vec<Work<'a>>, TrainError> {
    if let Some(id) = options.stages.iter().find(|id| recipe.stage(id).is_none()) {
        return Err(TrainError::settings(format!("the recipe has no stage \"{id}\"")));
    }
    if options.hours.is_some_and(|h| h.is_nan() || h <= 0.0) || options.iterations == Some(0) {
        return Err(TrainError::settings("hours and iterations must be positive"));
    }
    let wanted = |id: &String| options.stages.is_empty() || options.stages.contains(id);
    let without = |stage: &&Stage| wanted(&stage.id) && !recipe.training.contains_key(&stage.id);
    if let Some(stage) = recipe.stages.iter().find(without) {
        return Err(TrainError::settings(format!(
            "the recipe has no [training.{}] table",
            stage.id
        )));
    }
    let mut work = Vec::new();
    let mut add = |phase: Option<&'a Phase>| {
        for mut part in recipe.phase_stages(phase) {
            if !wanted(&part.stage.id) {
                continue;
            }
            if let Some(seed) = options.seed {
                part.settings.seed = seed;
            }
            if let Some(iterations) = options.iterations {
                let settings = &mut part.settings;
                settings.iterations_per_epoch = settings.iterations_per_epoch.min(iterations);
                // A last, shorter epoch is cut by making all epochs divide the steps.
                while iterations % settings.iterations_per_epoch != 0 {
                    settings.iterations_per_epoch -= 1;
                }
                let all = settings.epochs;
                settings.epochs = iterations / settings.iterations_per_epoch;
                settings.plain_epochs = settings.plain_epochs.saturating_mul(settings.epochs) / all.max(1);
            }
            work.push(Work::Train {
                name: training_name(phase.map(|p| p.id.as_str()), &part.stage.id),
                phase,
                part: Box::new(part),
            });
        }
        if let Some(phase) = phase.filter(|p| p.pseudo_label.is_some()) {
            work.push(Work::Label { phase });
        }
    };
    if recipe.phases.is_empty() {
        add(None);
    } else {
        recipe.phases.iter().for_each(|phase| add(Some(phase)));
    }
    Ok(work)
}

/// A run.
struct Training<'a> {
    recipe: &'a Recipe,
    table: LabelTable,
    run: &'a Path,
    options: &'a TrainOptions,
    set: TrainingData,
    init: Option<Model>,
    /// Cases of the last training, since the next one mostly has the same.
    prepared: Option<Prepared>,
}

/// Cases, prepared.
struct Prepared {
    grid: CaseGrid,
    train: Vec<Case>,
    cases: [Vec<Arc<CachedCase>>; 2],
}

impl Training<'_> {
    /// The cases to train and to validate on.
    fn prepare(
        &mut self,
        set: &TrainingData,
        part: &PhaseStage,
        progress: &mut dyn Progress,
    ) -> Result<[Vec<Arc<CachedCase>>; 2], TrainError> {
        let grid = CaseGrid {
            spacing_mm: part.settings.cache_spacing_mm,
            axes: part.stage.axes,
        };
        let mut train = set.train.clone();
        if part.settings.loss.sees(Stream::Unlabelled) {
            train.extend(set.unlabelled.iter().cloned());
        }
        if let Some(prepared) = self.prepared.as_ref().filter(|p| p.grid == grid && p.train == train) {
            return Ok(prepared.cases.clone());
        }
        progress.note(&format!(
            "preparing {} cases to train on and {} to validate on, at {} mm",
            train.len(),
            set.validation.len(),
            grid.spacing_mm
        ));
        let cache = self.options.cache.clone().unwrap_or_else(|| self.run.join("cache"));
        let cases = [
            set.load(&train, grid, &cache, progress)?,
            set.load(&set.validation, grid, &cache, progress)?,
        ];
        let prepared = self.prepared.insert(Prepared { grid, train, cases });
        Ok(prepared.cases.clone())
    }

    /// Does it all, until whoever watches says stop; says whether it came to its end.
    fn all(
        &mut self,
        work: &[Work<'_>],
        page: &mut RunPage,
        progress: &mut dyn Progress,
    ) -> Result<(TrainReport, bool), TrainError> {
        let start = Instant::now();
        let mut reports = Vec::new();
        for (at, item) in work.iter().enumerate() {
            let finished = match item {
                Work::Train { name, phase, part } => {
                    // The trainings left share what is left of the time.
                    let left = work[at..].iter().filter(|w| w.name().is_some()).count();
                    let budget = self.options.hours.map(|hours| {
                        let seconds = hours * 3600.0 - start.elapsed().as_secs_f64();
                        (seconds / left as f64).max(1.0)
                    });
                    let report = self.stage(name, *phase, part, budget, page, progress)?;
                    let finished = report.finished;
                    reports.push(report);
                    finished
                }
                Work::Label { phase } => self.label(phase, progress)?,
            };
            if !finished {
                let report = TrainReport {
                    stages: reports,
                    model: None,
                };
                return Ok((report, false));
            }
        }
        let model = self.write_model()?;
        Ok((TrainReport { stages: reports, model }, true))
    }

    /// Trains a stage.
    fn stage(
        &mut self,
        name: &str,
        phase: Option<&Phase>,
        part: &PhaseStage,
        budget: Option<f64>,
        page: &mut RunPage,
        progress: &mut dyn Progress,
    ) -> Result<StageReport, TrainError> {
        let set = match phase.and_then(|p| p.labels.as_ref()) {
            Some(from) => self.set.relabelled(&self.run.join(from).join(PSEUDO_LIST))?,
            None => self.set.clone(),
        };
        let [train, validation] = self.prepare(&set, part, progress)?;
        let stage = self.normalised(name, part, &train)?;
        let view = StageView::new(self.recipe, &stage, &self.table)?;
        let see = |cases: &[Arc<CachedCase>]| -> Result<Vec<StageCase>, TrainError> {
            let seen = cases
                .iter()
                .map(|case| view.case(case))
                .collect::<Result<Vec<_>, _>>()?;
            let useful = |case: &StageCase| part.settings.loss.sees(case.stream);
            Ok(seen.into_iter().filter(useful).collect())
        };
        let train = see(&train)?;
        let mut validation = see(&validation)?;
        validation.retain(|case| case.stream != Stream::Unlabelled);
        for case in train.iter().chain(&validation) {
            if case.stream != Stream::Unlabelled && !case.has_foreground() {
                progress.note(&format!(
                    "case {}: none of its annotated classes occurs in its label map",
                    case.case.name
                ));
            }
        }
        if !train.iter().any(StageCase::has_foreground) {
            return Err(TrainError::DataSet {
                reason: format!("no case has any foreground of stage \"{}\"", stage.id),
            });
        }
        let job = Job {
            name,
            view: &view,
            settings: &part.settings,
            train: Arc::new(train),
            validation: &validation,
            run: self.run.to_owned(),
            device: self.options.device,
            precision: self.options.precision,
            seed: part.settings.seed,
            resume: self.options.resume,
            init: self.start(part, &view)?,
            budget,
            ahead: self.options.ahead,
        };
        let outcome = job.run(page, progress)?;
        Ok(StageReport {
            stage: name.to_owned(),
            steps: outcome.counters.step,
            seconds: outcome.counters.seconds,
            best: outcome.counters.best.filter(|_| !validation.is_empty()),
            validation: outcome.validation,
            finished: outcome.counters.finished,
        })
    }

    /// The weights that a stage starts from, if not fresh ones.
    fn start(&self, part: &PhaseStage, view: &StageView) -> Result<Option<Weights>, TrainError> {
        let network = graph(&part.stage, view.classes())?;
        if let Some((phase, from)) = &part.start_from {
            let path = best_path(self.run, &training_name(Some(phase), from));
            return Ok(Some(load_weights(&network, &path)?.0));
        }
        let Some(model) = &self.init else { return Ok(None) };
        let own = || {
            let weights = model.network(Some(&part.stage.id)).ok()?.folds.first()?;
            weights.check(&network).is_ok().then(|| weights.clone())
        };
        own().map(Some).ok_or_else(|| {
            let id = &part.stage.id;
            TrainError::settings(format!(
                "the model to start from has no weights that fit stage \"{id}\""
            ))
        })
    }

    /// A stage that the run leaves as it is in the model that it starts from: as the recipe has it, with that model's constants
    /// of intensities, and its weights. `None` without such a model, or where the call names the stage to be trained.
    fn kept(&self, stage: &Stage) -> Result<Option<(Stage, Weights)>, TrainError> {
        let left_out = !self.options.stages.is_empty() && !self.options.stages.contains(&stage.id);
        let Some(model) = self.init.as_ref().filter(|_| left_out) else {
            return Ok(None);
        };
        let network = graph(stage, &stage.table(&self.table)?)?;
        let Ok(found) = model.network(Some(&stage.id)) else {
            return Ok(None);
        };
        let mut stage = stage.clone();
        let settings = self.recipe.training.get(&stage.id);
        if settings.is_some_and(|s| s.intensities == IntensitySource::Data) {
            stage.normalise = found.stage.normalise.clone();
        }
        let weights = found.folds.first().filter(|w| w.check(&network).is_ok());
        Ok(weights.map(|w| (stage, w.clone())))
    }

    /// The stage with the constants of its intensities, which are found once per training and then stay.
    fn normalised(&self, name: &str, part: &PhaseStage, train: &[Arc<CachedCase>]) -> Result<Stage, TrainError> {
        let mut stage = part.stage.clone();
        if part.settings.intensities == IntensitySource::Data {
            let path = self.normalise_path(name);
            stage.normalise = match std::fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text).map_err(|e| TrainError::content(&path, e))?,
                Err(_) => {
                    let found = Intensities::of_prepared(train).ok_or_else(|| TrainError::DataSet {
                        reason: "no voxel is labelled: there are no intensities to normalise by".to_owned(),
                    })?;
                    let rule = Normalise::Channels(vec![ChannelRule::Fixed {
                        window: [found.percentile_00_5, found.percentile_99_5],
                        mean: found.mean,
                        std: found.std,
                    }]);
                    write_json(&path, &rule)?;
                    rule
                }
            };
        }
        Ok(stage)
    }

    fn normalise_path(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.normalise.json"))
    }

    /// Labels cases with what the phases so far trained; says whether all of them.
    fn label(&self, phase: &Phase, progress: &mut dyn Progress) -> Result<bool, TrainError> {
        let Some(label) = &phase.pseudo_label else {
            return Ok(true);
        };
        let model = self.model(self.recipe.phases_to(&label.with), false)?.ok_or_else(|| {
            let reason = format!("phase \"{}\" finds nothing trained that segments", phase.id);
            TrainError::Settings { reason }
        })?;
        let cases = [self.set.train.clone(), self.set.unlabelled.clone()].concat();
        let options = PseudoLabelOptions {
            cases: label.cases.clone(),
            least_confidence: label.least_confidence,
        };
        let out = self.run.join(&phase.id);
        let report = pseudo_label(model, &cases, self.set.known(), &out, &options, progress)?;
        progress.note(&format!(
            "{}: {} cases labelled, {} were there already, {} left out",
            phase.id,
            report.labelled,
            report.already_there,
            report.left_out.len()
        ));
        Ok(report.finished)
    }

    /// Joins the best weights of each stage in the last of some phases that trains it. `None` when a stage has none yet;
    /// unless `whole`, such stages are left out, as far as the rest still segments.
    fn model(&self, phases: &[Phase], whole: bool) -> Result<Option<Model>, TrainError> {
        let mut recipe = self.recipe.clone();
        let mut weights = BTreeMap::new();
        let mut facts = serde_json::Map::new();
        let mut stages = Vec::new();
        for stage in &self.recipe.stages {
            let phase = phases.iter().rfind(|p| p.train.contains(&stage.id));
            let parts = self.recipe.phase_stages(phase);
            let part = parts.iter().find(|part| part.stage.id == stage.id);
            let name = training_name(phase.map(|p| p.id.as_str()), &stage.id);
            let path = best_path(self.run, &name);
            let Some(part) = part.filter(|_| path.exists()) else {
                match self.kept(stage)? {
                    Some((stage, found)) if whole => {
                        facts.insert(stage.id.clone(), serde_json::json!({ "kept": true }));
                        weights.insert(stage.id.clone(), found);
                        stages.push(stage);
                    }
                    _ if whole => return Ok(None),
                    _ => {}
                }
                continue;
            };
            let stage = self.normalised(&name, part, &[])?;
            let (found, counters) = load_weights(&graph(&stage, &stage.table(&self.table)?)?, &path)?;
            weights.insert(stage.id.clone(), found);
            let record = serde_json::json!({
                "steps": counters.step,
                "seconds": counters.seconds.round(),
                "seed": self.options.seed.unwrap_or(part.settings.seed),
                "validation_dice": counters.best.filter(|_| !self.set.validation.is_empty()).map(|(dice, _)| dice),
            });
            facts.insert(stage.id.clone(), record);
            stages.push(stage);
        }
        let known: Vec<String> = stages.iter().map(|s| s.id.clone()).collect();
        stages.retain(|s| s.roi.as_ref().is_none_or(|roi| known.contains(&roi.from)));
        while stages.last().is_some_and(|s| s.role != Role::Segment) {
            stages.pop();
        }
        if stages.is_empty() {
            return Ok(None);
        }
        recipe.stages = stages;
        if !whole {
            // Labels another data set's cases: how it was trained is the run's own business.
            recipe.phases.clear();
            recipe.training.clear();
        }
        let training = serde_json::json!({
            "cases": self.set.train.len(),
            "unlabelled_cases": self.set.unlabelled.len(),
            "validation_cases": self.set.validation.len(),
            "device": self.options.device.name(),
            "precision": self.options.precision.name(),
            "version": env!("CARGO_PKG_VERSION"),
            "stages": facts,
        });
        let (name, card) = (recipe.recipe.name.clone(), card(&recipe, &training));
        let model = Model::new(&name, recipe, self.table.clone(), weights, card, training)?;
        Ok(Some(model))
    }

    /// The model file; `None` when a stage has no weights yet.
    fn write_model(&self) -> Result<Option<PathBuf>, TrainError> {
        let Some(model) = self.model(&self.recipe.phases, true)? else {
            return Ok(None);
        };
        let path = self.run.join("model.safetensors");
        model.save(&path, self.options.storage)?;
        Ok(Some(path))
    }
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
        let steps = facts["steps"].as_u64().map_or("kept".to_owned(), |n| n.to_string());
        text.push_str(&format!("| {} | {steps} | {dice} |\n", stage.id));
    }
    text.push_str("\nFor research; not a medical device.\n");
    text
}
