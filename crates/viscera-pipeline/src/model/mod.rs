//! A trained method in one file: recipe, classes, weights of all stages, and a model card.
//!
//! The file is safetensors. Weights of stage `ID` are named `ID/parameter`. `__metadata__` holds `viscera.format` ("1"),
//! `viscera.recipe` and `viscera.labels` (TOML), `viscera.card` (Markdown) and `viscera.training` (JSON: facts of the
//! training, free in form).

mod file;
mod search;

pub use search::ModelStore;

use crate::recipe::Stage;
use crate::{PipelineError, Recipe};
use std::collections::BTreeMap;
use viscera_image::LabelTable;
use viscera_net::{Graph, Weights};

/// A trained method.
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    recipe: Recipe,
    labels: LabelTable,
    weights: Vec<Weights>,
    card: String,
    training: serde_json::Value,
    hash: Option<String>,
}

impl Model {
    /// Joins a recipe with the weights of its stages, by their ids. `card` is Markdown, `training` any JSON.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when a stage has no weights; [`PipelineError::Weights`] when they do not fit its network.
    pub fn new(
        name: impl Into<String>,
        recipe: Recipe,
        labels: LabelTable,
        mut weights: BTreeMap<String, Weights>,
        card: impl Into<String>,
        training: serde_json::Value,
    ) -> Result<Self, PipelineError> {
        let name = name.into();
        let mut ordered = Vec::new();
        for stage in &recipe.stages {
            let found = weights.remove(&stage.id).ok_or_else(|| PipelineError::Model {
                model: name.clone(),
                reason: format!("there are no weights for stage \"{}\"", stage.id),
            })?;
            found
                .check(&graph(stage, &labels))
                .map_err(|source| PipelineError::Weights {
                    model: name.clone(),
                    source,
                })?;
            ordered.push(found);
        }
        Ok(Self {
            name,
            recipe,
            labels,
            weights: ordered,
            card: card.into(),
            training,
            hash: None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its recipe.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Its classes: one channel each, in this order.
    #[must_use]
    pub fn labels(&self) -> &LabelTable {
        &self.labels
    }

    /// Its model card, Markdown.
    #[must_use]
    pub fn card(&self) -> &str {
        &self.card
    }

    /// The model with another card.
    #[must_use]
    pub fn with_card(mut self, card: impl Into<String>) -> Self {
        self.card = card.into();
        self.hash = None;
        self
    }

    /// Facts of its training, free in form.
    #[must_use]
    pub fn training(&self) -> &serde_json::Value {
        &self.training
    }

    /// SHA-256 of the file it was read from; `None` for one that was never in a file.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        self.hash.as_deref()
    }

    /// The stages with their weights, in running order.
    pub fn stages(&self) -> impl Iterator<Item = (&Stage, &Weights)> {
        self.recipe.stages.iter().zip(&self.weights)
    }

    /// The network of a stage: one channel of image in, one per class out.
    #[must_use]
    pub fn graph(&self, stage: &Stage) -> Graph {
        graph(stage, &self.labels)
    }
}

fn graph(stage: &Stage, labels: &LabelTable) -> Graph {
    stage.network.graph(1, labels.entries().len())
}
