//! What the log of a run says of its trainings.

use super::series::Series;
use crate::{StepReport, StepSeconds, TrainError, ValidationReport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use viscera_image::LabelEntry;

/// A training begins, or goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The stage's id, behind the phase's and a `/` where there are phases.
    pub(crate) stage: String,
    /// Steps made before.
    pub(crate) step: u64,
    /// Steps of the whole training.
    pub(crate) steps: u64,
    pub(crate) seed: u64,
    pub(crate) device: String,
    pub(crate) batch_size: usize,
    /// Weights of the network.
    pub(crate) parameters: u64,
    /// Cases to train on.
    pub(crate) cases: usize,
    /// Cases to validate on.
    pub(crate) validation_cases: usize,
    /// What the network tells apart.
    pub(crate) classes: Vec<LabelEntry>,
}

/// A training ends, or is stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// As in [`Started`].
    pub(crate) stage: String,
    /// Steps made so far.
    pub(crate) step: u64,
    /// Seconds spent, over all sessions of the run.
    pub(crate) seconds: f64,
    /// Whether it came to its end.
    pub(crate) finished: bool,
}

/// A line of the log.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Start(Started),
    Step(StepReport),
    Validation(ValidationReport),
    End(Ended),
}

impl Event {
    fn stage(&self) -> &str {
        match self {
            Self::Start(Started { stage, .. })
            | Self::Step(StepReport { stage, .. })
            | Self::Validation(ValidationReport { stage, .. })
            | Self::End(Ended { stage, .. }) => stage,
        }
    }
}

/// One training.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct History {
    pub(super) name: String,
    pub(super) started: Option<Started>,
    /// How its last session ended; `None` while one goes on.
    pub(super) ended: Option<Ended>,
    /// The last step.
    pub(super) step: Option<StepReport>,
    pub(super) loss: Series,
    pub(super) terms: BTreeMap<String, Series>,
    pub(super) rate: Series,
    /// Seconds per step, and those of them that it waited for its batch.
    pub(super) pace: Series,
    pub(super) waiting: Series,
    /// Sums over `count` steps.
    pub(super) seconds: StepSeconds,
    pub(super) count: u64,
    pub(super) validation_seconds: f64,
    /// Dice and surface Dice by class.
    pub(super) scores: [BTreeMap<String, Series>; 2],
    pub(super) mean_dice: Series,
    pub(super) validations: u64,
    /// The last validation, and the one with the best mean Dice.
    pub(super) validation: Option<ValidationReport>,
    pub(super) best: Option<ValidationReport>,
}

impl History {
    fn take(&mut self, event: Event) {
        match event {
            Event::Start(start) => {
                self.started = Some(start);
                self.ended = None;
            }
            Event::End(end) => self.ended = Some(end),
            Event::Step(step) => {
                self.loss.push(step.step, step.loss.total);
                for (name, value) in &step.loss.terms {
                    self.terms.entry(name.clone()).or_default().push(step.step, *value);
                }
                self.rate.push(step.step, step.lr);
                self.pace.push(step.step, step.seconds.total());
                self.waiting.push(step.step, step.seconds.data);
                self.seconds.add(&step.seconds);
                self.count += 1;
                self.step = Some(step);
            }
            Event::Validation(found) => {
                for (of, scores) in self.scores.iter_mut().zip([&found.dice, &found.nsd]) {
                    for (class, value) in scores {
                        of.entry(class.clone()).or_default().push(found.step, *value);
                    }
                }
                self.mean_dice.push(found.step, found.mean_dice);
                self.validation_seconds += found.seconds;
                self.validations += 1;
                if found.best {
                    self.best = Some(found.clone());
                }
                self.validation = Some(found);
            }
        }
    }

    /// Steps made, and those of the whole training.
    pub(super) fn progress(&self) -> [u64; 2] {
        let start = self.started.as_ref().map_or([0; 2], |s| [s.step, s.steps]);
        self.step.as_ref().map_or(start, |s| [s.step, s.steps])
    }

    /// Seconds spent on steps and validations.
    pub(super) fn spent(&self) -> f64 {
        self.seconds.total() + self.validation_seconds
    }

    pub(super) fn finished(&self) -> bool {
        self.ended.as_ref().is_some_and(|e| e.finished)
    }
}

/// Reads a log as it grows.
pub(super) struct Reader {
    path: PathBuf,
    /// Bytes read.
    place: u64,
    /// In the order in which they began.
    pub(super) trainings: Vec<History>,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            place: 0,
            trainings: Vec::new(),
        }
    }

    /// Begins anew: lines that were read may be gone.
    pub(super) fn restart(&mut self) {
        self.place = 0;
        self.trainings.clear();
    }

    /// Reads what is new. Lines that are no event (of another version, or half written) count for nothing.
    pub(super) fn read(&mut self) -> Result<(), TrainError> {
        let Ok(mut file) = File::open(&self.path) else {
            return Ok(());
        };
        let failed = || TrainError::file(&self.path);
        file.seek(SeekFrom::Start(self.place)).map_err(failed())?;
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.read_until(b'\n', &mut line).map_err(failed())?;
            if read == 0 || !line.ends_with(b"\n") {
                return Ok(());
            }
            self.place += read as u64;
            let Ok(event) = serde_json::from_slice::<Event>(&line) else {
                continue;
            };
            let at = self.trainings.iter().position(|t| t.name == event.stage());
            let at = at.unwrap_or_else(|| {
                self.trainings.push(History {
                    name: event.stage().to_owned(),
                    ..History::default()
                });
                self.trainings.len() - 1
            });
            self.trainings[at].take(event);
        }
    }
}
