//! From a graph to steps: which nodes run as one, who reads what, how wide each halo must be, what happens in place, and
//! how much memory it takes.

use crate::kernels::conv::{TapPass, Window, halo_needed};
use crate::kernels::scope::Scope;
use crate::layout::{Dims, LANES};
use viscera_net::{Activation, Conv, Graph, Interpolation, NetError, NodeId, Op, ParamId, PoolKind, WindowAttention};

/// A group of nodes that one kernel runs. Its value is that of its last node.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) kind: Kind,
    /// The first of its nodes.
    pub(crate) first: NodeId,
    /// Values that it reads.
    pub(crate) inputs: Vec<NodeId>,
    /// The value that it makes.
    pub(crate) output: NodeId,
}

/// What a step computes.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Input,
    Conv(Conv),
    ConvTranspose {
        kernel: [usize; 3],
        weight: ParamId,
        bias: Option<ParamId>,
    },
    /// A norm over voxels, or scale and shift alone, then dropout, then an activation; the last two where they follow and
    /// nobody else reads between.
    Norm {
        moments: Moments,
        eps: f32,
        /// Weight and bias.
        affine: [Option<ParamId>; 2],
        /// The dropout's node and probability.
        dropout: Option<(NodeId, f32)>,
        /// Of a leaky ReLU.
        slope: Option<f32>,
        /// An activation that is none.
        then: Option<Activation>,
    },
    LayerNorm {
        eps: f32,
        affine: Option<(ParamId, ParamId)>,
    },
    Softmax,
    /// Sum, then leaky ReLU where it follows; with one input, the activation alone.
    Add {
        slope: Option<f32>,
    },
    Activation(Activation),
    /// Of channels, or of whole samples.
    Dropout {
        p: f32,
        samples: bool,
    },
    Mul,
    Concat,
    Channels {
        start: usize,
    },
    Pad {
        before: [isize; 3],
    },
    Pool {
        kind: PoolKind,
        window: Window,
    },
    AxisMean {
        axes: [bool; 3],
    },
    Resize(Interpolation),
    WindowAttention(WindowAttention),
}

/// Where a norm's mean and variance come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Moments {
    /// The values.
    Of(Scope),
    /// The batch while training, otherwise these parameters.
    Running { mean: ParamId, variance: ParamId },
    /// Nowhere: 0 and 1.
    None,
}

impl Kind {
    /// What it is called in tables of times.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Conv(_) => "conv",
            Self::ConvTranspose { .. } => "conv_transpose",
            Self::Norm { .. } => "norm",
            Self::LayerNorm { .. } => "layer_norm",
            Self::Softmax => "softmax",
            Self::Add { .. } => "add",
            Self::Activation(_) => "activation",
            Self::Dropout { .. } => "dropout",
            Self::Mul => "mul",
            Self::Concat => "concat",
            Self::Channels { .. } => "channels",
            Self::Pad { .. } => "pad",
            Self::Pool { .. } => "pool",
            Self::AxisMean { .. } => "axis_mean",
            Self::Resize(_) => "resize",
            Self::WindowAttention(_) => "window_attention",
        }
    }
}

/// The window of a convolution.
pub(crate) fn window(conv: &Conv) -> Window {
    Window {
        kernel: conv.kernel,
        stride: conv.stride,
        padding: conv.padding,
        dilation: conv.dilation,
    }
}

impl Moments {
    /// Over what the values' moments are taken; `None` where they are not.
    pub(crate) fn scope(self, training: bool) -> Option<Scope> {
        match self {
            Self::Of(scope) => Some(scope),
            Self::Running { .. } => training.then_some(Scope::Batch),
            Self::None => None,
        }
    }
}

