//! The state of a run in a file: all that a run which goes on from it needs to equal one that never stopped.
//!
//! The file is safetensors, f32: `weights/NAME`, and while training `first/NAME`, `second/NAME`, `greatest/NAME` (moments) and
//! `average/NAME`. `__metadata__` holds the rest as JSON. Random numbers need no state: sample k and the dropout of step
//! n are functions of the seed and their numbers.

use crate::{Optimizer, TrainError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use viscera_io::atomic_write;
use viscera_net::{Graph, Storage, Values, WeightFile, Weights};

const KEY: &str = "viscera.checkpoint";

/// Where a run is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Optimiser steps made.
    pub(crate) step: u64,
    /// Seconds spent.
    pub(crate) seconds: f64,
    /// Best mean Dice so far and the step that reached it.
    pub(crate) best: Option<(f64, u64)>,
    /// Whether the run came to its end.
    pub(crate) finished: bool,
    /// Stage, settings and seed, to tell a run from another.
    pub(crate) settings: String,
}

/// A run between two steps.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    pub(crate) counters: Counters,
    pub(crate) weights: Weights,
    pub(crate) optimizer: Optimizer,
    /// Moving average of the weights.
    pub(crate) average: Option<Weights>,
}

impl State {
    /// Writes the state; an older file stays whole until the new one is.
    pub(crate) fn save(&self, graph: &Graph, path: &Path) -> Result<(), TrainError> {
        let moments = |values: &[Vec<f32>]| Weights {
            values: values.iter().cloned().map(Values::from).collect(),
        };
        let mut tensors = self.weights.to_tensors(graph, "weights/", Storage::F32);
        tensors.extend(moments(&self.optimizer.first).to_tensors(graph, "first/", Storage::F32));
        if self.optimizer.has_second() {
            tensors.extend(moments(&self.optimizer.second).to_tensors(graph, "second/", Storage::F32));
        }
        if self.optimizer.has_greatest() {
            tensors.extend(moments(&self.optimizer.greatest).to_tensors(graph, "greatest/", Storage::F32));
        }
        if let Some(average) = &self.average {
            tensors.extend(average.to_tensors(graph, "average/", Storage::F32));
        }
        write(tensors, &self.counters, path)
    }

    /// Reads a state into a fresh one, whose optimiser and average say what there must be.
    pub(crate) fn load(mut self, graph: &Graph, path: &Path) -> Result<Self, TrainError> {
        let file = open(path)?;
        let counters = counters(&file, path)?;
        if counters.settings != self.counters.settings {
            return Err(TrainError::content(path, "belongs to a run with other settings"));
        }
        let read = |prefix| file.weights(graph, prefix).map_err(|e| TrainError::content(path, e));
        let moments = |weights: Weights| weights.values.iter().map(|v| v.to_vec()).collect();
        self.weights = read("weights/")?;
        self.optimizer.first = moments(read("first/")?);
        if self.optimizer.has_second() {
            self.optimizer.second = moments(read("second/")?);
        }
        if self.optimizer.has_greatest() {
            self.optimizer.greatest = moments(read("greatest/")?);
        }
        if self.average.is_some() {
            self.average = Some(read("average/")?);
        }
        self.optimizer.steps = counters.step;
        self.counters = counters;
        Ok(self)
    }
}

/// Writes weights alone, with the counters at which they were.
pub(crate) fn save_weights(
    weights: &Weights,
    counters: &Counters,
    graph: &Graph,
    path: &Path,
) -> Result<(), TrainError> {
    write(weights.to_tensors(graph, "weights/", Storage::F32), counters, path)
}

/// Reads the weights of any checkpoint.
pub(crate) fn load_weights(graph: &Graph, path: &Path) -> Result<(Weights, Counters), TrainError> {
    let file = open(path)?;
    let weights = file
        .weights(graph, "weights/")
        .map_err(|e| TrainError::content(path, e))?;
    Ok((weights, counters(&file, path)?))
}

/// Read whole: the next checkpoint may be written while the weights of this one are in use.
fn open(path: &Path) -> Result<WeightFile, TrainError> {
    let bytes = std::fs::read(path).map_err(TrainError::file(path))?;
    WeightFile::new(Arc::new(bytes)).map_err(|e| TrainError::content(path, e))
}

fn counters(file: &WeightFile, path: &Path) -> Result<Counters, TrainError> {
    let wrong = |e: String| TrainError::content(path, e);
    let text = file.entry(KEY).ok_or_else(|| wrong("is no checkpoint".to_owned()))?;
    serde_json::from_str(text).map_err(|e| wrong(e.to_string()))
}

fn write(
    tensors: Vec<(String, viscera_net::StoredTensor)>,
    counters: &Counters,
    path: &Path,
) -> Result<(), TrainError> {
    let text = serde_json::to_string(counters).map_err(|e| TrainError::content(path, e))?;
    let metadata = HashMap::from([(KEY.to_owned(), text)]);
    let bytes = safetensors::serialize(tensors, Some(metadata)).map_err(|e| TrainError::content(path, e))?;
    atomic_write(path, |file| file.write_all(&bytes))?;
    Ok(())
}
