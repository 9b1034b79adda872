//! The networks of a model: graphs and weights of its stages.

use crate::PipelineError;
use crate::recipe::{NetworkSpec, Stage};
use viscera_image::LabelTable;
use viscera_net::{Graph, NetError, Weights};

/// What a model needs for one stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageWeights {
    /// The graph, where the recipe says that it lies in the model.
    pub graph: Option<Graph>,
    /// Weights of each fold that the recipe names; of the one network where it names none.
    pub folds: Vec<Weights>,
}

impl From<Weights> for StageWeights {
    fn from(weights: Weights) -> Self {
        Self {
            graph: None,
            folds: vec![weights],
        }
    }
}

/// One stage's network.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// What it computes: from channels of image to channels of logits.
    pub graph: &'a Graph,
    /// Its weights: one, or those of an ensemble in the order of `inference.folds`.
    pub folds: &'a [Weights],
}

/// Graph and weights of a stage.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) graph: Graph,
    pub(super) folds: Vec<Weights>,
}

impl Owned {
    pub(super) fn new(
        model: &str,
        stage: &Stage,
        labels: &LabelTable,
        weights: StageWeights,
    ) -> Result<Self, PipelineError> {
        let graph = graph(model, stage, labels, weights.graph.as_ref())?;
        let expected = stage.inference.folds.len().max(1);
        if weights.folds.len() != expected {
            return Err(PipelineError::Model {
                model: model.to_owned(),
                reason: format!(
                    "stage \"{}\" has weights of {} networks instead of {expected}",
                    stage.id,
                    weights.folds.len()
                ),
            });
        }
        for fold in &weights.folds {
            fold.check(&graph).map_err(|source| PipelineError::Weights {
                model: model.to_owned(),
                source,
            })?;
        }
        Ok(Self {
            graph,
            folds: weights.folds,
        })
    }
}

/// The graph of a stage: the stored one where the recipe says so, else the one that the recipe describes. What is stored
/// is checked: it comes from outside.
pub(super) fn graph(
    model: &str,
    stage: &Stage,
    labels: &LabelTable,
    stored: Option<&Graph>,
) -> Result<Graph, PipelineError> {
    let broken = |source| PipelineError::Weights {
        model: model.to_owned(),
        source,
    };
    let classes = stage.table(labels)?.entries().len();
    let channels = (stage.normalise.channels(), stage.inference.channels(classes));
    match (&stage.network, stored) {
        (NetworkSpec::Graph {}, Some(stored)) => {
            check(stored, stage.network_size(), channels).map_err(broken)?;
            Ok(stored.clone())
        }
        (NetworkSpec::Graph {}, None) => Err(PipelineError::Model {
            model: model.to_owned(),
            reason: format!("the graph of stage \"{}\" is missing", stage.id),
        }),
        (spec, _) => spec.graph(channels.0, channels.1).map_err(broken),
    }
}

/// Checks that a graph from outside can be run on an input of `size`, and has the right channels in and out.
fn check(graph: &Graph, size: [usize; 3], (inputs, outputs): (usize, usize)) -> Result<(), NetError> {
    graph.check()?;
    let shapes = graph.shapes(size)?;
    let wrong = |what: &str, found: usize, expected: usize| NetError::Settings {
        network: "graph",
        reason: format!("{found} channels {what}, the recipe needs {expected}"),
    };
    let found = graph.input_channels();
    if found != inputs {
        return Err(wrong("in", found, inputs));
    }
    // The finest head; others may have any channels.
    let finest = graph.outputs.first().and_then(|o| shapes.nodes.get(o.0));
    let found = finest.map_or(0, |s| s.0);
    if found != outputs {
        return Err(wrong("out", found, outputs));
    }
    Ok(())
}

/// A stored graph.
pub(super) fn read_graph(text: &str) -> Result<Graph, serde_json::Error> {
    serde_json::from_str(text)
}

/// What stands before the names of a stage's parameters, network by network.
pub(super) fn fold_prefix(stage: &Stage) -> impl Iterator<Item = String> {
    let folds = &stage.inference.folds;
    let single = folds.is_empty().then(|| format!("{}/", stage.id));
    single
        .into_iter()
        .chain(folds.iter().map(|fold| format!("{}/fold_{fold}/", stage.id)))
}