/// Groups nodes into steps.
///
/// # Errors
/// [`NetError::Unsupported`] for an operation that the engine does not know.
pub(crate) fn steps(graph: &Graph) -> Result<Vec<Step>, NetError> {
    let mut readers = vec![0usize; graph.nodes.len()];
    for id in graph.nodes.iter().flat_map(|n| &n.inputs).chain(&graph.outputs) {
        readers[id.0] += 1;
    }
    let slope_of = |op: &Op| match op {
        Op::Activation(Activation::LeakyRelu { slope }) if *slope >= 0.0 => Some(*slope),
        _ => None,
    };
    // The only reader of a node, if it has one and is no output.
    let follower = |id: usize| -> Option<usize> {
        (readers[id] == 1).then_some(())?;
        graph.nodes.iter().position(|n| n.inputs.contains(&NodeId(id)))
    };
    let mut fused = vec![false; graph.nodes.len()];
    let mut steps = Vec::new();
    for (id, node) in graph.nodes.iter().enumerate() {
        if fused[id] {
            continue;
        }
        let mut last = id;
        let kind = match &node.op {
            Op::Input { .. } => Kind::Input,
            Op::Conv(conv) => Kind::Conv(conv.clone()),
            Op::ConvTranspose {
                kernel, weight, bias, ..
            } => Kind::ConvTranspose {
                kernel: *kernel,
                weight: *weight,
                bias: *bias,
            },
            Op::InstanceNorm { .. } | Op::BatchNorm { .. } | Op::GroupNorm { .. } | Op::Affine { .. } => {
                let (mut dropout, mut slope, mut then) = (None, None, None);
                if let Some(next) = follower(last)
                    && let Op::Dropout { p } = graph.nodes[next].op
                {
                    dropout = Some((NodeId(next), p));
                    last = next;
                }
                if let Some(next) = follower(last) {
                    slope = slope_of(&graph.nodes[next].op);
                    then = smooth(&graph.nodes[next].op);
                    if slope.is_some() || then.is_some() {
                        last = next;
                    }
                }
                let (moments, eps, affine) = norm(&node.op);
                Kind::Norm {
                    moments,
                    eps,
                    affine,
                    dropout,
                    slope,
                    then,
                }
            }
            Op::LayerNorm { eps, affine } => Kind::LayerNorm {
                eps: *eps,
                affine: *affine,
            },
            Op::Softmax => Kind::Softmax,
            Op::Add => {
                let mut slope = None;
                if let Some(next) = follower(id)
                    && let Some(s) = slope_of(&graph.nodes[next].op)
                {
                    slope = Some(s);
                    last = next;
                }
                Kind::Add { slope }
            }
            Op::Dropout { p } => Kind::Dropout { p: *p, samples: false },
            Op::DropPath { p } => Kind::Dropout { p: *p, samples: true },
            Op::Mul => Kind::Mul,
            Op::Concat => Kind::Concat,
            Op::Channels { start, .. } => Kind::Channels { start: *start },
            Op::Pad { before, .. } => Kind::Pad { before: *before },
            Op::Pool {
                kind,
                kernel,
                stride,
                padding,
            } => Kind::Pool {
                kind: *kind,
                window: Window {
                    kernel: *kernel,
                    stride: *stride,
                    padding: *padding,
                    dilation: [1; 3],
                },
            },
            Op::AxisMean { axes } => Kind::AxisMean { axes: *axes },
            Op::ResizeLike { align_corners } => Kind::Resize(Interpolation::Trilinear {
                align_corners: *align_corners,
            }),
            Op::Resize { mode, .. } => Kind::Resize(*mode),
            Op::WindowAttention(attention) => Kind::WindowAttention(attention.clone()),
            op => match (slope_of(op), op) {
                (Some(slope), _) => Kind::Add { slope: Some(slope) },
                (None, Op::Activation(activation)) if known(*activation) => Kind::Activation(*activation),
                _ => {
                    return Err(NetError::Unsupported {
                        node: node.name.clone(),
                        op: op.name(),
                        executor: "engine",
                    });
                }
            },
        };
        for later in id + 1..=last {
            // Only the chain's own nodes lie on it: each is the sole reader of the one before.
            if later == last || matches!(&kind, Kind::Norm { dropout: Some((d, _)), .. } if d.0 == later) {
                fused[later] = true;
            }
        }
        steps.push(Step {
            kind,
            first: NodeId(id),
            inputs: node.inputs.clone(),
            output: NodeId(last),
        });
    }
    // A fused chain ends later than it begins; running order is that of the beginnings, and every input of a step is
    // the end of a chain that began before it, because chains have no side readers.
    Ok(without_copies(graph, steps))
}

/// Moments, epsilon, weight and bias of what becomes [`Kind::Norm`].
fn norm(op: &Op) -> (Moments, f32, [Option<ParamId>; 2]) {
    let pair = |affine: Option<(ParamId, ParamId)>| [affine.map(|a| a.0), affine.map(|a| a.1)];
    match *op {
        Op::InstanceNorm { eps, affine } => (Moments::Of(Scope::Channel), eps, pair(affine)),
        Op::GroupNorm { groups, eps, affine } => (Moments::Of(Scope::Groups(groups)), eps, pair(affine)),
        Op::BatchNorm {
            eps,
            mean,
            variance,
            affine,
        } => (Moments::Running { mean, variance }, eps, pair(affine)),
        Op::Affine { weight, bias } => (Moments::None, 0.0, [weight, bias]),
        _ => (Moments::None, 0.0, [None; 2]),
    }
}

