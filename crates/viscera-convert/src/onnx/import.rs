//! Walks a model's nodes once, in their order, and makes a graph of them.

use super::array::{Array, Data, Int, Store};
use super::extent::{Dim, Extents};
use super::fold::{Folder, slice_shape};
use super::layout::{self, Axes, Shape, plain};
use super::net::Net;
use super::proto::{ModelProto, NodeProto, TensorProto};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use viscera_net::{Graph, Init, NodeId, Op, ParamId, ParamKind, Weights};

/// Versions of the operator set that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 11..=20;

/// What went wrong: in the model as a whole, or at one of its nodes.
#[derive(Debug)]
pub(super) enum Fault {
    Model(String),
    Node { op: String, node: String, reason: String },
}

impl From<String> for Fault {
    fn from(reason: String) -> Self {
        Self::Model(reason)
    }
}

/// A value that a model's node gives.
#[derive(Debug, Clone)]
pub(super) enum Value<'m> {
    /// An initialiser, decoded where it is used.
    Stored(&'m TensorProto<'m>),
    /// A folded constant.
    Constant(Rc<Array>),
    /// A node of the graph.
    View(View),
    /// Half of something that the graph has as one operation.
    Part(Part),
}

/// A node of the graph as an ONNX value sees it.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub(super) node: NodeId,
    pub(super) axes: Axes,
    /// Whether nothing else reads the node.
    pub(super) sole: bool,
}

/// Steps of formulas that exporters write out and the graph has as one operation.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// factor · erf(x / √2) + addend, of GELU.
    Erf { of: View, factor: f32, addend: f32 },
    /// factor · GELU(x).
    Gelu { of: View, factor: f32 },
    /// Mean over channels, of layer norm.
    Mean(View),
    /// x − mean.
    Centred(View),
    /// (x − mean)².
    Square(View),
    /// Variance over channels + eps.
    Variance(View, f32),
    /// Its root.
    Deviation(View, f32),
}

/// The state of an import.
pub(super) struct Import<'m> {
    values: HashMap<&'m str, Value<'m>>,
    /// How often each value is read.
    uses: HashMap<&'m str, usize>,
    pub(super) store: Store,
    pub(super) extents: Extents,
    pub(super) batch: Dim,
    pub(super) net: Net,
    pub(super) opset: i64,
    /// Norms and affine steps whose bias is still open: an addition may give it.
    pub(super) open_bias: HashSet<NodeId>,
    /// Convolutions that were matrix products, whose bias is a node of its own in ONNX.
    pub(super) linear: HashSet<NodeId>,
}

/// Makes a graph of a model. `bytes` is the size of its file, `folder` where that lies.
pub(super) fn run<'m>(
    model: &'m ModelProto<'m>,
    bytes: usize,
    folder: PathBuf,
) -> Result<(Graph, Weights, Option<[usize; 3]>), Fault> {
    let graph = model.graph.as_ref().ok_or_else(|| "has no graph".to_owned())?;
    let opset = model
        .opsets
        .iter()
        .find(|(domain, _)| matches!(*domain, "" | "ai.onnx"));
    let opset = opset
        .map(|&(_, version)| version)
        .ok_or_else(|| "names no operator set".to_owned())?;
    if !OPSETS.contains(&opset) {
        let (first, last) = (OPSETS.start(), OPSETS.end());
        return Err(Fault::Model(format!(
            "uses operator set {opset}; {first} to {last} are read: export it again with one of these"
        )));
    }
    if graph.sparse {
        return Err(Fault::Model("has sparse initialisers, which are not read".to_owned()));
    }
    let mut import = Import {
        values: HashMap::new(),
        uses: HashMap::new(),
        store: Store::new(folder, bytes),
        extents: Extents::default(),
        batch: Dim::Known(0),
        net: Net::default(),
        opset,
        open_bias: HashSet::new(),
        linear: HashSet::new(),
    };
    let mut makers = HashMap::new();
    for node in &graph.nodes {
        for &input in &node.inputs {
            *import.uses.entry(input).or_default() += 1;
        }
        for &output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if makers.insert(output, node).is_some() {
                return Err(Fault::Model(format!(
                    "has two nodes that give a value of the name '{output}'"
                )));
            }
        }
    }
    for output in &graph.outputs {
        *import.uses.entry(output.name).or_default() += 1;
    }
    for tensor in &graph.initializers {
        if import.values.insert(tensor.name, Value::Stored(tensor)).is_some() || makers.contains_key(tensor.name) {
            return Err(Fault::Model(format!("has two values of the name '{}'", tensor.name)));
        }
    }
    let fixed = import.input(graph)?;
    for node in &graph.nodes {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            if !import.values.contains_key(input) {
                let reason = match makers.get(input) {
                    Some(later) if later.outputs.first() == Some(input) => format!(
                        "reads '{input}', which comes only later from {} '{}': the graph has a cycle or is not in running order",
                        later.op,
                        label(later)
                    ),
                    Some(_) => format!("reads '{input}', a further output of a node, which is not covered"),
                    None => format!("reads '{input}', which no node gives and no initialiser holds"),
                };
                return Err(fault(node, reason));
            }
        }
        let outputs = import.node(node).map_err(|reason| fault(node, reason))?;
        for (&name, value) in node.outputs.iter().zip(outputs) {
            if name.is_empty() {
                continue;
            }
            if import.values.insert(name, value).is_some() {
                return Err(fault(node, format!("gives '{name}', a name that is taken")));
            }
        }
    }
    let mut outputs = Vec::new();
    for output in &graph.outputs {
        let Some(value) = import.values.get(output.name) else {
            return Err(Fault::Model(format!(
                "has the output '{}', which no node gives",
                output.name
            )));
        };
        match value {
            Value::View(view) if import.is_plain(view) => outputs.push(view.node),
            Value::View(_) => {
                let name = output.name;
                return Err(Fault::Model(format!(
                    "has the output '{name}', which is not in the order batch, channel, z, y, x"
                )));
            }
            _ => {
                let name = output.name;
                return Err(Fault::Model(format!(
                    "has the output '{name}', which does not depend on the image"
                )));
            }
        }
    }
    if outputs.is_empty() {
        return Err(Fault::Model("has no output".to_owned()));
    }
    let name = if graph.name.is_empty() { "onnx" } else { graph.name };
    let (graph, weights) = import.net.finish(name, &outputs);
    Ok((graph, weights, fixed))
}

