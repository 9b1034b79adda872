//! Appends operations to a graph under dotted names.

use crate::{
    Activation, Conv, Graph, Init, Interpolation, Node, NodeId, Op, Param, ParamId, ParamKind, PoolKind,
    WindowAttention,
};
use serde::{Deserialize, Serialize};

/// Epsilon of a norm (PyTorch's default).
pub(super) const NORM_EPS: f32 = 1e-5;

/// Standard deviation of a transformer's fresh weights.
const LINEAR_STD: f32 = 0.02;

/// What [`GraphBuilder::convolution`] needs to know. The default is a 1×1×1 convolution without bias.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvSettings {
    /// Channels out.
    pub out: usize,
    /// Kernel.
    pub kernel: [usize; 3],
    /// Step.
    pub stride: [usize; 3],
    /// Distance between taps.
    pub dilation: [usize; 3],
    /// Groups of channels.
    pub groups: usize,
    /// Whether it has one.
    pub bias: bool,
}

impl Default for ConvSettings {
    fn default() -> Self {
        Self {
            out: 1,
            kernel: [1; 3],
            stride: [1; 3],
            dilation: [1; 3],
            groups: 1,
            bias: false,
        }
    }
}

/// Kinds of norm that builders use; each is an [`Op`] of its own, where it is described.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// [`Op::InstanceNorm`].
    Instance {
        /// Added to the variance.
        eps: f32,
        /// With weight and bias.
        affine: bool,
    },
    /// [`Op::BatchNorm`].
    Batch {
        /// Added to the variance.
        eps: f32,
        /// With weight and bias.
        affine: bool,
    },
    /// [`Op::LayerNorm`].
    Layer {
        /// Added to the variance.
        eps: f32,
        /// With weight and bias.
        affine: bool,
    },
}

/// A graph that grows node by node. Methods that add a node give its id.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    /// Channels of each node.
    channels: Vec<usize>,
}