/// Whether the engine has this activation.
fn known(activation: Activation) -> bool {
    use Activation::{Gelu, LeakyRelu, PRelu, Sigmoid, Silu, Tanh};
    matches!(
        activation,
        LeakyRelu { .. } | Sigmoid | PRelu { .. } | Gelu | Silu | Tanh
    )
}

/// An activation without parameters that is no leaky ReLU.
fn smooth(op: &Op) -> Option<Activation> {
    use Activation::{Gelu, Sigmoid, Silu, Tanh};
    match op {
        Op::Activation(activation) if matches!(activation, Sigmoid | Gelu | Silu | Tanh) => Some(*activation),
        _ => None,
    }
}

/// Takes away concatenations that only convolutions read: these then read the parts themselves, where all parts but the
/// last fill their blocks of channels.
fn without_copies(graph: &Graph, mut steps: Vec<Step>) -> Vec<Step> {
    let readable = |step: &Step, steps: &[Step]| {
        let (last, parts) = step.inputs.split_last()?;
        let whole = parts
            .iter()
            .all(|&part| channels(graph, part).is_some_and(|c| c.is_multiple_of(LANES)));
        let readers = steps.iter().filter(|s| s.inputs.contains(&step.output));
        let convolved = readers
            .clone()
            .all(|s| matches!(&s.kind, Kind::Conv(conv) if conv.groups == 1));
        let once = parts.iter().all(|part| part != last);
        let fits = matches!(step.kind, Kind::Concat)
            && whole
            && once
            && convolved
            && readers.count() > 0
            && !graph.outputs.contains(&step.output);
        fits.then(|| (step.output, step.inputs.clone()))
    };
    let gone: Vec<(NodeId, Vec<NodeId>)> = steps.iter().filter_map(|step| readable(step, &steps)).collect();
    steps.retain(|step| gone.iter().all(|(output, _)| *output != step.output));
    for step in &mut steps {
        if let Some((_, parts)) = gone.iter().find(|(output, _)| step.inputs.first() == Some(output)) {
            step.inputs.clone_from(parts);
        }
    }
    steps
}

/// Channels of a value, which do not depend on its extent.
fn channels(graph: &Graph, id: NodeId) -> Option<usize> {
    let node = &graph.nodes[id.0];
    let of = |id: &NodeId| channels(graph, *id);
    match &node.op {
        Op::Input { channels } => Some(*channels),
        Op::Conv(conv) => Some(conv.out_channels),
        Op::ConvTranspose { out_channels, .. } => Some(*out_channels),
        Op::Concat => node.inputs.iter().map(of).sum(),
        Op::Channels { len, .. } => Some(*len),
        Op::WindowAttention(_) => None,
        // A gate may have one channel.
        Op::Mul => node
            .inputs
            .iter()
            .map(of)
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .max(),
        _ => node.inputs.first().and_then(of),
    }
}

/// Shapes and lifetimes for one input size.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Of every value, by node; nodes inside a chain have none.
    pub(crate) dims: Vec<Option<Dims>>,
    /// Halo of every value's gradient.
    pub(crate) gradient_halo: Vec<[usize; 3]>,
    /// How many steps read a value, outputs of the network counted once each.
    pub(crate) readers: Vec<usize>,
    /// Which values a forward pass in training mode keeps.
    pub(crate) kept: Vec<bool>,
}