fn fault(node: &NodeProto<'_>, reason: String) -> Fault {
    let op = match node.domain {
        "" | "ai.onnx" => node.op.to_owned(),
        domain => format!("{domain}.{}", node.op),
    };
    Fault::Node {
        op,
        node: label(node).to_owned(),
        reason,
    }
}

/// The node's name, or that of what it gives.
fn label<'m>(node: &NodeProto<'m>) -> &'m str {
    match (node.name, node.outputs.first()) {
        ("", Some(output)) => output,
        (name, _) => name,
    }
}

impl<'m> Import<'m> {
    /// The image: the one input that no initialiser fills. Gives its spatial size, where the model fixes it.
    fn input(&mut self, graph: &'m super::proto::GraphProto<'m>) -> Result<Option<[usize; 3]>, Fault> {
        let open: Vec<_> = graph
            .inputs
            .iter()
            .filter(|v| !self.values.contains_key(v.name))
            .collect();
        let [input] = open.as_slice() else {
            let names: Vec<&str> = open.iter().take(8).map(|v| v.name).collect();
            return Err(Fault::Model(format!(
                "has {} inputs without values ({}); networks of one image are read",
                open.len(),
                names.join(", ")
            )));
        };
        let dims = input.dims.as_deref().unwrap_or(&[None; 5]);
        let [batch, channels, space @ ..] = dims else {
            return Err(Fault::Model(format!(
                "has an image of {} axes; (batch, channel, z, y, x) is needed",
                dims.len()
            )));
        };
        let Ok(space) = <[Option<i64>; 3]>::try_from(space) else {
            return Err(Fault::Model(format!(
                "has an image of {} axes; (batch, channel, z, y, x) is needed",
                dims.len()
            )));
        };
        if let Some(&bad) = dims.iter().flatten().find(|&&d| d <= 0) {
            return Err(Fault::Model(format!("has an image with an axis of {bad}")));
        }
        let channels = match channels {
            Some(channels) => *channels,
            // Left open: the first convolution knows.
            None => self.channels_of_first(graph, input.name).ok_or_else(|| {
                "leaves the number of the image's channels open, and its first layer is no convolution".to_owned()
            })?,
        };
        let channels = usize::try_from(channels).map_err(|_| "has an impossible number of channels".to_owned())?;
        self.batch = self.extents.input(0, *batch);
        let mut axis = 1;
        let extent = space.map(|fixed| {
            axis += 1;
            self.extents.input(axis, fixed)
        });
        let shape = (channels, extent);
        let node = self
            .net
            .push("input", Op::Input { channels }, vec![], shape, &self.extents);
        let sole = self.uses.get(input.name) == Some(&1);
        let view = View {
            node,
            axes: plain(shape),
            sole,
        };
        if self.values.insert(input.name, Value::View(view)).is_some() {
            return Err(Fault::Model(format!("has two values of the name '{}'", input.name)));
        }
        let [Some(z), Some(y), Some(x)] = space.map(|d| d.and_then(|d| usize::try_from(d).ok())) else {
            return Ok(None);
        };
        Ok(Some([z, y, x]))
    }

