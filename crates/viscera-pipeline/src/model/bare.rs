//! Models that are a network alone.

use super::{Model, StageWeights};
use crate::recipe::{
    Activation, ChannelRule, FixedSize, Header, Inference, Modality, NetworkSpec, Normalise, Orient, Resample, Role,
    Stage, StageClasses,
};
use crate::{PipelineError, Recipe};
use std::collections::BTreeMap;
use viscera_image::{Convention, LabelEntry, LabelTable};
use viscera_io::class_colour;
use viscera_net::{Graph, Weights};

/// Id of the only stage.
const STAGE: &str = "network";

impl Model {
    /// A model of a graph of which nobody has said how a scan reaches it: one stage with role `bare`, and classes without
    /// names. `size` is an input `[z, y, x]` that suits the graph. It can be run, counted, shown and exported; scans
    /// cannot be segmented by it.
    ///
    /// # Errors
    /// As [`Model::new`]; [`PipelineError::Model`] when the graph has more than 256 channels of logits.
    pub fn bare(name: &str, graph: Graph, weights: Weights, size: [usize; 3]) -> Result<Self, PipelineError> {
        let broken = |source| PipelineError::Weights {
            model: name.to_owned(),
            source,
        };
        graph.check().map_err(broken)?;
        let shapes = graph.shapes(size).map_err(broken)?;
        let finest = graph.outputs.first().and_then(|o| shapes.nodes.get(o.0));
        let channels = finest.map_or(0, |s| s.0);
        // One channel alone has no rival: its class is there or not.
        let (activation, threshold, classes) = match channels {
            1 => (Activation::Sigmoid, Some(0.5), 1),
            n => (Activation::Softmax, None, n.saturating_sub(1)),
        };
        let classes = u8::try_from(classes).map_err(|_| PipelineError::Model {
            model: name.to_owned(),
            reason: format!("has {channels} channels of logits; label maps have at most 256 classes"),
        })?;
        let entry = |id: u8| {
            let name = format!("class_{id}");
            let rgb = class_colour(&name, id);
            LabelEntry { id, name, rgb }
        };
        let table = LabelTable::new("classes", (1..=classes).map(entry).collect())?;
        let stage = Stage {
            id: STAGE.to_owned(),
            role: Role::Bare,
            classes: StageClasses::All,
            orient: Orient::default(),
            axes: [0, 1, 2],
            roi: None,
            crop: None,
            resample: Resample::Size(FixedSize {
                size,
                convention: Convention::HalfPixel,
            }),
            normalise: Normalise::Channels(vec![ChannelRule::None; graph.input_channels()]),
            network: NetworkSpec::Graph {},
            inference: Inference::new(activation, threshold, None),
            postprocess: Vec::new(),
        };
        let recipe = Recipe {
            recipe: Header {
                name: name.to_owned(),
                labels: table.name().to_owned(),
                modality: Modality::Other,
                reference: String::new(),
            },
            stages: vec![stage],
            training: BTreeMap::new(),
            phases: Vec::new(),
        };
        recipe.validate(&table)?;
        let weights = StageWeights {
            graph: Some(graph),
            folds: vec![weights],
        };
        let weights = BTreeMap::from([(STAGE.to_owned(), weights)]);
        Self::new(name, recipe, table, weights, "", serde_json::Value::Null)
    }

    /// A recipe with fresh weights; the same seed gives the same ones. Stages count their seeds upwards from it, and so
    /// do the folds of a stage from the stage's.
    ///
    /// # Errors
    /// [`PipelineError::Model`] when a network cannot be built from the recipe alone, or would be too large.
    pub fn fresh(name: &str, recipe: Recipe, labels: LabelTable, seed: u64) -> Result<Self, PipelineError> {
        let mut weights = BTreeMap::new();
        let mut seed = seed;
        for stage in &recipe.stages {
            let graph = super::networks::graph(name, stage, &labels, None)?;
            let mut folds = Vec::new();
            for _ in 0..stage.inference.folds.len().max(1) {
                folds.push(fresh(name, &graph, seed)?);
                seed = seed.wrapping_add(1);
            }
            weights.insert(stage.id.clone(), StageWeights { graph: None, folds });
        }
        Self::new(name, recipe, labels, weights, "", serde_json::Value::Null)
    }
}

/// Most values of a fresh network: 4 GiB.
const MAX_VALUES: usize = 1 << 30;

/// Fresh weights, unless there would be absurdly many.
///
/// # Errors
/// [`PipelineError::Model`] with the number.
pub fn fresh(name: &str, graph: &Graph, seed: u64) -> Result<Weights, PipelineError> {
    let mut lens = graph
        .params
        .iter()
        .map(|p| p.shape.iter().try_fold(1usize, |n, &s| n.checked_mul(s)));
    let values = lens.try_fold(0usize, |sum, len| sum.checked_add(len?));
    match values {
        Some(0..=MAX_VALUES) => Ok(Weights::init(graph, seed)),
        _ => Err(PipelineError::Model {
            model: name.to_owned(),
            reason: format!("its network would have more than {MAX_VALUES} values"),
        }),
    }
}
