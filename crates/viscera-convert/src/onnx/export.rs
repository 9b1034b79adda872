//! Writes a graph as an ONNX model of operator set 17.
//!
//! Each node of the graph becomes one ONNX node of its name or, where ONNX has no such operator, a few whose names begin
//! with it; its last value has its name. Parameters are initialisers of their names. Batch and space are open axes.

use super::DOMAIN;
use super::attention;
use super::net::Names;
use super::wire::Message;
use std::collections::{HashMap, HashSet};
use viscera_net::{Activation, Graph, Interpolation, Node, NodeId, Op, ParamId, PoolKind, Weights};

/// Version of the operator set that is written.
const OPSET: i64 = 17;
/// Version of the file format that goes with it.
const IR: i64 = 8;
/// Protocol buffers end here.
const MOST_BYTES: usize = i32::MAX as usize;

/// Data types of ONNX.
pub(super) const FLOAT: i64 = 1;
pub(super) const INT64: i64 = 7;

/// How a model is written.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExportOptions {
    /// The spatial size `[z, y, x]` that the model's input has; open axes where `None`, which most programs read and some
    /// run slower.
    pub spatial: Option<[usize; 3]>,
}

/// The pieces of a file, in order. The graph is apart so that it is not copied.
pub(super) struct Written {
    pub(super) head: Vec<u8>,
    pub(super) graph: Vec<u8>,
    pub(super) tail: Vec<u8>,
}

/// Writes a graph.
pub(super) fn write(graph: &Graph, weights: &Weights, options: ExportOptions) -> Result<Written, String> {
    let bytes = weights
        .values
        .iter()
        .map(|values| values.len())
        .fold(0usize, usize::saturating_add)
        .saturating_mul(4);
    if bytes >= MOST_BYTES {
        return Err(format!("would have {bytes} bytes of weights; one file holds 2 GiB"));
    }
    let mut export = Export {
        graph,
        weights,
        body: Message::new().text(2, &graph.name),
        names: Names::default(),
        values: Vec::new(),
        channels: channels(graph),
        written: HashMap::new(),
        functions: Vec::new(),
    };
    for node in &graph.nodes {
        let name = export.names.unique(&node.name);
        export.values.push(name);
    }
    let mut input = None;
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Op::Input { channels } = node.op {
            input = Some((i, channels));
            continue;
        }
        export
            .node(NodeId(i), node)
            .map_err(|reason| format!("node {}: {reason}", node.name))?;
    }
    let (at, channels) = input.ok_or("has no input")?;
    let extents = |fixed: bool, channels: usize| -> Vec<Message> {
        let open = |name: &str| Message::new().text(2, name);
        let known = |n: usize| Message::new().int(1, n as i64);
        let mut dims = vec![open("batch"), known(channels)];
        for (axis, name) in ["z", "y", "x"].into_iter().enumerate() {
            let size = options.spatial.and_then(|s| s.get(axis).copied()).filter(|_| fixed);
            dims.push(size.map_or_else(|| open(name), known));
        }
        dims
    };
    let value = |name: &str, dims: Vec<Message>| {
        let shape = dims.iter().fold(Message::new(), |m, dim| m.message(1, dim));
        let tensor = Message::new().int(1, FLOAT).message(2, &shape);
        Message::new()
            .text(1, name)
            .message(2, &Message::new().message(1, &tensor))
    };
    let own = export.values.get(at).cloned().unwrap_or_default();
    let body = std::mem::take(&mut export.body);
    export.body = body.message(11, &value(&own, extents(true, channels)));
    let mut given = HashSet::from([at]);
    for (i, id) in graph.outputs.iter().enumerate() {
        let mut name = export.value(*id)?.to_owned();
        // The input itself, or one node twice, needs another name.
        if !given.insert(id.0) {
            let copy = export.names.unique(&format!("{name}.output{i}"));
            export.emit(&copy, "Identity", &[&name], &[]);
            name = copy;
        }
        // Extents out are left open: they follow from those in.
        let open: Vec<Message> = (0..5).map(|a| Message::new().text(2, &format!("{name}_{a}"))).collect();
        let body = std::mem::take(&mut export.body);
        export.body = body.message(12, &value(&name, open));
    }
    let opset = |domain: &str, version: i64| Message::new().text(1, domain).int(2, version);
    let body = export.body.into_bytes();
    let mut head = Message::new()
        .int(1, IR)
        .text(2, "viscera")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(8, &opset("", OPSET));
    if !export.functions.is_empty() {
        head = head.message(8, &opset(DOMAIN, 1));
    }
    let tail = export
        .functions
        .iter()
        .fold(Message::new(), |m, (_, function)| m.message(25, function));
    let written = Written {
        head: head.head(7, body.len()).into_bytes(),
        graph: body,
        tail: tail.into_bytes(),
    };
    if written.graph.len().saturating_add(written.tail.len()) >= MOST_BYTES {
        return Err("would have more than 2 GiB, which one file cannot hold".to_owned());
    }
    Ok(written)
}