impl GraphBuilder {
    /// An empty graph.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            graph: Graph {
                name: name.to_owned(),
                nodes: Vec::new(),
                params: Vec::new(),
                outputs: Vec::new(),
            },
            channels: Vec::new(),
        }
    }

    /// Closes the graph.
    #[must_use]
    pub fn finish(mut self, outputs: Vec<NodeId>) -> Graph {
        self.graph.outputs = outputs;
        self.graph
    }

    /// Channels of a node.
    #[must_use]
    pub fn channels(&self, node: NodeId) -> usize {
        self.channels[node.0]
    }

    fn push(&mut self, name: &str, op: Op, inputs: Vec<NodeId>, channels: usize) -> NodeId {
        self.graph.nodes.push(Node {
            name: name.to_owned(),
            op,
            inputs,
        });
        self.channels.push(channels);
        NodeId(self.graph.nodes.len() - 1)
    }

    fn param(&mut self, name: String, shape: Vec<usize>, init: Init) -> ParamId {
        self.graph.params.push(Param {
            name,
            shape,
            init,
            kind: ParamKind::Learnt,
        });
        ParamId(self.graph.params.len() - 1)
    }

    /// The network's input.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("input", Op::Input { channels }, vec![], channels)
    }

    /// Convolution with "same" padding for odd kernels (none for kernel 2), dilation 1, one group; `slope` of the
    /// activation behind it sets the He initialisation.
    pub fn conv(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernel: [usize; 3],
        stride: [usize; 3],
        bias: bool,
        slope: f32,
    ) -> NodeId {
        let settings = ConvSettings {
            out,
            kernel,
            stride,
            bias,
            ..ConvSettings::default()
        };
        self.convolution(name, x, &settings, slope)
    }

    /// Convolution with "same" padding for odd kernels (none for kernel 2); `slope` as in [`Self::conv`].
    pub fn convolution(&mut self, name: &str, x: NodeId, settings: &ConvSettings, slope: f32) -> NodeId {
        let fan_in = self.channels(x) / settings.groups * settings.kernel.iter().product::<usize>();
        self.convolution_from(name, x, settings, Init::HeNormal { fan_in, slope })
    }

    /// The linear layer of a transformer as a 1×1×1 convolution with bias: weights start normal with deviation 0.02.
    pub fn linear(&mut self, name: &str, x: NodeId, out: usize) -> NodeId {
        let settings = ConvSettings {
            out,
            bias: true,
            ..ConvSettings::default()
        };
        self.convolution_from(name, x, &settings, Init::Normal { std: LINEAR_STD })
    }

    fn convolution_from(&mut self, name: &str, x: NodeId, settings: &ConvSettings, init: Init) -> NodeId {
        let &ConvSettings {
            out,
            kernel,
            stride,
            dilation,
            groups,
            bias,
        } = settings;
        let shape = vec![out, self.channels(x) / groups, kernel[0], kernel[1], kernel[2]];
        let weight = self.param(format!("{name}.weight"), shape, init);
        let bias = bias.then(|| self.param(format!("{name}.bias"), vec![out], Init::Constant(0.0)));
        let conv = Conv {
            out_channels: out,
            kernel,
            stride,
            padding: std::array::from_fn(|a| dilation[a] * (kernel[a] - 1) / 2),
            dilation,
            groups,
            weight,
            bias,
        };
        self.push(name, Op::Conv(conv), vec![x], out)
    }

    /// Transposed convolution with kernel = stride. PyTorch's He initialisation takes the outputs for inputs here.
    pub fn conv_transpose(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernel: [usize; 3],
        bias: bool,
        slope: f32,
    ) -> NodeId {
        let fan_in = out * kernel.iter().product::<usize>();
        let shape = vec![self.channels(x), out, kernel[0], kernel[1], kernel[2]];
        let weight = self.param(format!("{name}.weight"), shape, Init::HeNormal { fan_in, slope });
        let bias = bias.then(|| self.param(format!("{name}.bias"), vec![out], Init::Constant(0.0)));
        let op = Op::ConvTranspose {
            out_channels: out,
            kernel,
            weight,
            bias,
        };
        self.push(name, op, vec![x], out)
    }

    /// A norm, with weight 1 and bias 0 to begin with where it has them.
    pub fn norm(&mut self, name: &str, x: NodeId, norm: Norm) -> NodeId {
        self.norm_from(name, x, norm, 1.0)
    }

    /// The same with another weight to begin with.
    pub fn norm_from(&mut self, name: &str, x: NodeId, norm: Norm, start: f32) -> NodeId {
        let channels = self.channels(x);
        let mut vector = |leaf: &str, value: f32, kind| {
            self.graph.params.push(Param {
                name: format!("{name}.{leaf}"),
                shape: vec![channels],
                init: Init::Constant(value),
                kind,
            });
            ParamId(self.graph.params.len() - 1)
        };
        let (Norm::Instance { affine, .. } | Norm::Batch { affine, .. } | Norm::Layer { affine, .. }) = norm;
        let affine = affine.then(|| {
            let weight = vector("weight", start, ParamKind::Learnt);
            (weight, vector("bias", 0.0, ParamKind::Learnt))
        });
        let op = match norm {
            Norm::Instance { eps, .. } => Op::InstanceNorm { eps, affine },
            Norm::Batch { eps, .. } => Op::BatchNorm {
                eps,
                mean: vector("running_mean", 0.0, ParamKind::Statistic),
                variance: vector("running_var", 1.0, ParamKind::Statistic),
                affine,
            },
            Norm::Layer { eps, .. } => Op::LayerNorm { eps, affine },
        };
        self.push(name, op, vec![x], channels)
    }

    /// A pointwise function.
    pub fn activation(&mut self, name: &str, x: NodeId, function: Activation) -> NodeId {
        self.push(name, Op::Activation(function), vec![x], self.channels(x))
    }

    /// ReLU.
    pub fn relu(&mut self, name: &str, x: NodeId) -> NodeId {
        self.activation(name, x, Activation::LeakyRelu { slope: 0.0 })
    }

    /// Product with one learnt number, 1 to begin with. The parameter has the node's name.
    pub fn scale(&mut self, name: &str, x: NodeId) -> NodeId {
        let weight = Some(self.param(name.to_owned(), vec![1], Init::Constant(1.0)));
        self.push(name, Op::Affine { weight, bias: None }, vec![x], self.channels(x))
    }

    /// Product, with channels repeated where an input has only one.
    pub fn mul(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        let channels = inputs.iter().map(|&i| self.channels(i)).max().unwrap_or(0);
        self.push(name, Op::Mul, inputs.to_vec(), channels)
    }

    /// Attention inside windows; `x` holds queries, keys and values. The table of biases starts normal with deviation 0.02.
    pub fn window_attention(
        &mut self,
        name: &str,
        x: NodeId,
        heads: usize,
        window: [usize; 3],
        shift: [usize; 3],
    ) -> NodeId {
        let offsets = window.iter().map(|w| 2 * w - 1).product();
        let table = format!("{name}.relative_position_bias_table");
        let bias = self.param(table, vec![offsets, heads], Init::Normal { std: LINEAR_STD });
        let attention = WindowAttention {
            heads,
            window,
            shift,
            bias,
        };
        self.push(name, Op::WindowAttention(attention), vec![x], self.channels(x) / 3)
    }

    /// Channel dropout; adds nothing when `p` is 0.
    pub fn dropout(&mut self, name: &str, x: NodeId, p: f32) -> NodeId {
        if p == 0.0 {
            return x;
        }
        self.push(name, Op::Dropout { p }, vec![x], self.channels(x))
    }

    /// Drops whole samples; adds nothing when `p` is 0.
    pub fn drop_path(&mut self, name: &str, x: NodeId, p: f32) -> NodeId {
        if p == 0.0 {
            return x;
        }
        self.push(name, Op::DropPath { p }, vec![x], self.channels(x))
    }

    /// Sum.
    pub fn add(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        let channels = self.channels(inputs[0]);
        self.push(name, Op::Add, inputs.to_vec(), channels)
    }

    /// Concatenation of channels.
    pub fn concat(&mut self, name: &str, inputs: &[NodeId]) -> NodeId {
        let channels = inputs.iter().map(|&i| self.channels(i)).sum();
        self.push(name, Op::Concat, inputs.to_vec(), channels)
    }

    /// Pooling.
    pub fn pool(
        &mut self,
        name: &str,
        x: NodeId,
        kind: PoolKind,
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
    ) -> NodeId {
        let op = Op::Pool {
            kind,
            kernel,
            stride,
            padding,
        };
        self.push(name, op, vec![x], self.channels(x))
    }

    /// Mean over whole axes.
    pub fn axis_mean(&mut self, name: &str, x: NodeId, axes: [bool; 3]) -> NodeId {
        self.push(name, Op::AxisMean { axes }, vec![x], self.channels(x))
    }

    /// Trilinear resize of `x` to the size of `like`.
    pub fn resize_like(&mut self, name: &str, x: NodeId, like: NodeId, align_corners: bool) -> NodeId {
        self.push(name, Op::ResizeLike { align_corners }, vec![x, like], self.channels(x))
    }

    /// Trilinear enlargement by whole factors.
    pub fn enlarge(&mut self, name: &str, x: NodeId, factor: [usize; 3], align_corners: bool) -> NodeId {
        let mode = Interpolation::Trilinear { align_corners };
        self.push(name, Op::Resize { factor, mode }, vec![x], self.channels(x))
    }
}
