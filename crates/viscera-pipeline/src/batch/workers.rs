//! The threads of a batch.

use super::{BatchOptions, Queued};
use crate::job::{Scan, read_case, write_case};
use crate::{Manifest, PipelineError, Segmentation, Segmenter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

/// What the threads tell.
pub(super) enum Message {
    /// A case is segmented now.
    Began(usize),
    /// How far it is.
    Progress(crate::Progress),
    /// A case ended; its files are there, or it failed.
    Ended(usize, Result<Box<Manifest>, PipelineError>),
}

/// A switch that all threads look at.
#[derive(Debug, Clone, Default)]
pub(super) struct Halt {
    on: Arc<AtomicBool>,
    writing: Arc<Mutex<()>>,
}

impl Halt {
    fn is_on(&self) -> bool {
        self.on.load(Ordering::SeqCst)
    }

    /// Ends the work: waits for the case that is written, and from then on nothing is written. The case that is computed
    /// is given up; its thread ends when it is through.
    pub(super) fn now(&self) {
        self.on.store(true, Ordering::SeqCst);
        drop(self.writing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Runs `write`, unless the work was ended.
    fn writing(&self, write: impl FnOnce()) {
        let _guard = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.is_on() {
            write();
        }
    }
}

/// What the threads share.
pub(super) struct Shared {
    pub(super) segmenter: Segmenter,
    pub(super) options: BatchOptions,
    pub(super) halt: Halt,
    pub(super) tell: Sender<Message>,
}

/// A case between computing and writing.
struct Computed {
    index: usize,
    scan: Scan,
    result: Segmentation,
    seconds: f64,
}

impl Shared {
    fn read(&self, queued: Queued) -> Result<Scan, PipelineError> {
        let shrunk = queued.estimate?.shrunk;
        let scan = read_case(&self.segmenter, &queued.case, &self.options.out, &self.options.job)?;
        Ok(Scan { shrunk, ..scan })
    }

    fn compute(&self, index: usize, scan: Result<Scan, PipelineError>) -> Option<Computed> {
        self.tell(Message::Began(index));
        let begin = Instant::now();
        let result = scan.and_then(|mut scan| {
            let found = self.segmenter.segment_in_place(&mut scan.image, scan.shrunk)?;
            Ok((found, scan))
        });
        match result {
            Ok((result, scan)) => Some(Computed {
                index,
                scan,
                result,
                seconds: begin.elapsed().as_secs_f64(),
            }),
            Err(error) => {
                self.tell(Message::Ended(index, Err(error)));
                None
            }
        }
    }

    fn write(&self, computed: Computed) {
        let Computed {
            index,
            scan,
            result,
            seconds,
        } = computed;
        let (out, job) = (&self.options.out, &self.options.job);
        self.halt.writing(|| {
            let manifest = write_case(&self.segmenter, &scan, result, seconds, out, job).map(Box::new);
            self.tell(Message::Ended(index, manifest));
        });
    }

    fn tell(&self, message: Message) {
        if self.options.fail_fast && matches!(message, Message::Ended(_, Err(_))) {
            self.halt.on.store(true, Ordering::SeqCst);
        }
        // Nobody listens once the work was ended.
        let _ = self.tell.send(message);
    }
}

/// Works through a queue on threads of its own.
///
/// # Errors
/// What the system says when it gives no thread.
pub(super) fn start(shared: Arc<Shared>, queue: Vec<Queued>, overlap: bool) -> std::io::Result<Vec<JoinHandle<()>>> {
    let queue = queue.into_iter().enumerate();
    if !overlap {
        let work = move || {
            for (index, queued) in queue {
                if shared.halt.is_on() {
                    return;
                }
                let scan = shared.read(queued);
                if let Some(computed) = shared.compute(index, scan) {
                    shared.write(computed);
                }
            }
        };
        return Ok(vec![spawn("batch", work)?]);
    }
    // Without room in the channels, a thread that is ahead waits with one scan in its hands.
    let (read, scans) = sync_channel::<(usize, Result<Scan, PipelineError>)>(0);
    let (computed, results) = sync_channel::<Computed>(0);
    let reader = {
        let shared = Arc::clone(&shared);
        spawn("batch-read", move || {
            for (index, queued) in queue {
                if shared.halt.is_on() || read.send((index, shared.read(queued))).is_err() {
                    return;
                }
            }
        })?
    };
    let computer = {
        let shared = Arc::clone(&shared);
        spawn("batch-compute", move || {
            compute_all(&shared, scans, |c| computed.send(c).is_ok())
        })?
    };
    let writer = spawn("batch-write", move || results.into_iter().for_each(|c| shared.write(c)))?;
    Ok(vec![reader, computer, writer])
}

fn compute_all(
    shared: &Shared,
    scans: Receiver<(usize, Result<Scan, PipelineError>)>,
    hand_on: impl Fn(Computed) -> bool,
) {
    for (index, scan) in scans {
        if shared.halt.is_on() {
            return;
        }
        if let Some(computed) = shared.compute(index, scan)
            && !hand_on(computed)
        {
            return;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}