/// An attribute of a node.
#[derive(Debug, Clone)]
pub(super) enum Attribute {
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
    Tensor(Message),
}

/// A node's message.
pub(super) fn node_message(
    domain: &str,
    name: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: &[(&str, Attribute)],
) -> Message {
    let mut node = inputs.iter().fold(Message::new(), |m, input| m.text(1, input));
    node = outputs
        .iter()
        .fold(node, |m, output| m.text(2, output))
        .text(3, name)
        .text(4, op);
    for (name, value) in attributes {
        let attribute = Message::new().text(1, name);
        // Field 20 is the kind: float 1, int 2, string 3, tensor 4, ints 7.
        let attribute = match value {
            Attribute::Float(v) => attribute.float(2, *v).int(20, 1),
            Attribute::Int(v) => attribute.int(3, *v).int(20, 2),
            Attribute::Text(v) => attribute.text(4, v).int(20, 3),
            Attribute::Tensor(v) => attribute.message(5, v).int(20, 4),
            Attribute::Ints(v) => v.iter().fold(attribute, |m, &v| m.int(8, v)).int(20, 7),
        };
        node = node.message(5, &attribute);
    }
    if domain.is_empty() { node } else { node.text(7, domain) }
}

/// A tensor's message.
pub(super) fn tensor(name: &str, data_type: i64, dims: &[usize], raw: &[u8]) -> Message {
    let dims: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
    Message::new()
        .ints(1, &dims)
        .int(2, data_type)
        .text(8, name)
        .bytes(9, raw)
}

/// The bytes of integers.
pub(super) fn int_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The bytes of real numbers.
pub(super) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

struct Export<'g> {
    graph: &'g Graph,
    weights: &'g Weights,
    body: Message,
    names: Names,
    /// Name of each node's value.
    values: Vec<String>,
    /// Channels of each node's value.
    channels: Vec<usize>,
    /// Initialisers that are written, by parameter and shape.
    written: HashMap<(ParamId, Vec<usize>), String>,
    /// Functions with their names.
    functions: Vec<(String, Message)>,
}

