//! A graph that grows while a model is read.

use super::extent::{Dim, Extents};
use super::layout::Shape;
use std::collections::HashMap;
use viscera_net::{Activation, Graph, Init, Node, NodeId, Op, Param, ParamId, ParamKind, Weights};

/// Nodes, parameters and their values, with the shape of each node.
#[derive(Debug, Default)]
pub(super) struct Net {
    nodes: Vec<Node>,
    params: Vec<Param>,
    values: Vec<Vec<f32>>,
    shapes: Vec<Shape>,
    names: Names,
    param_names: Names,
    /// The parameter that an initialiser became in a shape.
    shared: HashMap<(String, Vec<usize>), ParamId>,
    /// The last node with these extents, as formulas and as numbers.
    by_extent: HashMap<[Dim; 3], NodeId>,
    by_number: HashMap<[Option<i64>; 3], NodeId>,
}

impl Net {
    /// Adds a node.
    pub(super) fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, shape: Shape, extents: &Extents) -> NodeId {
        let id = NodeId(self.nodes.len());
        let name = self.names.unique(name);
        self.nodes.push(Node { name, op, inputs });
        self.shapes.push(shape);
        self.by_extent.insert(shape.1, id);
        self.by_number.insert(shape.1.map(|dim| extents.value(dim)), id);
        id
    }

    /// Adds a parameter. Several uses of one initialiser, with the same shape and values, share it.
    pub(super) fn param(
        &mut self,
        name: &str,
        initialiser: bool,
        shape: Vec<usize>,
        values: Vec<f32>,
        init: Init,
        kind: ParamKind,
    ) -> ParamId {
        let key = (name.to_owned(), shape.clone());
        if initialiser
            && let Some(&id) = self.shared.get(&key)
            && self.values(id) == values
        {
            return id;
        }
        let id = ParamId(self.params.len());
        let name = self.param_names.unique(name);
        self.params.push(Param {
            name,
            shape,
            init,
            kind,
        });
        self.values.push(values);
        if initialiser {
            self.shared.insert(key, id);
        }
        id
    }

    /// Channels and extents of a node.
    pub(super) fn shape(&self, id: NodeId) -> Shape {
        self.shapes.get(id.0).copied().unwrap_or((0, [Dim::Known(0); 3]))
    }

    /// What a node computes, and of what.
    pub(super) fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id.0)
    }

    /// The same, to change it.
    pub(super) fn op_mut(&mut self, id: NodeId) -> Option<&mut Op> {
        self.nodes.get_mut(id.0).map(|node| &mut node.op)
    }

    /// Values of a parameter.
    pub(super) fn values(&self, id: ParamId) -> &[f32] {
        self.values.get(id.0).map_or(&[], Vec::as_slice)
    }

    /// The last node with these extents; or with these numbers, at the size that the file fixes.
    pub(super) fn with_extent(&self, extent: [Dim; 3], extents: &Extents) -> Option<NodeId> {
        let numbers = extent.map(|dim| extents.value(dim));
        let by_number = || {
            numbers
                .iter()
                .all(Option::is_some)
                .then(|| self.by_number.get(&numbers))
                .flatten()
        };
        self.by_extent.get(&extent).or_else(by_number).copied()
    }

    /// The graph of what the outputs need, and its weights.
    pub(super) fn finish(self, name: &str, outputs: &[NodeId]) -> (Graph, Weights) {
        let mut needed = vec![false; self.nodes.len()];
        for id in outputs {
            if let Some(flag) = needed.get_mut(id.0) {
                *flag = true;
            }
        }
        for (i, node) in self.nodes.iter().enumerate().rev() {
            // The input stays even where nothing reads it: a graph without one cannot be run.
            if i == 0 || needed.get(i) == Some(&true) {
                for input in &node.inputs {
                    if let Some(flag) = needed.get_mut(input.0) {
                        *flag = true;
                    }
                }
            }
        }
        let mut graph = Graph {
            name: name.to_owned(),
            nodes: Vec::new(),
            params: Vec::new(),
            outputs: Vec::new(),
        };
        let mut weights = Weights::default();
        let mut places = Vec::new();
        let mut moved: Vec<Option<ParamId>> = vec![None; self.params.len()];
        let mut params: Vec<_> = self.params.into_iter().zip(self.values).map(Some).collect();
        for (i, mut node) in self.nodes.into_iter().enumerate() {
            places.push(NodeId(graph.nodes.len()));
            if i > 0 && needed.get(i) != Some(&true) {
                continue;
            }
            for input in &mut node.inputs {
                *input = places.get(input.0).copied().unwrap_or(*input);
            }
            for id in params_mut(&mut node.op) {
                if let Some((param, values)) = params.get_mut(id.0).and_then(Option::take) {
                    if let Some(place) = moved.get_mut(id.0) {
                        *place = Some(ParamId(graph.params.len()));
                    }
                    graph.params.push(param);
                    weights.values.push(values.into());
                }
                *id = moved.get(id.0).copied().flatten().unwrap_or(*id);
            }
            graph.nodes.push(node);
        }
        graph.outputs = outputs.iter().filter_map(|id| places.get(id.0).copied()).collect();
        (graph, weights)
    }
}

/// The parameters of an operation, to renumber them.
fn params_mut(op: &mut Op) -> Vec<&mut ParamId> {
    fn both(affine: &mut Option<(ParamId, ParamId)>) -> Vec<&mut ParamId> {
        affine.iter_mut().flat_map(|(weight, bias)| [weight, bias]).collect()
    }
    match op {
        Op::Conv(conv) => [Some(&mut conv.weight), conv.bias.as_mut()]
            .into_iter()
            .flatten()
            .collect(),
        Op::ConvTranspose { weight, bias, .. } => [Some(weight), bias.as_mut()].into_iter().flatten().collect(),
        Op::InstanceNorm { affine, .. } | Op::GroupNorm { affine, .. } | Op::LayerNorm { affine, .. } => both(affine),
        Op::BatchNorm {
            mean, variance, affine, ..
        } => [mean, variance].into_iter().chain(both(affine)).collect(),
        Op::Affine { weight, bias } => [weight.as_mut(), bias.as_mut()].into_iter().flatten().collect(),
        Op::Activation(Activation::PRelu { slope }) => vec![slope],
        Op::WindowAttention(attention) => vec![&mut attention.bias],
        _ => Vec::new(),
    }
}

/// Names, each given once.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, usize>);

impl Names {
    /// The name, with a number behind it where it is taken.
    pub(super) fn unique(&mut self, name: &str) -> String {
        let mut found = name.to_owned();
        while let Some(count) = self.0.get_mut(&found) {
            *count += 1;
            found = format!("{name}_{count}");
        }
        self.0.insert(found.clone(), 0);
        found
    }
}
