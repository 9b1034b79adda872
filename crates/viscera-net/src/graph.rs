//! A network as data: typed 3-D operations on (batch, channel, z, y, x) tensors.
//!
//! Nodes stand in the order in which they can run: each reads only nodes before it. All triples are `[z, y, x]`.

use serde::{Deserialize, Serialize};

/// A node of a [`Graph`], by its place in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId(pub usize);

/// A parameter of a [`Graph`], by its place in [`Graph::params`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ParamId(pub usize);

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// Name of the architecture, for people.
    pub name: String,
    /// Operations in running order.
    pub nodes: Vec<Node>,
    /// Parameters, named as they stand in weight files.
    pub params: Vec<Param>,
    /// The nodes whose values the network gives back: logits, finest first where there are several heads.
    pub outputs: Vec<NodeId>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Unique, dotted, for people and errors: `encoder.1.block0.conv1`.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// What it reads.
    pub inputs: Vec<NodeId>,
}

/// One named array of learnt values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Name in weight files.
    pub name: String,
    /// Shape as in PyTorch: convolution `[out, in / groups, z, y, x]`, transposed convolution `[in, out, z, y, x]`, vectors `[n]`.
    pub shape: Vec<usize>,
    /// How a fresh one is filled.
    pub init: Init,
}

impl Param {
    /// Number of values.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a parameter is never empty
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }
}

/// How a fresh parameter is filled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Init {
    /// He et al. 2015: normal with variance 2 / ((1 + slope²) · fan_in).
    HeNormal {
        /// Inputs that one output sums.
        fan_in: usize,
        /// Slope of the leaky ReLU that follows; 0 for ReLU.
        slope: f32,
    },
    /// One value everywhere.
    Constant(f32),
}

/// What a node computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Op {
    /// The network's input, with this many channels.
    Input {
        /// Channels.
        channels: usize,
    },
    /// Cross-correlation with zero padding, as PyTorch's `Conv3d`.
    Conv(Conv),
    /// `ConvTranspose3d` with kernel = stride and no padding: every input voxel becomes a block of its own.
    ConvTranspose {
        /// Channels out.
        out_channels: usize,
        /// Kernel and stride.
        kernel: [usize; 3],
        /// `[in, out, z, y, x]`.
        weight: ParamId,
        /// `[out]`.
        bias: Option<ParamId>,
    },
    /// Per sample and channel: (x − mean) / sqrt(biased variance + eps), then optionally · weight + bias.
    InstanceNorm {
        /// Added to the variance.
        eps: f32,
        /// Weight `[c]` and bias `[c]`.
        affine: Option<(ParamId, ParamId)>,
    },
    /// Pointwise function.
    Activation(Activation),
    /// Drops whole channels with this probability while training and scales the others by 1 / (1 − p); nothing otherwise.
    Dropout {
        /// Probability of a channel to be dropped.
        p: f32,
    },
    /// Sum of all inputs, which have equal shapes.
    Add,
    /// Channels of all inputs one after the other.
    Concat,
    /// Pooling with floor rounding. Padding counts as −∞ for the maximum; average pooling takes none.
    Pool {
        /// Maximum or mean.
        kind: PoolKind,
        /// Window.
        kernel: [usize; 3],
        /// Step.
        stride: [usize; 3],
        /// Padding on both sides.
        padding: [usize; 3],
    },
    /// Mean over the whole extent of the chosen axes, which become 1 long.
    AxisMean {
        /// Which of `[z, y, x]` to average over.
        axes: [bool; 3],
    },
    /// Trilinear resize of the first input to the spatial size of the second, whose values are not read.
    ResizeLike {
        /// Corner voxels coincide (true), or corner faces do: half-pixel centres (false). As in PyTorch's `interpolate`.
        align_corners: bool,
    },
}

/// A convolution's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conv {
    /// Channels out.
    pub out_channels: usize,
    /// Kernel.
    pub kernel: [usize; 3],
    /// Step.
    pub stride: [usize; 3],
    /// Zeros on both sides.
    pub padding: [usize; 3],
    /// Distance between taps.
    pub dilation: [usize; 3],
    /// Groups of channels.
    pub groups: usize,
    /// `[out, in / groups, z, y, x]`.
    pub weight: ParamId,
    /// `[out]`.
    pub bias: Option<ParamId>,
}

/// Pointwise functions.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Activation {
    /// max(x, slope · x); slope 0 is ReLU.
    LeakyRelu {
        /// Slope of the negative part.
        slope: f32,
    },
    /// 1 / (1 + e^−x).
    Sigmoid,
}

/// Kinds of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// Largest value.
    Max,
    /// Mean.
    Average,
}