impl Export<'_> {
    fn value(&self, id: NodeId) -> Result<&str, String> {
        let name = self.values.get(id.0).map(String::as_str);
        name.ok_or_else(|| format!("reads node {}, which is not there", id.0))
    }

    fn emit(&mut self, output: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) {
        let message = node_message("", output, op, inputs, &[output], attributes);
        self.body = std::mem::take(&mut self.body).message(1, &message);
    }

    /// A value between the ONNX nodes of one node of the graph.
    fn inner(&mut self, node: &str, part: &str) -> String {
        self.names.unique(&format!("{node}/{part}"))
    }

    /// Emits a node whose value has a name of its own, and gives that.
    fn step(&mut self, node: &str, part: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let name = self.inner(node, part);
        self.emit(&name, op, inputs, attributes);
        name
    }

    /// A constant of integers.
    fn ints(&mut self, node: &str, part: &str, values: &[i64]) -> String {
        let data = tensor("", INT64, &[values.len()], &int_bytes(values));
        self.step(node, part, "Constant", &[], &[("value", Attribute::Tensor(data))])
    }

    /// A constant of real numbers.
    fn floats(&mut self, node: &str, part: &str, dims: &[usize], values: &[f32]) -> String {
        let data = tensor("", FLOAT, dims, &float_bytes(values));
        self.step(node, part, "Constant", &[], &[("value", Attribute::Tensor(data))])
    }

    /// A parameter in its own shape.
    fn param(&mut self, id: ParamId) -> Result<String, String> {
        let param = self
            .graph
            .params
            .get(id.0)
            .ok_or("reads a parameter that is not there")?;
        self.param_as(id, param.shape.clone())
    }

    /// A vector of one value per channel, broadcast over voxels.
    fn over_voxels(&mut self, id: ParamId) -> Result<String, String> {
        let param = self
            .graph
            .params
            .get(id.0)
            .ok_or("reads a parameter that is not there")?;
        self.param_as(id, vec![param.len(), 1, 1, 1])
    }

    fn param_as(&mut self, id: ParamId, shape: Vec<usize>) -> Result<String, String> {
        let key = (id, shape);
        if let Some(name) = self.written.get(&key) {
            return Ok(name.clone());
        }
        let missing = || "reads a parameter that is not there".to_owned();
        let param = self.graph.params.get(id.0).ok_or_else(missing)?;
        let values = self.weights.values.get(id.0).ok_or_else(missing)?;
        let name = self.names.unique(&param.name);
        let dims: Vec<i64> = key.1.iter().map(|&d| d as i64).collect();
        let raw = float_bytes(values);
        let head = Message::new()
            .ints(1, &dims)
            .int(2, FLOAT)
            .text(8, &name)
            .head(9, raw.len())
            .into_bytes();
        self.body = std::mem::take(&mut self.body).two_parts(5, &head, &raw);
        self.written.insert(key, name.clone());
        Ok(name)
    }

    /// Scale and bias of a norm as its inputs: ones and zeros where it has none.
    fn pair(&mut self, node: &str, affine: &Option<(ParamId, ParamId)>, n: usize) -> Result<[String; 2], String> {
        Ok(match affine {
            Some((weight, bias)) => [self.param(*weight)?, self.param(*bias)?],
            None => [
                self.floats(node, "ones", &[n], &vec![1.0; n]),
                self.floats(node, "zeros", &[n], &vec![0.0; n]),
            ],
        })
    }

    fn node(&mut self, id: NodeId, node: &Node) -> Result<(), String> {
        let name = self.value(id)?.to_owned();
        let inputs = node
            .inputs
            .iter()
            .map(|&i| self.value(i).map(str::to_owned))
            .collect::<Result<Vec<_>, _>>()?;
        let all: Vec<&str> = inputs.iter().map(String::as_str).collect();
        let x = *all.first().ok_or("has no input")?;
        let int = |n: usize| Attribute::Int(n as i64);
        let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&v| v as i64).collect());
        let both = |padding: &[usize; 3]| ints(&[*padding, *padding].concat());
        match &node.op {
            Op::Input { .. } => {}
            Op::Conv(conv) => {
                let mut reads = vec![x.to_owned(), self.param(conv.weight)?];
                if let Some(bias) = conv.bias {
                    reads.push(self.param(bias)?);
                }
                let attributes = [
                    ("kernel_shape", ints(&conv.kernel)),
                    ("strides", ints(&conv.stride)),
                    ("pads", both(&conv.padding)),
                    ("dilations", ints(&conv.dilation)),
                    ("group", int(conv.groups)),
                ];
                self.emit(
                    &name,
                    "Conv",
                    &reads.iter().map(String::as_str).collect::<Vec<_>>(),
                    &attributes,
                );
            }
            Op::ConvTranspose {
                kernel, weight, bias, ..
            } => {
                let mut reads = vec![x.to_owned(), self.param(*weight)?];
                if let Some(bias) = bias {
                    reads.push(self.param(*bias)?);
                }
                let attributes = [("kernel_shape", ints(kernel)), ("strides", ints(kernel))];
                self.emit(
                    &name,
                    "ConvTranspose",
                    &reads.iter().map(String::as_str).collect::<Vec<_>>(),
                    &attributes,
                );
            }
            Op::InstanceNorm { eps, affine } => {
                let n = self.channels(id)?;
                let [scale, bias] = self.pair(&name, affine, n)?;
                self.emit(
                    &name,
                    "InstanceNormalization",
                    &[x, &scale, &bias],
                    &[("epsilon", Attribute::Float(*eps))],
                );
            }
            Op::BatchNorm {
                eps,
                mean,
                variance,
                affine,
            } => {
                let n = self.channels(id)?;
                let [scale, bias] = self.pair(&name, affine, n)?;
                let (mean, variance) = (self.param(*mean)?, self.param(*variance)?);
                let reads = [x, &scale, &bias, &mean, &variance];
                self.emit(
                    &name,
                    "BatchNormalization",
                    &reads,
                    &[("epsilon", Attribute::Float(*eps))],
                );
            }
            Op::GroupNorm { groups, eps, affine } => self.group_norm(&name, x, *groups, *eps, affine)?,
            Op::LayerNorm { eps, affine } => {
                let n = self.channels(id)?;
                let [scale, bias] = self.pair(&name, affine, n)?;
                let perm = |perm: &[i64]| [("perm", Attribute::Ints(perm.to_vec()))];
                let last = self.step(&name, "last", "Transpose", &[x], &perm(&[0, 2, 3, 4, 1]));
                let attributes = [("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(*eps))];
                let normed = self.step(
                    &name,
                    "norm",
                    "LayerNormalization",
                    &[&last, &scale, &bias],
                    &attributes,
                );
                self.emit(&name, "Transpose", &[&normed], &perm(&[0, 4, 1, 2, 3]));
            }
            Op::Affine { weight, bias } => {
                let mut value = x.to_owned();
                if let Some(weight) = weight {
                    let weight = self.over_voxels(*weight)?;
                    value = match bias {
                        Some(_) => self.step(&name, "scale", "Mul", &[&value, &weight], &[]),
                        None => {
                            self.emit(&name, "Mul", &[&value, &weight], &[]);
                            return Ok(());
                        }
                    };
                }
                match bias {
                    Some(bias) => {
                        let bias = self.over_voxels(*bias)?;
                        self.emit(&name, "Add", &[&value, &bias], &[]);
                    }
                    None => self.emit(&name, "Identity", &[&value], &[]),
                }
            }
            Op::Activation(activation) => self.activation(&name, x, *activation)?,
            Op::Softmax => self.emit(&name, "Softmax", &[x], &[("axis", Attribute::Int(1))]),
            Op::Dropout { p } => {
                let ratio = self.floats(&name, "ratio", &[], &[*p]);
                self.emit(&name, "Dropout", &[x, &ratio], &[]);
            }
            Op::DropPath { .. } => self.emit(&name, "Identity", &[x], &[]),
            Op::Add => self.emit(&name, if all.len() == 2 { "Add" } else { "Sum" }, &all, &[]),
            Op::Mul => {
                let mut value = x.to_owned();
                let rest = all.get(1..).unwrap_or(&[]);
                for (i, other) in rest.iter().enumerate() {
                    if i + 1 == rest.len() {
                        self.emit(&name, "Mul", &[&value, other], &[]);
                    } else {
                        value = self.step(&name, "product", "Mul", &[&value, other], &[]);
                    }
                }
                if rest.is_empty() {
                    self.emit(&name, "Identity", &[x], &[]);
                }
            }
            Op::Concat => self.emit(&name, "Concat", &all, &[("axis", Attribute::Int(1))]),
            Op::Pool {
                kind,
                kernel,
                stride,
                padding,
            } => {
                let op = match kind {
                    PoolKind::Max => "MaxPool",
                    PoolKind::Average => "AveragePool",
                };
                let attributes = [
                    ("kernel_shape", ints(kernel)),
                    ("strides", ints(stride)),
                    ("pads", both(padding)),
                ];
                self.emit(&name, op, &[x], &attributes);
            }
            Op::AxisMean { axes } => {
                let chosen = axes
                    .iter()
                    .zip(2i64..)
                    .filter(|(chosen, _)| **chosen)
                    .map(|(_, axis)| axis)
                    .collect();
                self.emit(
                    &name,
                    "ReduceMean",
                    &[x],
                    &[("axes", Attribute::Ints(chosen)), ("keepdims", Attribute::Int(1))],
                );
            }
            Op::ResizeLike { align_corners } => {
                let like = all.get(1).ok_or("has no second input")?;
                let range = |start, end| [("start", Attribute::Int(start)), ("end", Attribute::Int(end))];
                let front = self.step(&name, "front", "Shape", &[x], &range(0, 2));
                let space = self.step(&name, "space", "Shape", &[like], &range(2, 5));
                let sizes = self.step(
                    &name,
                    "sizes",
                    "Concat",
                    &[&front, &space],
                    &[("axis", Attribute::Int(0))],
                );
                self.emit(&name, "Resize", &[x, "", "", &sizes], &linear(*align_corners));
            }
            Op::Resize { factor, mode } => {
                let [z, y, x_factor] = factor.map(|f| f as f32);
                let scales = self.floats(&name, "scales", &[5], &[1.0, 1.0, z, y, x_factor]);
                let attributes = match mode {
                    Interpolation::Trilinear { align_corners } => linear(*align_corners).to_vec(),
                    Interpolation::Nearest => vec![
                        ("mode", Attribute::Text("nearest")),
                        ("coordinate_transformation_mode", Attribute::Text("asymmetric")),
                        ("nearest_mode", Attribute::Text("floor")),
                    ],
                };
                self.emit(&name, "Resize", &[x, "", &scales], &attributes);
            }
            Op::Pad { before, after } => {
                let side = |pads: &[isize; 3]| [0, 0].into_iter().chain(pads.map(|p| p as i64)).collect::<Vec<i64>>();
                let pads = self.ints(&name, "pads", &[side(before), side(after)].concat());
                self.emit(&name, "Pad", &[x, &pads], &[("mode", Attribute::Text("constant"))]);
            }
            Op::Channels { start, len } => {
                let start_at = self.ints(&name, "start", &[*start as i64]);
                let end = self.ints(&name, "end", &[(start + len) as i64]);
                let axis = self.ints(&name, "axis", &[1]);
                self.emit(&name, "Slice", &[x, &start_at, &end, &axis], &[]);
            }
            Op::WindowAttention(settings) => {
                let table = self.param(settings.bias)?;
                let function = attention::name(settings);
                if self.functions.iter().all(|(name, _)| *name != function) {
                    self.functions
                        .push((function.clone(), attention::function(&function, settings)));
                }
                let attributes = [
                    ("heads", int(settings.heads)),
                    ("window", ints(&settings.window)),
                    ("shift", ints(&settings.shift)),
                ];
                let message = node_message(DOMAIN, &name, &function, &[x, &table], &[&name], &attributes);
                self.body = std::mem::take(&mut self.body).message(1, &message);
            }
            other => return Err(format!("{} has no form in ONNX yet", other.name())),
        }
        Ok(())
    }

    /// Group norm is instance norm of (batch, group, rest): ONNX has it as an operator only later.
    fn group_norm(
        &mut self,
        name: &str,
        x: &str,
        groups: usize,
        eps: f32,
        affine: &Option<(ParamId, ParamId)>,
    ) -> Result<(), String> {
        let shape = self.ints(name, "groups", &[0, groups as i64, -1]);
        let grouped = self.step(name, "grouped", "Reshape", &[x, &shape], &[]);
        let [ones, zeros] = self.pair(name, &None, groups)?;
        let epsilon = [("epsilon", Attribute::Float(eps))];
        let normed = self.step(
            name,
            "norm",
            "InstanceNormalization",
            &[&grouped, &ones, &zeros],
            &epsilon,
        );
        let whole = self.step(name, "shape", "Shape", &[x], &[]);
        let Some((weight, bias)) = affine else {
            self.emit(name, "Reshape", &[&normed, &whole], &[]);
            return Ok(());
        };
        let plain = self.step(name, "plain", "Reshape", &[&normed, &whole], &[]);
        let (weight, bias) = (self.over_voxels(*weight)?, self.over_voxels(*bias)?);
        let scaled = self.step(name, "scale", "Mul", &[&plain, &weight], &[]);
        self.emit(name, "Add", &[&scaled, &bias], &[]);
        Ok(())
    }

    fn activation(&mut self, name: &str, x: &str, activation: Activation) -> Result<(), String> {
        match activation {
            Activation::LeakyRelu { slope: 0.0 } => self.emit(name, "Relu", &[x], &[]),
            Activation::LeakyRelu { slope } => {
                self.emit(name, "LeakyRelu", &[x], &[("alpha", Attribute::Float(slope))])
            }
            Activation::Sigmoid => self.emit(name, "Sigmoid", &[x], &[]),
            Activation::Tanh => self.emit(name, "Tanh", &[x], &[]),
            Activation::PRelu { slope } => {
                let slope = self.over_voxels(slope)?;
                self.emit(name, "PRelu", &[x, &slope], &[]);
            }
            Activation::Silu => {
                let gate = self.step(name, "gate", "Sigmoid", &[x], &[]);
                self.emit(name, "Mul", &[x, &gate], &[]);
            }
            Activation::Gelu => {
                let root = self.floats(name, "root", &[], &[std::f32::consts::SQRT_2]);
                let scaled = self.step(name, "scaled", "Div", &[x, &root], &[]);
                let erf = self.step(name, "erf", "Erf", &[&scaled], &[]);
                let one = self.floats(name, "one", &[], &[1.0]);
                let raised = self.step(name, "raised", "Add", &[&erf, &one], &[]);
                let product = self.step(name, "product", "Mul", &[x, &raised], &[]);
                let half = self.floats(name, "half", &[], &[0.5]);
                self.emit(name, "Mul", &[&product, &half], &[]);
            }
            _ => return Err("has an activation that has no form in ONNX yet".to_owned()),
        }
        Ok(())
    }

    /// Channels of a node's value.
    fn channels(&self, id: NodeId) -> Result<usize, String> {
        self.channels
            .get(id.0)
            .copied()
            .ok_or_else(|| "reads a node that is not there".to_owned())
    }
}

/// Channels of each node's value; they do not depend on the size of the input.
fn channels(graph: &Graph) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let mut inputs = node.inputs.iter().map(|id| found.get(id.0).copied().unwrap_or(0));
        found.push(match &node.op {
            Op::Input { channels } => *channels,
            Op::Conv(conv) => conv.out_channels,
            Op::ConvTranspose { out_channels, .. } => *out_channels,
            Op::Channels { len, .. } => *len,
            Op::Concat => inputs.sum(),
            Op::Mul => inputs.max().unwrap_or(0),
            Op::WindowAttention(_) => inputs.next().unwrap_or(0) / 3,
            _ => inputs.next().unwrap_or(0),
        });
    }
    found
}

fn linear(align_corners: bool) -> [(&'static str, Attribute); 2] {
    let transform = if align_corners { "align_corners" } else { "half_pixel" };
    [
        ("mode", Attribute::Text("linear")),
        ("coordinate_transformation_mode", Attribute::Text(transform)),
    ]
}
