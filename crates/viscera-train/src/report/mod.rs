//! The page of a run: `report.html` in its folder, which follows the run while it goes on.
//!
//! It shows what `log.jsonl` says, so that a run that was resumed shows all of it, and a slice of a validation case per
//! training, which is kept beside the training's checkpoints as `ID.overlay.json`.

mod history;
mod overlay;
mod series;
mod summary;
mod training;

pub(crate) use history::{Ended, Started};
pub(crate) use overlay::Slice;

use crate::TrainError;
use history::Reader;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use viscera_io::atomic_write;
use viscera_page::Page;

/// Seconds after which a browser reads the page of a run that goes on again.
const REFRESH: u64 = 20;

/// How a run is.
#[derive(Debug, Clone, PartialEq)]
enum State {
    Running,
    Stopped,
    Finished,
    Failed(String),
}

/// The page in the making.
pub(crate) struct RunPage {
    run: PathBuf,
    /// Name of the recipe.
    name: String,
    /// What holds for the whole run.
    facts: Vec<(&'static str, String)>,
    state: State,
    log: Reader,
    /// Per training its last slice.
    slices: BTreeMap<String, Slice>,
}

impl RunPage {
    /// Of a run in a folder; nothing is written yet.
    pub(crate) fn new(run: &Path, name: &str, facts: Vec<(&'static str, String)>) -> Self {
        Self {
            run: run.to_owned(),
            name: name.to_owned(),
            facts,
            state: State::Running,
            log: Reader::new(run.join("log.jsonl")),
            slices: BTreeMap::new(),
        }
    }

    /// A training begins, or goes on; what the log said of it may have been cut.
    pub(crate) fn begin(&mut self) -> Result<(), TrainError> {
        self.log.restart();
        self.write()
    }

    /// Keeps the newest slice of a training.
    pub(crate) fn keep(&mut self, name: &str, slice: Slice) -> Result<(), TrainError> {
        let path = self.slice_path(name);
        let text = serde_json::to_vec(&slice).map_err(|e| TrainError::content(&path, e))?;
        atomic_write(&path, |file| file.write_all(&text))?;
        self.slices.insert(name.to_owned(), slice);
        Ok(())
    }

    /// The run has ended: `Ok` says whether all of it was done.
    pub(crate) fn end(&mut self, how: Result<bool, String>) -> Result<(), TrainError> {
        self.state = match how {
            Ok(true) => State::Finished,
            Ok(false) => State::Stopped,
            Err(error) => State::Failed(error),
        };
        self.write()
    }

    /// Writes the page as things are now.
    pub(crate) fn write(&mut self) -> Result<(), TrainError> {
        self.log.read()?;
        let mut page = Page::default();
        if self.state == State::Running {
            page.refresh(REFRESH);
        }
        summary::section(&mut page, self);
        // The newest first: it is what one wants to see.
        for history in self.log.trainings.iter().rev() {
            if !self.slices.contains_key(&history.name)
                && let Some(slice) = self.kept(&history.name)
            {
                self.slices.insert(history.name.clone(), slice);
            }
            training::section(&mut page, history, self.slices.get(&history.name), &self.state)?;
        }
        let html = page.finish(&format!("Training of {}", self.name));
        atomic_write(&self.run.join("report.html"), |file| file.write_all(html.as_bytes()))?;
        Ok(())
    }

    fn slice_path(&self, name: &str) -> PathBuf {
        self.run.join(format!("{name}.overlay.json"))
    }

    /// The slice of an earlier session, if there is a whole one.
    fn kept(&self, name: &str) -> Option<Slice> {
        let text = std::fs::read(self.slice_path(name)).ok()?;
        serde_json::from_slice(&text).ok().filter(Slice::is_whole)
    }
}
