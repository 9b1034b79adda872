//! The loop over steps and epochs of one stage.

use crate::checkpoint::{Counters, State, save_weights};
use crate::loss::nearest;
use crate::prefetch::Feed;
use crate::progress::Log;
use crate::report::{Ended, RunPage, Slice, Started};
use crate::validate::validate;
use crate::{
    Batch, Device, LossValue, Optimizer, Progress, Sampler, StageCase, StageView, StepReport, StepSeconds, Target,
    TrainError, ValidationReport, average, clip_norm, evaluate,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use viscera_engine::Precision;
use viscera_image::{AnnotatedClasses, LabelTable};
use viscera_net::{Executor, Graph, NetError, Tensor, Weights};
use viscera_pipeline::recipe::{Kept, Stage, Supervision, TrainingSettings};
use viscera_pipeline::{Decision, peak_memory_bytes};

/// Everything that the training of one stage needs.
pub(crate) struct Job<'a> {
    /// Its name in the run: the stage's id, behind the phase's where there are phases.
    pub(crate) name: &'a str,
    pub(crate) view: &'a StageView,
    pub(crate) settings: &'a TrainingSettings,
    pub(crate) train: Arc<Vec<StageCase>>,
    pub(crate) validation: &'a [StageCase],
    pub(crate) run: PathBuf,
    pub(crate) device: Device,
    pub(crate) precision: Precision,
    pub(crate) seed: u64,
    pub(crate) resume: bool,
    /// Weights to start from instead of fresh ones.
    pub(crate) init: Option<Weights>,
    /// Seconds after which the stage shall be done; the schedule then follows the clock where that is ahead.
    pub(crate) budget: Option<f64>,
    /// Batches prepared early.
    pub(crate) ahead: usize,
}

/// How the training of a stage ended.
pub(crate) struct Outcome {
    pub(crate) counters: Counters,
    /// The last validation.
    pub(crate) validation: Option<ValidationReport>,
}

/// Files of a stage's training in the run folder.
pub(crate) fn last_path(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.last.safetensors"))
}

pub(crate) fn best_path(run: &Path, name: &str) -> PathBuf {
    run.join(format!("{name}.best.safetensors"))
}

/// The network of a stage: one channel of image in, those of its activation and classes out.
pub(crate) fn graph(stage: &Stage, classes: &LabelTable) -> Result<Graph, NetError> {
    stage
        .network
        .graph(1, stage.inference.channels(classes.entries().len()))
}

