//! Appends operations to a graph under dotted names, and the units that several networks share.

use crate::{Activation, Conv, Graph, Init, Node, NodeId, Op, Param, ParamId, ParamKind, PoolKind};

/// Epsilon of every instance norm (PyTorch's default).
const NORM_EPS: f32 = 1e-5;

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
        let kind = ParamKind::Learnt;
        self.graph.params.push(Param {
            name,
            shape,
            init,
            kind,
        });
        ParamId(self.graph.params.len() - 1)
    }

    /// The network's input.
    pub fn input(&mut self, channels: usize) -> NodeId {
        self.push("input", Op::Input { channels }, vec![], channels)
    }

    /// Convolution with "same" padding for odd kernels, dilation 1, one group; `slope` of the activation behind it sets
    /// the He initialisation.
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
        let channels = self.channels(x);
        let fan_in = channels * kernel.iter().product::<usize>();
        let shape = vec![out, channels, kernel[0], kernel[1], kernel[2]];
        let weight = self.param(format!("{name}.weight"), shape, Init::HeNormal { fan_in, slope });
        let bias = bias.then(|| self.param(format!("{name}.bias"), vec![out], Init::Constant(0.0)));
        let conv = Conv {
            out_channels: out,
            kernel,
            stride,
            padding: kernel.map(|k| k / 2),
            dilation: [1; 3],
            groups: 1,
            weight,
            bias,
        };
        self.push(name, Op::Conv(conv), vec![x], out)
    }

    /// Instance norm without learnt values.
    pub fn instance_norm(&mut self, name: &str, x: NodeId) -> NodeId {
        let op = Op::InstanceNorm {
            eps: NORM_EPS,
            affine: None,
        };
        self.push(name, op, vec![x], self.channels(x))
    }

    /// ReLU.
    pub fn relu(&mut self, name: &str, x: NodeId) -> NodeId {
        let op = Op::Activation(Activation::LeakyRelu { slope: 0.0 });
        self.push(name, op, vec![x], self.channels(x))
    }

    /// Channel dropout; adds nothing when `p` is 0.
    pub fn dropout(&mut self, name: &str, x: NodeId, p: f32) -> NodeId {
        if p == 0.0 {
            return x;
        }
        self.push(name, Op::Dropout { p }, vec![x], self.channels(x))
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

    /// CN of EfficientSegNet: convolution without bias → instance norm without affine.
    pub fn conv_norm(&mut self, name: &str, x: NodeId, out: usize, kernel: [usize; 3], stride: usize) -> NodeId {
        let x = self.conv(name, x, out, kernel, [stride; 3], false, 0.0);
        self.instance_norm(&format!("{name}.norm"), x)
    }

    /// CNR of EfficientSegNet: CN → channel dropout → ReLU.
    pub fn conv_norm_relu(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernel: [usize; 3],
        stride: usize,
        dropout: f32,
    ) -> NodeId {
        let x = self.conv_norm(name, x, out, kernel, stride);
        let x = self.dropout(&format!("{name}.dropout"), x, dropout);
        self.relu(&format!("{name}.relu"), x)
    }

    /// Residual block of two units: `relu(CN(CNR(x)) + shortcut)`, the shortcut a 1×1×1 CN where `project`, else `x`.
    pub fn residual(
        &mut self,
        name: &str,
        x: NodeId,
        out: usize,
        kernels: [[usize; 3]; 2],
        stride: usize,
        project: bool,
        dropout: f32,
    ) -> NodeId {
        let y = self.conv_norm_relu(&format!("{name}.conv1"), x, out, kernels[0], stride, dropout);
        let y = self.conv_norm(&format!("{name}.conv2"), y, out, kernels[1], 1);
        let skip = if project {
            self.conv_norm(&format!("{name}.shortcut"), x, out, [1; 3], stride)
        } else {
            x
        };
        let y = self.add(&format!("{name}.add"), &[y, skip]);
        self.relu(&format!("{name}.relu"), y)
    }
}