impl Plan {
    /// Plans a run.
    ///
    /// # Errors
    /// Those of [`Graph::shapes`].
    pub(crate) fn new(graph: &Graph, steps: &[Step], batch: usize, spatial: [usize; 3]) -> Result<Self, NetError> {
        let shapes = graph.shapes(spatial)?;
        let count = graph.nodes.len();
        let extent = |id: NodeId| shapes.nodes[id.0].1;
        let mut halo = vec![[0; 3]; count];
        let mut gradient_halo = vec![[0; 3]; count];
        let mut readers = vec![0; count];
        let mut kept = vec![false; count];
        for output in &graph.outputs {
            readers[output.0] += 1;
        }
        let widen = |halo: &mut [usize; 3], by: [usize; 3]| *halo = std::array::from_fn(|a| halo[a].max(by[a]));
        for step in steps {
            // A resize does not read the value whose size it takes.
            let [inputs, own] = step.looks_back();
            for &input in step.reads() {
                readers[input.0] += 1;
                kept[input.0] |= inputs;
            }
            kept[step.output.0] |= own;
            if let Some((gather, scatter)) = step.passes(&extent) {
                for input in &step.inputs {
                    widen(&mut halo[input.0], halo_needed(&gather, extent(*input)));
                }
                widen(
                    &mut gradient_halo[step.output.0],
                    halo_needed(&scatter, extent(step.output)),
                );
            }
        }
        for step in steps.iter().filter(|step| step.is_made_again()) {
            kept[step.output.0] = false;
        }
        // What is changed in place keeps its halo, so both sides need the wider one.
        for step in steps.iter().rev().filter(|s| s.in_place()) {
            let wide = halo[step.output.0];
            widen(&mut halo[step.inputs[0].0], wide);
        }
        for step in steps.iter().filter(|s| s.in_place()) {
            let wide = gradient_halo[step.inputs[0].0];
            widen(&mut gradient_halo[step.output.0], wide);
        }
        let mut dims = vec![None; count];
        for step in steps {
            let (channels, extent) = shapes.nodes[step.output.0];
            dims[step.output.0] = Some(Dims {
                batch,
                channels,
                extent,
                halo: halo[step.output.0],
            });
        }
        Ok(Self {
            dims,
            gradient_halo,
            readers,
            kept,
        })
    }

    /// Dims of a step's value.
    pub(crate) fn dims(&self, id: NodeId) -> Dims {
        #[expect(clippy::expect_used, reason = "steps read and make values of steps only")]
        self.dims[id.0].expect("a value of a step")
    }

    /// Dims of its gradient.
    pub(crate) fn gradient_dims(&self, id: NodeId) -> Dims {
        self.dims(id).with_halo(self.gradient_halo[id.0])
    }
}

impl Step {
    /// The inputs whose values are read.
    pub(crate) fn reads(&self) -> &[NodeId] {
        match self.kind {
            Kind::Resize(_) => &self.inputs[..1],
            _ => &self.inputs,
        }
    }

    /// Whether the output may take the place of the first input where nobody else reads that.
    pub(crate) fn in_place(&self) -> bool {
        matches!(
            self.kind,
            Kind::Norm { .. } | Kind::Add { .. } | Kind::Activation(_) | Kind::Dropout { .. }
        )
    }

    /// The weights of a convolution of either kind.
    pub(crate) fn convolved(&self) -> Option<ParamId> {
        match &self.kind {
            Kind::Conv(Conv { weight, .. }) | Kind::ConvTranspose { weight, .. } => Some(*weight),
            _ => None,
        }
    }

    /// Whether its way back looks at the values of its inputs, and at its own.
    pub(crate) fn looks_back(&self) -> [bool; 2] {
        match &self.kind {
            Kind::Conv(_)
            | Kind::ConvTranspose { .. }
            | Kind::Norm { .. }
            | Kind::LayerNorm { .. }
            | Kind::Activation(_)
            | Kind::Mul
            | Kind::WindowAttention(_) => [true, false],
            Kind::Pool { .. } => [true, true],
            Kind::Softmax => [false, true],
            Kind::Add { slope } => [false, slope.is_some()],
            Kind::Input
            | Kind::Dropout { .. }
            | Kind::Concat
            | Kind::Channels { .. }
            | Kind::Pad { .. }
            | Kind::AxisMean { .. }
            | Kind::Resize(_) => [false; 2],
        }
    }

    /// Whether the way back makes its value again instead of keeping it: one pass over what it read.
    pub(crate) fn is_made_again(&self) -> bool {
        matches!(self.kind, Kind::Norm { .. })
    }

    /// Whether its kernel knows no values but those in lanes, so that others are copied for it.
    pub(crate) fn is_widened(&self) -> bool {
        matches!(
            self.kind,
            Kind::LayerNorm { .. } | Kind::Softmax | Kind::WindowAttention(_)
        )
    }

    /// For a convolution of either kind: the passes that read its input, and those that read its output's gradient.
    pub(crate) fn passes(&self, extent: &impl Fn(NodeId) -> [usize; 3]) -> Option<(Vec<TapPass>, Vec<TapPass>)> {
        let input = extent(*self.inputs.first()?);
        let output = extent(self.output);
        match &self.kind {
            Kind::Conv(conv) => {
                let window = window(conv);
                Some((vec![window.gather(output)], window.scatter(input)))
            }
            Kind::ConvTranspose { kernel, .. } => {
                let window = Window::disjoint(*kernel);
                Some((window.scatter(output), vec![window.gather(input)]))
            }
            _ => None,
        }
    }
}