impl Job<'_> {
    /// Trains to the end, or until whoever watches says stop.
    pub(crate) fn run(&self, page: &mut RunPage, progress: &mut dyn Progress) -> Result<Outcome, TrainError> {
        let graph = graph(&self.view.stage, &self.view.classes)?;
        let (settings, id) = (self.settings, self.name);
        let last = last_path(&self.run, id);
        let mut state = self.fresh(&graph)?;
        if self.resume && last.exists() {
            state = state.load(&graph, &last)?;
        }
        let steps = settings.steps();
        progress.stage(id, state.counters.step, steps);
        if state.counters.finished {
            progress.note(&format!("stage {id} is trained already"));
            return Ok(Outcome {
                counters: state.counters,
                validation: None,
            });
        }
        let mut log = Log::open(&self.run.join("log.jsonl"), id, state.counters.step)?;
        log.write("start", &self.started(&graph, state.counters.step))?;
        page.begin()?;
        let mut executor = self.device.executor(&graph, &state.weights, self.precision)?;
        let mut teacher = match settings.supervision {
            Supervision::MeanTeacher { .. } => Some(self.device.executor(&graph, &state.weights, self.precision)?),
            _ => None,
        };
        let sampler = Sampler::new(self.view, settings, self.seed);
        let batches = state.counters.step.saturating_mul(settings.accumulate);
        let mut feed = Feed::new(sampler, Arc::clone(&self.train), batches, self.ahead);

        let mut clock = Clock::new(state.counters.seconds);
        let mut report = None;
        loop {
            let done = self.done(&state.counters, steps);
            if done >= 1.0 {
                break;
            }
            let mut step = self.step(&mut state, executor.as_mut(), teacher.as_mut(), &mut feed, done)?;
            state.counters.seconds = clock.now();
            let done = self.done(&state.counters, steps);
            step.seconds_left = clock.left(done);
            log.write("step", &step)?;
            let stop = progress.step(&step).is_break();

            let epoch_ends = state.counters.step % settings.iterations_per_epoch == 0;
            let epoch = state.counters.step / settings.iterations_per_epoch;
            if done >= 1.0 || (epoch_ends && epoch % settings.validate_every == 0) {
                let (found, slice) = self.validation(&mut state, executor.as_mut(), &graph)?;
                log.write("validation", &found)?;
                progress.validated(&found);
                if let Some(slice) = slice {
                    page.keep(id, slice)?;
                }
                report = Some(found);
                state.counters.seconds = clock.now();
            }
            state.counters.finished = done >= 1.0;
            if epoch_ends || stop || state.counters.finished {
                state.save(&graph, &last)?;
                page.write()?;
            }
            if stop {
                break;
            }
        }
        let end = Ended {
            stage: id.to_owned(),
            step: state.counters.step,
            seconds: state.counters.seconds,
            finished: state.counters.finished,
        };
        log.write("end", &end)?;
        Ok(Outcome {
            counters: state.counters,
            validation: report,
        })
    }

    /// What the log says of the beginning.
    fn started(&self, graph: &Graph, step: u64) -> Started {
        Started {
            stage: self.name.to_owned(),
            step,
            steps: self.settings.steps(),
            seed: self.seed,
            device: format!("{}, {}", self.device.name(), self.precision.name()),
            batch_size: self.settings.batch_size,
            parameters: graph
                .params
                .iter()
                .map(|p| p.shape.iter().product::<usize>() as u64)
                .sum(),
            cases: self.train.len(),
            validation_cases: self.validation.len(),
            classes: self.view.classes.entries().to_vec(),
        }
    }

    /// The state before the first step.
    fn fresh(&self, graph: &Graph) -> Result<State, TrainError> {
        let weights = self.init.clone().unwrap_or_else(|| Weights::init(graph, self.seed));
        // What must be the same for a resumed run to equal an undisturbed one.
        let settings = serde_json::to_string(&(&self.view.stage, self.settings, self.seed, self.precision.name()))
            .map_err(|e| TrainError::settings(e.to_string()))?;
        Ok(State {
            counters: Counters {
                settings,
                ..Counters::default()
            },
            optimizer: Optimizer::new(self.settings.optimizer.clone(), &graph.params),
            average: self.decay(1).map(|_| weights.clone()),
            weights,
        })
    }

    /// How slowly the average of the weights follows them in a step, counted from 1; `None` without one.
    fn decay(&self, step: u64) -> Option<f32> {
        match self.settings.supervision {
            Supervision::MeanTeacher { decay, .. } => Some(decay),
            // Early on, the average forgets its random start faster.
            _ => self
                .settings
                .ema
                .map(|decay| decay.min((1.0 + step as f32) / (10.0 + step as f32))),
        }
    }

    /// Share of the run that is over.
    fn done(&self, counters: &Counters, steps: u64) -> f64 {
        let by_steps = counters.step as f64 / steps.max(1) as f64;
        self.budget
            .map_or(by_steps, |budget| by_steps.max(counters.seconds / budget))
    }

    /// One optimiser step of the network.
    fn step(
        &self,
        state: &mut State,
        executor: &mut dyn Executor,
        mut teacher: Option<&mut Box<dyn Executor>>,
        feed: &mut Feed,
        done: f64,
    ) -> Result<StepReport, TrainError> {
        let settings = self.settings;
        let mut seconds = StepSeconds::default();
        let number = state.counters.step + 1;
        if let (Some(teacher), Some(average)) = (&mut teacher, &state.average) {
            teacher.set_parameters(average)?;
        }
        let (mut loss, mut gradients) = self.batch(number, 0, executor, &mut teacher, feed, done, &mut seconds)?;
        let share = 1.0 / settings.accumulate as f64;
        for turn in 1..settings.accumulate {
            let (more, further) = self.batch(number, turn, executor, &mut teacher, feed, done, &mut seconds)?;
            loss.add(&more);
            for (sum, gradient) in gradients.iter_mut().zip(&further) {
                sum.iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        let mut watch = Watch(Instant::now());
        if settings.accumulate > 1 {
            loss.scale(share);
            let all = gradients.iter_mut().flatten();
            all.for_each(|g| *g *= share as f32);
        }
        state
            .optimizer
            .take_statistics(&mut state.weights.values, &mut gradients);
        let gradient_norm = clip_norm(&mut gradients, settings.clip_norm);
        if !gradient_norm.is_finite() {
            return Err(TrainError::NotFinite {
                step: number,
                what: "a gradient",
            });
        }
        let rate = settings.schedule.factor(done, settings.warmup);
        state.optimizer.step(&mut state.weights.values, &gradients, rate);
        if let (Some(averages), Some(decay)) = (&mut state.average, self.decay(number)) {
            average(&mut averages.values, &state.weights.values, decay);
        }
        executor.set_parameters(&state.weights)?;
        seconds.optimizer += watch.lap();
        state.counters.step = number;
        Ok(StepReport {
            stage: self.name.to_owned(),
            step: number,
            steps: settings.steps(),
            loss,
            gradient_norm,
            lr: settings.optimizer.lr() * rate,
            seconds,
            seconds_left: 0.0,
        })
    }

    /// Loss and gradients of the next batch, the one of number `turn` in step `number`; with a teacher against it too.
    #[allow(clippy::too_many_arguments)] // one call, from `step`
    fn batch(
        &self,
        number: u64,
        turn: u64,
        executor: &mut dyn Executor,
        teacher: &mut Option<&mut Box<dyn Executor>>,
        feed: &mut Feed,
        done: f64,
        seconds: &mut StepSeconds,
    ) -> Result<(LossValue, Vec<Vec<f32>>), TrainError> {
        let settings = self.settings;
        let mut watch = Watch(Instant::now());
        let batch = feed.next()?;
        seconds.data += watch.lap();
        let draw = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(turn);
        let heads = executor.forward(&batch.input, self.seed.wrapping_add(draw))?;
        let classes: Vec<u8> = self.view.classes.entries().iter().map(|e| e.id).collect();
        let target = Target {
            labels: &batch.labels,
            coarser: &[],
            annotated: &batch.annotated,
            streams: &batch.streams,
            classes: &classes,
            ignore: None,
        };
        let taught = match (teacher, settings.supervision) {
            (Some(teacher), Supervision::MeanTeacher { weight, .. }) => {
                Some((self.teach(teacher.infer(&batch.input)?, &batch)?, weight))
            }
            _ => None,
        };
        seconds.forward += watch.lap();
        let (mut loss, mut gradients) = evaluate(&settings.loss, &heads, target, done)?;
        if let Some((labels, weight)) = taught
            && let Some((finest, coarser)) = labels.split_first()
        {
            let all: AnnotatedClasses = classes.iter().copied().collect();
            let target = Target {
                labels: finest,
                coarser,
                annotated: &vec![all; batch.annotated.len()],
                ..target
            };
            let (more, by_teacher) = evaluate(&settings.loss, &heads, target, done)?;
            add_taught(&mut loss, more, weight);
            for (sum, gradient) in gradients.iter_mut().zip(&by_teacher) {
                let pairs = sum.data_mut().iter_mut().zip(gradient.data());
                pairs.for_each(|(sum, g)| *sum += weight as f32 * g);
            }
        }
        if !loss.total.is_finite() {
            return Err(TrainError::NotFinite {
                step: number,
                what: "the loss",
            });
        }
        seconds.loss += watch.lap();
        let gradients = executor.backward(&gradients)?;
        seconds.backward += watch.lap();
        Ok((loss, gradients))
    }

    /// What the teacher says of a batch, head by head, with the annotated voxels laid over it.
    fn teach(&self, heads: Vec<Tensor>, batch: &Batch) -> Result<Vec<Vec<u8>>, TrainError> {
        let decision = Decision::new(&self.view.stage.inference, &self.view.classes);
        let size = self.view.stage.network_size();
        let of_head = |head: &Tensor| {
            let [samples, channels, z, y, x] = head.shape();
            let own = nearest(&batch.labels, size, head.spatial());
            let mut labels = Vec::with_capacity(samples * z * y * x);
            for sample in 0..samples {
                let logits = (0..channels).flat_map(|c| head.channel(sample, c)).copied().collect();
                labels.extend(decision.labels(&Tensor::new([1, channels, z, y, x], logits)?));
            }
            for (label, &own) in labels.iter_mut().zip(own.iter()) {
                if own > 0 {
                    *label = own;
                }
            }
            Ok(labels)
        };
        heads.iter().map(of_head).collect()
    }

    /// The weights that are validated and kept.
    fn kept<'s>(&self, state: &'s State) -> &'s Weights {
        match (self.settings.supervision, &state.average) {
            (
                Supervision::MeanTeacher {
                    keep: Kept::Student, ..
                },
                _,
            )
            | (_, None) => &state.weights,
            (_, Some(average)) => average,
        }
    }

    /// Validates, and keeps the weights if they are the best; without cases the newest are.
    fn validation(
        &self,
        state: &mut State,
        executor: &mut dyn Executor,
        graph: &Graph,
    ) -> Result<(ValidationReport, Option<Slice>), TrainError> {
        let start = Instant::now();
        executor.set_parameters(self.kept(state))?;
        let scores = validate(executor, self.validation, self.view)?;
        executor.set_parameters(&state.weights)?;
        let mean_dice = scores.mean_dice();
        let best = self.validation.is_empty() || state.counters.best.is_none_or(|(before, _)| mean_dice > before);
        if best {
            state.counters.best = Some((mean_dice, state.counters.step));
            let path = best_path(&self.run, self.name);
            save_weights(self.kept(state), &state.counters, graph, &path)?;
        }
        let report = ValidationReport {
            stage: self.name.to_owned(),
            step: state.counters.step,
            dice: scores.dice,
            nsd: scores.nsd,
            mean_dice,
            best,
            cases: self.validation.len(),
            seconds: start.elapsed().as_secs_f64(),
            memory_bytes: peak_memory_bytes(),
        };
        Ok((report, scores.slice))
    }
}

