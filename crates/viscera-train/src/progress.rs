//! What a run tells while it runs: to whoever watches, and to its log.

use crate::{LossValue, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use viscera_io::atomic_write;

/// Where the time of a step went.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct StepSeconds {
    /// Waiting for the batch.
    pub data: f64,
    /// The network forwards.
    pub forward: f64,
    /// Loss and its gradient.
    pub loss: f64,
    /// The network backwards.
    pub backward: f64,
    /// Clipping, optimiser, average, and handing the weights over.
    pub optimizer: f64,
}

impl StepSeconds {
    /// The whole step.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.data + self.forward + self.loss + self.backward + self.optimizer
    }

    /// Adds another step's, part by part.
    pub(crate) fn add(&mut self, other: &Self) {
        self.data += other.data;
        self.forward += other.forward;
        self.loss += other.loss;
        self.backward += other.backward;
        self.optimizer += other.optimizer;
    }
}

/// One optimiser step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// The stage's id, behind the phase's and a `/` where there are phases.
    pub stage: String,
    /// Steps made, this one included.
    pub step: u64,
    /// Steps of the whole run; one with a time budget may end earlier.
    pub steps: u64,
    /// The loss before the step.
    pub loss: LossValue,
    /// 2-norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub lr: f64,
    /// Where the time went.
    pub seconds: StepSeconds,
    /// Seconds until this stage ends, validations included, as far as can be told.
    pub seconds_left: f64,
}

/// One validation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    /// The stage's id, behind the phase's and a `/` where there are phases.
    pub stage: String,
    /// Steps made so far.
    pub step: u64,
    /// Dice per class name: mean over the cases that annotate the class and in which it occurs or is predicted.
    pub dice: BTreeMap<String, f64>,
    /// Surface Dice at 2 mm, likewise.
    pub nsd: BTreeMap<String, f64>,
    /// Mean over the classes; 0 when there is none.
    pub mean_dice: f64,
    /// Whether it is the best so far.
    pub best: bool,
    /// Cases.
    pub cases: usize,
    /// Seconds it took.
    pub seconds: f64,
    /// Peak memory of the process so far, where the system tells it.
    pub memory_bytes: Option<u64>,
}

/// Watches a run. Every method does nothing unless it is written.
pub trait Progress {
    /// Something worth knowing, in a sentence.
    fn note(&mut self, text: &str) {
        let _ = text;
    }

    /// A stage begins, at a step that is not 0 when it is resumed.
    fn stage(&mut self, id: &str, step: u64, steps: u64) {
        let _ = (id, step, steps);
    }

    /// A step was made. `Break` ends the run after a checkpoint, to be resumed.
    fn step(&mut self, report: &StepReport) -> ControlFlow<()> {
        let _ = report;
        ControlFlow::Continue(())
    }

    /// A case is about to be labelled by a network, number `number` (from 0) of `count`. `Break` ends the run; what is
    /// labelled stays.
    fn labelling(&mut self, case: &str, number: usize, count: usize) -> ControlFlow<()> {
        let _ = (case, number, count);
        ControlFlow::Continue(())
    }

    /// A validation was made.
    fn validated(&mut self, report: &ValidationReport) {
        let _ = report;
    }
}

/// Nobody watches.
impl Progress for () {}

/// The run's log: JSON, one object per line, with the key `event`.
pub(crate) struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Opens the log for a stage that goes on at `step`; what it said of later steps (made after the checkpoint, and now
    /// to be made again) goes.
    pub(crate) fn open(path: &Path, stage: &str, step: u64) -> Result<Self, TrainError> {
        #[derive(Deserialize)]
        struct Line {
            stage: Option<String>,
            step: Option<u64>,
        }
        if let Ok(text) = std::fs::read_to_string(path) {
            let stays = |line: &&str| {
                serde_json::from_str(line)
                    .is_ok_and(|l: Line| l.stage.as_deref() != Some(stage) || l.step.is_none_or(|s| s <= step))
            };
            let kept: String = text.lines().filter(stays).flat_map(|l| [l, "\n"]).collect();
            if kept != text {
                atomic_write(path, |file| file.write_all(kept.as_bytes()))?;
            }
        }
        let file = File::options().create(true).append(true).open(path);
        Ok(Self {
            file: file.map_err(TrainError::file(path))?,
            path: path.to_owned(),
        })
    }

    pub(crate) fn write(&mut self, event: &str, record: &impl Serialize) -> Result<(), TrainError> {
        #[derive(Serialize)]
        struct Line<'a, T: Serialize> {
            event: &'a str,
            #[serde(flatten)]
            record: &'a T,
        }
        let mut text = serde_json::to_vec(&Line { event, record }).map_err(|e| TrainError::content(&self.path, e))?;
        text.push(b'\n');
        self.file.write_all(&text).map_err(TrainError::file(&self.path))
    }
}
