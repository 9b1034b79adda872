//! Running a batch.

use super::Batch;
use super::workers::{Halt, Message, Shared, start};
use crate::{Estimate, Manifest, PipelineError, Progress, Watch};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use viscera_io::remove_stale;

/// How soon a stop is seen.
const PATIENCE: Duration = Duration::from_millis(20);

/// What happens in a batch. One case may begin before another's files are written.
#[derive(Debug)]
pub enum Event<'a> {
    /// A case is segmented now.
    CaseStarted {
        /// Its name.
        case: &'a str,
        /// Its place in this run, the first is 1.
        number: usize,
    },
    /// How far it is.
    Step {
        /// Its name.
        case: &'a str,
        /// Which step, and how far.
        progress: Progress,
    },
    /// Its files are there.
    CaseFinished {
        /// What was written about it.
        manifest: Box<Manifest>,
        /// About how many seconds the rest of the batch takes, as the cases before went.
        seconds_left: f64,
    },
    /// It has no files.
    CaseFailed {
        /// Its name.
        case: &'a str,
        /// Why.
        error: PipelineError,
    },
}

/// How a batch ended.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Cases segmented.
    pub finished: usize,
    /// Cases that failed.
    pub failed: usize,
    /// Cases that were finished before.
    pub skipped: usize,
    /// Cases that were not done because the batch was ended before.
    pub left: usize,
    /// Whether it was stopped from outside.
    pub interrupted: bool,
    /// Wall-clock seconds.
    pub seconds: f64,
}

impl Batch {
    /// Does what is to be done, and tells of it on this thread. A case that fails does not stop the others, unless that
    /// was asked for.
    ///
    /// Temporary files that a killed run left in the folder are removed first. When `stop` becomes true, the case that is
    /// being written is finished, those that are computed or waiting are given up, and this returns within moments; threads
    /// may compute to no end for a while, but nothing more is written.
    ///
    /// # Errors
    /// [`PipelineError::Io`] when the folder cannot be looked into; [`PipelineError::Threads`] when the system gives no
    /// thread. All that concerns one case is an event.
    pub fn run(self, stop: &AtomicBool, mut tell: impl FnMut(Event<'_>)) -> Result<Summary, PipelineError> {
        let begin = Instant::now();
        remove_stale(&self.options.out)?;
        let fail_fast = self.options.fail_fast;
        let mut rest = Rest::new(&self);
        let names: Vec<String> = self.queue.iter().map(|q| q.case.name.clone()).collect();
        let mut summary = Summary {
            skipped: self.finished.len(),
            left: names.len(),
            ..Summary::default()
        };
        let name = |index: usize| names.get(index).map_or("", String::as_str);

        let (sender, messages) = channel();
        let steps = sender.clone();
        let watch = Watch::new(move |progress| {
            let _ = steps.send(Message::Progress(progress));
        });
        let halt = Halt::default();
        let shared = Shared {
            segmenter: self.segmenter.watched(watch),
            options: self.options,
            halt: halt.clone(),
            tell: sender,
        };
        let threads = start(Arc::new(shared), self.queue, self.forecast.overlap)
            .map_err(|source| PipelineError::Threads { source })?;
        let mut current = 0;
        let mut handle = |message: Message, summary: &mut Summary| match message {
            Message::Began(index) => {
                current = index;
                let (case, number) = (name(index), index + 1);
                tell(Event::CaseStarted { case, number });
            }
            Message::Progress(progress) => {
                let case = name(current);
                tell(Event::Step { case, progress });
            }
            Message::Ended(index, result) => {
                summary.left = summary.left.saturating_sub(1);
                rest.done(index);
                match result {
                    Ok(manifest) => {
                        summary.finished += 1;
                        let seconds_left = rest.seconds(begin.elapsed().as_secs_f64());
                        tell(Event::CaseFinished { manifest, seconds_left });
                    }
                    Err(error) => {
                        summary.failed += 1;
                        let case = name(index);
                        tell(Event::CaseFailed { case, error });
                    }
                }
            }
        };
        let whole = loop {
            match messages.recv_timeout(PATIENCE) {
                Ok(message) => handle(message, &mut summary),
                Err(RecvTimeoutError::Disconnected) => break true,
                Err(RecvTimeoutError::Timeout) => {}
            }
            summary.interrupted = stop.load(Ordering::SeqCst);
            if summary.interrupted || (fail_fast && summary.failed > 0) {
                halt.now();
                // What was written while we waited.
                messages.try_iter().for_each(|message| handle(message, &mut summary));
                break false;
            }
        };
        if whole {
            for thread in threads {
                if let Err(panic) = thread.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        summary.seconds = begin.elapsed().as_secs_f64();
        Ok(summary)
    }
}

/// How much is left, by the cases' estimates.
struct Rest {
    /// Work of each case, in any unit; cases that cannot be done have none.
    work: Vec<f64>,
    done: f64,
    all: f64,
}

impl Rest {
    fn new(batch: &Batch) -> Self {
        let work = |e: &Estimate| e.seconds(Self::PEAK, 1);
        let work: Vec<f64> = batch
            .queue
            .iter()
            .map(|q| q.estimate.as_ref().map_or(0.0, work))
            .collect();
        Self {
            all: work.iter().sum(),
            done: 0.0,
            work,
        }
    }

    fn done(&mut self, index: usize) {
        self.done += self.work.get(index).copied().unwrap_or(0.0);
    }

    /// Seconds left after so many.
    fn seconds(&self, elapsed: f64) -> f64 {
        if self.done > 0.0 {
            elapsed * (self.all - self.done).max(0.0) / self.done
        } else {
            0.0
        }
    }

    /// Only the shares count, so any processor will do.
    const PEAK: f64 = 100.0;
}