/// Joins the loss against the teacher with that against the labels; its terms get names of their own.
fn add_taught(loss: &mut LossValue, more: LossValue, weight: f64) {
    loss.total += weight * more.total;
    let named = more
        .terms
        .into_iter()
        .map(|(name, value)| (format!("teacher:{name}"), value));
    loss.terms.extend(named);
}

/// Seconds since the last look.
struct Watch(Instant);

impl Watch {
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let seconds = now.duration_since(self.0).as_secs_f64();
        self.0 = now;
        seconds
    }
}

/// Time of a run, with what it spent before it was resumed.
struct Clock {
    start: Instant,
    before: f64,
    /// Share that was done when this part of the run began.
    first: Option<f64>,
}

impl Clock {
    fn new(before: f64) -> Self {
        Self {
            start: Instant::now(),
            before,
            first: None,
        }
    }

    fn now(&self) -> f64 {
        self.before + self.start.elapsed().as_secs_f64()
    }

    /// Seconds until all is done, at the speed so far.
    fn left(&mut self, done: f64) -> f64 {
        let first = *self.first.get_or_insert(done);
        let made = done - first;
        if made > 0.0 {
            self.start.elapsed().as_secs_f64() / made * (1.0 - done).max(0.0)
        } else {
            0.0
        }
    }
}