    fn channels_of_first(&self, graph: &super::proto::GraphProto<'_>, image: &str) -> Option<i64> {
        let conv = graph
            .nodes
            .iter()
            .find(|node| node.op == "Conv" && node.inputs.first() == Some(&image))?;
        let Some(Value::Stored(weight)) = self.values.get(conv.inputs.get(1)?) else {
            return None;
        };
        weight
            .dims
            .get(1)?
            .checked_mul(conv.int("group").unwrap_or(1))
            .filter(|&c| c > 0)
    }

    /// Runs one node; gives its outputs.
    fn node(&mut self, node: &NodeProto<'m>) -> Result<Vec<Value<'m>>, String> {
        let all_constant = node.inputs.iter().all(|name| {
            name.is_empty() || matches!(self.values.get(name), Some(Value::Stored(_) | Value::Constant(_)))
        });
        if node.op == "Identity"
            && let Some(name) = node.inputs.first()
            && let Some(value @ (Value::Stored(_) | Value::Constant(_))) = self.values.get(name)
        {
            return Ok(vec![value.clone()]);
        }
        if all_constant && matches!(node.domain, "" | "ai.onnx") {
            let arrays = (0..node.inputs.len())
                .map(|i| self.optional(node, i))
                .collect::<Result<Vec<_>, _>>()?;
            let inputs: Vec<Option<&Array>> = arrays.iter().map(Option::as_deref).collect();
            let mut folder = Folder {
                store: &mut self.store,
                extents: &mut self.extents,
            };
            if let Some(found) = folder.fold(node, &inputs)? {
                return Ok(found.into_iter().map(|array| Value::Constant(Rc::new(array))).collect());
            }
            return Err("works on constants only, in a way that is not covered".to_owned());
        }
        self.operator(node)
    }

    /// Shape of a value that is not constant.
    pub(super) fn shape_of(&mut self, node: &NodeProto<'m>) -> Result<Array, String> {
        let view = self.view(node, 0)?;
        let dims = self.dims(&view)?;
        let of = Some(view.node);
        slice_shape(node, dims.into_iter().map(|dim| Int { dim, of }).collect())
    }

    /// Size of each axis of a view.
    pub(super) fn dims(&mut self, view: &View) -> Result<Vec<Dim>, String> {
        layout::dims(&view.axes, self.net.shape(view.node), self.batch, &mut self.extents)
    }

    fn value(&self, node: &NodeProto<'m>, index: usize) -> Result<&Value<'m>, String> {
        let name = node.inputs.get(index).filter(|name| !name.is_empty());
        name.and_then(|name| self.values.get(name))
            .ok_or_else(|| format!("has no input {index}"))
    }

    /// An input, whatever it is.
    pub(super) fn operand(&mut self, node: &NodeProto<'m>, index: usize) -> Result<Value<'m>, String> {
        match self.value(node, index)?.clone() {
            Value::Stored(tensor) => Ok(Value::Constant(Rc::new(self.store.read(tensor)?))),
            other => Ok(other),
        }
    }

    /// A constant input.
    pub(super) fn constant(&mut self, node: &NodeProto<'m>, index: usize) -> Result<Rc<Array>, String> {
        match self.operand(node, index)? {
            Value::Constant(array) => Ok(array),
            _ => Err(format!(
                "has an input {index} that is not constant, which is not covered"
            )),
        }
    }

    /// A constant input that may be left out.
    pub(super) fn optional(&mut self, node: &NodeProto<'m>, index: usize) -> Result<Option<Rc<Array>>, String> {
        match node.inputs.get(index) {
            None | Some(&"") => Ok(None),
            Some(_) => self.constant(node, index).map(Some),
        }
    }

    /// Whether an input comes from a Constant node or from folding: not learnt.
    pub(super) fn is_folded(&self, node: &NodeProto<'m>, index: usize) -> bool {
        matches!(self.value(node, index), Ok(Value::Constant(_)))
    }

    /// An input that is a node of the graph, in any layout.
    pub(super) fn view(&self, node: &NodeProto<'m>, index: usize) -> Result<View, String> {
        match self.value(node, index)? {
            Value::View(view) => Ok(view.clone()),
            Value::Part(_) => Err(format!(
                "reads input {index} amidst a formula that is not a known norm or GELU"
            )),
            _ => Err(format!("has a constant as input {index}, which is not covered")),
        }
    }

    /// An input in the order batch, channel, z, y, x.
    pub(super) fn plain(&self, node: &NodeProto<'m>, index: usize) -> Result<View, String> {
        let view = self.view(node, index)?;
        if self.is_plain(&view) {
            return Ok(view);
        }
        Err(format!(
            "reads input {index} in another order of axes than batch, channel, z, y, x"
        ))
    }

    pub(super) fn is_plain(&self, view: &View) -> bool {
        view.axes == plain(self.net.shape(view.node))
    }

    /// How often a value is read.
    pub(super) fn uses_of(&self, name: &str) -> usize {
        self.uses.get(name).copied().unwrap_or(0)
    }

    /// Whether an output has one reader.
    pub(super) fn sole(&self, node: &NodeProto<'m>) -> bool {
        node.outputs.first().is_some_and(|name| self.uses.get(name) == Some(&1))
    }

    /// Adds a node of the graph that gives this ONNX node's value in the layout (batch, channel, z, y, x).
    pub(super) fn push(
        &mut self,
        node: &NodeProto<'m>,
        op: Op,
        inputs: Vec<NodeId>,
        shape: Shape,
    ) -> Result<View, String> {
        self.push_as(node, op, inputs, shape, plain(shape))
    }

    /// The same in a given layout.
    pub(super) fn push_as(
        &mut self,
        node: &NodeProto<'m>,
        op: Op,
        inputs: Vec<NodeId>,
        shape: Shape,
        axes: Axes,
    ) -> Result<View, String> {
        let id = self.net.push(&clean(label(node)), op, inputs, shape, &self.extents);
        Ok(View {
            node: id,
            axes,
            sole: self.sole(node),
        })
    }

    /// Adds a pointwise node in its input's layout.
    pub(super) fn pointwise(&mut self, node: &NodeProto<'m>, op: Op, view: &View) -> Result<View, String> {
        let shape = self.net.shape(view.node);
        self.push_as(node, op, vec![view.node], shape, view.axes.clone())
    }

    /// Another layout of the same node.
    pub(super) fn relaid(&self, node: &NodeProto<'m>, view: &View, axes: Axes) -> View {
        View {
            node: view.node,
            axes,
            sole: view.sole && self.sole(node),
        }
    }

    /// Makes a parameter of a constant. `role` names it where the constant has no name.
    pub(super) fn param(
        &mut self,
        node: &NodeProto<'m>,
        array: &Rc<Array>,
        role: &str,
        shape: Vec<usize>,
        init: Init,
    ) -> Result<ParamId, String> {
        let values = array.floats().map_err(|reason| format!("{role} {reason}"))?;
        self.param_of(
            node,
            array.name.as_deref(),
            role,
            shape,
            values.to_vec(),
            init,
            ParamKind::Learnt,
        )
    }

    /// Makes a parameter of values, with their initialiser's name if they have one.
    pub(super) fn param_of(
        &mut self,
        node: &NodeProto<'m>,
        name: Option<&str>,
        role: &str,
        shape: Vec<usize>,
        values: Vec<f32>,
        init: Init,
        kind: ParamKind,
    ) -> Result<ParamId, String> {
        if super::array::count(&shape)? != values.len() {
            return Err(format!("has {} values for a {role} of shape {shape:?}", values.len()));
        }
        self.store.charge(values.len())?;
        let own = || format!("{}.{role}", clean(label(node)));
        let text = name.map_or_else(own, str::to_owned);
        Ok(self.net.param(&text, name.is_some(), shape, values, init, kind))
    }
}

/// A dotted name: PyTorch's exporter writes paths.
fn clean(name: &str) -> String {
    name.trim_matches('/').replace('/', ".")
}

/// A constant's values where it is one per channel or one for all along axes whose channels stand on one of them.
pub(super) enum Vector {
    /// One value.
    One(f32),
    /// One per channel.
    Channels(Vec<f32>),
}

impl Import<'_> {
    /// Reads a constant that is broadcast against a view as one value or one per channel.
    pub(super) fn vector(&self, array: &Array, view: &View) -> Result<Vector, String> {
        let values = match &array.data {
            Data::Floats(values) => values.clone(),
            Data::Ints(_) => array.numbers()?.iter().map(|&v| v as f32).collect(),
        };
        if let [one] = values.as_slice() {
            return Ok(Vector::One(*one));
        }
        let (channels, _) = self.net.shape(view.node);
        let whole = layout::channels(channels);
        let missing = view.axes.len().checked_sub(array.dims.len());
        let fits = missing.is_some_and(|missing| {
            let axes = view.axes.iter().skip(missing);
            array
                .dims
                .iter()
                .zip(axes)
                .all(|(&dim, axis)| dim == 1 || (dim == channels && *axis == whole))
        });
        if fits && values.len() == channels {
            return Ok(Vector::Channels(values));
        }
        Err(format!(
            "has a constant of shape {:?}; one value, or one per channel, is covered",
            array.dims
        ))
    }
}
