//! A trained method in one file: recipe, classes, networks, weights of all stages, and a model card.
//!
//! The file is safetensors. Weights of stage `ID` are named `ID/parameter`, those of an ensemble `ID/fold_NAME/parameter`.
//! `__metadata__` holds `viscera.format` ("1"), `viscera.recipe` and `viscera.labels` (TOML), `viscera.graph.ID` (JSON) for
//! each network that the recipe does not describe, `viscera.card` (Markdown), `viscera.training` (JSON: facts of the
//! training, free in form) and `viscera.sha256`: the SHA-256 of the file in which zeros stand for these 64 digits.

mod bare;
mod file;
mod networks;
mod run;
mod search;
mod verify;

pub use bare::fresh;
pub use networks::{Network, StageWeights};
pub use search::ModelStore;
pub use verify::Verified;

use crate::recipe::NetworkSpec;
use crate::{PipelineError, Recipe};
use file::Source;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use viscera_image::LabelTable;
use viscera_net::Storage;

/// A trained method.
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    recipe: Recipe,
    labels: LabelTable,
    networks: Vec<networks::Owned>,
    card: String,
    training: serde_json::Value,
    /// Where it was read from.
    source: Option<Source>,
    hash: OnceLock<String>,
}

impl Model {
    /// Joins a recipe with the weights of its stages, by their ids. `card` is Markdown, `training` any JSON.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when a stage has no weights, or not those of all its folds; [`PipelineError::Weights`] when
    /// they do not fit its network, or the network does not hold together.
    pub fn new<W: Into<StageWeights>>(
        name: impl Into<String>,
        recipe: Recipe,
        labels: LabelTable,
        mut weights: BTreeMap<String, W>,
        card: impl Into<String>,
        training: serde_json::Value,
    ) -> Result<Self, PipelineError> {
        let name = name.into();
        let mut networks = Vec::new();
        for stage in &recipe.stages {
            let found = weights.remove(&stage.id).ok_or_else(|| PipelineError::Model {
                model: name.clone(),
                reason: format!("there are no weights for stage \"{}\"", stage.id),
            })?;
            networks.push(networks::Owned::new(&name, stage, &labels, found.into())?);
        }
        Ok(Self {
            name,
            recipe,
            labels,
            networks,
            card: card.into(),
            training,
            source: None,
            hash: OnceLock::new(),
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
        self.source = None;
        self.hash = OnceLock::new();
        self
    }

    /// The model's networks under another recipe: other clean-up, windows or regions, not other networks or classes.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when a stage of the recipe has no weights, or not those of all its folds, or the model has
    /// stages that the recipe does not name; [`PipelineError::Weights`] when they do not fit the recipe's network;
    /// [`PipelineError::Recipe`] when the recipe does not go with the model's classes.
    pub fn with_recipe(self, recipe: Recipe) -> Result<Self, PipelineError> {
        recipe.validate(&self.labels)?;
        let mut weights = BTreeMap::new();
        for (stage, network) in self.recipe.stages.iter().zip(self.networks) {
            if recipe.stage(&stage.id).is_none() {
                return Err(PipelineError::Model {
                    model: self.name,
                    reason: format!("the other recipe has no stage \"{}\"", stage.id),
                });
            }
            let graph = matches!(stage.network, NetworkSpec::Graph {}).then_some(network.graph);
            let folds = network.folds;
            weights.insert(stage.id.clone(), StageWeights { graph, folds });
        }
        Self::new(self.name, recipe, self.labels, weights, self.card, self.training)
    }

    /// The storage that loses nothing: two bytes where they hold every weight, as in a model that was stored so.
    #[must_use]
    pub fn exact_storage(&self) -> Storage {
        let values = self.networks.iter().flat_map(|n| &n.folds).flat_map(|w| &w.values);
        // The upper half of an f32 is a bf16.
        let rounded = |value: &f32| value.to_bits() & 0xffff == 0;
        match values.into_iter().all(|array| array.iter().all(rounded)) {
            true => Storage::Bf16,
            false => Storage::F32,
        }
    }

    /// Facts of its training, free in form.
    #[must_use]
    pub fn training(&self) -> &serde_json::Value {
        &self.training
    }

    /// SHA-256 of the file it was read from; `None` for one that was never in a file. Computed when first asked for.
    #[must_use]
    pub fn hash(&self) -> Option<&str> {
        let source = self.source.as_ref()?;
        Some(self.hash.get_or_init(|| crate::hash::sha256_hex(source)))
    }

    /// The networks in running order.
    pub fn networks(&self) -> impl Iterator<Item = Network<'_>> {
        self.recipe
            .stages
            .iter()
            .zip(&self.networks)
            .map(|(stage, owned)| Network {
                stage,
                graph: &owned.graph,
                folds: &owned.folds,
            })
    }
}
