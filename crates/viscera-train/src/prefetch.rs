//! Prepares batches ahead of the trainer, on a thread of its own that hands its work to the shared pool.

use crate::{Batch, Sampler, StageCase, TrainError};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// Batches in order.
pub(crate) struct Feed {
    sampler: Arc<Sampler>,
    cases: Arc<Vec<StageCase>>,
    /// The next batch's number.
    next: u64,
    ahead: Option<Receiver<Result<Batch, TrainError>>>,
}

impl Feed {
    /// Batches from number `next` on; up to `ahead` are prepared early, none for 0. What they hold does not depend on it.
    pub(crate) fn new(sampler: Sampler, cases: Arc<Vec<StageCase>>, next: u64, ahead: usize) -> Self {
        let mut feed = Self {
            sampler: Arc::new(sampler),
            cases,
            next,
            ahead: None,
        };
        if ahead > 0 {
            // The channel holds one less than is prepared: the thread has one in hand.
            let (sender, receiver) = sync_channel(ahead - 1);
            let (sampler, cases) = (Arc::clone(&feed.sampler), Arc::clone(&feed.cases));
            let made = std::thread::Builder::new().name("samples".to_owned()).spawn(move || {
                // Ends when the receiver is gone.
                let mut number = next;
                while sender.send(sampler.batch(&cases, number)).is_ok() {
                    number += 1;
                }
            });
            // Without a thread, batches are made when they are asked for.
            feed.ahead = made.is_ok().then_some(receiver);
        }
        feed
    }

    /// The next batch.
    pub(crate) fn next(&mut self) -> Result<Batch, TrainError> {
        let number = self.next;
        self.next += 1;
        match self.ahead.as_ref().and_then(|ahead| ahead.recv().ok()) {
            Some(batch) => batch,
            None => self.sampler.batch(&self.cases, number),
        }
    }
}
