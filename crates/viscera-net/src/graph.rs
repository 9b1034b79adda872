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

/// One named array of values that come from training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Name in weight files.
    pub name: String,
    /// Shape as in PyTorch: convolution `[out, in / groups, z, y, x]`, transposed convolution `[in, out, z, y, x]`, vectors `[n]`.
    pub shape: Vec<usize>,
    /// How a fresh one is filled.
    pub init: Init,
    /// Whether an optimiser moves it.
    #[serde(default)]
    pub kind: ParamKind,
}

impl Param {
    /// Number of values.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // a parameter is never empty
    pub fn len(&self) -> usize {
        self.shape.iter().fold(1, |n, &s| n.saturating_mul(s))
    }
}

/// What changes a parameter while a network trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ParamKind {
    /// The loss's gradient, by way of an optimiser.
    #[default]
    Learnt,
    /// The data: a running mean or variance of [`Op::BatchNorm`] (a buffer in PyTorch). Not counted as a parameter, and
    /// no optimiser moves it: [`crate::Executor::backward`] gives its present value less the batch's instead of a
    /// gradient, so that subtracting a tenth of that is PyTorch's update with momentum 0.1.
    Statistic,
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
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f32,
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
    /// Per channel: (x − mean) / sqrt(variance + eps), then optionally · weight + bias. `BatchNorm3d`.
    ///
    /// In training mode mean and biased variance are those of the whole batch (over samples and voxels); otherwise they
    /// are the running ones, which are parameters of [`ParamKind::Statistic`]. The running variance follows the batch's
    /// unbiased one, as in PyTorch.
    BatchNorm {
        /// Added to the variance.
        eps: f32,
        /// Running mean `[c]`.
        mean: ParamId,
        /// Running variance `[c]`.
        variance: ParamId,
        /// Weight `[c]` and bias `[c]`.
        affine: Option<(ParamId, ParamId)>,
    },
    /// Per sample and group of neighbouring channels: (x − mean) / sqrt(biased variance + eps) over the group's channels
    /// and all voxels, then optionally, per channel, · weight + bias. `GroupNorm`.
    GroupNorm {
        /// Groups; they divide the channels.
        groups: usize,
        /// Added to the variance.
        eps: f32,
        /// Weight `[c]` and bias `[c]`.
        affine: Option<(ParamId, ParamId)>,
    },
    /// Per sample and voxel: (x − mean) / sqrt(biased variance + eps) over the channels, then optionally, per channel,
    /// · weight + bias. `LayerNorm` of a transformer whose tokens are voxels.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
        /// Weight `[c]` and bias `[c]`.
        affine: Option<(ParamId, ParamId)>,
    },
    /// x · weight + bias, each of shape `[1]` (one for all channels) or `[c]` (one per channel), each optional.
    Affine {
        /// Factor.
        weight: Option<ParamId>,
        /// Addend.
        bias: Option<ParamId>,
    },
    /// Pointwise function.
    Activation(Activation),
    /// exp(x) over its sum over the channels, per sample and voxel.
    Softmax,
    /// Drops whole channels with this probability while training and scales the others by 1 / (1 − p); nothing otherwise.
    Dropout {
        /// Probability of a channel to be dropped.
        p: f32,
    },
    /// Drops whole samples with this probability while training and scales the others by 1 / (1 − p); nothing
    /// otherwise. Stochastic depth (Huang et al. 2016) before an addition. Sample `n` is kept where
    /// [`crate::dropout_keeps`] says so of channel 0.
    DropPath {
        /// Probability of a sample to be dropped.
        p: f32,
    },
    /// Sum of all inputs, which have equal shapes.
    Add,
    /// Product of all inputs. Along channels, z, y and x each input is as long as the longest or 1 long, and then repeated:
    /// a gate of one channel, or one voxel of factors per channel.
    Mul,
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
    /// Enlarges by whole factors.
    Resize {
        /// Extent out per extent in.
        factor: [usize; 3],
        /// How values between voxels are found.
        mode: Interpolation,
    },
    /// Adds zeros around the voxels, or removes voxels where negative: output voxel `o` is input voxel `o − before`.
    /// PyTorch's `pad` with constant 0.
    Pad {
        /// Voxels added before the first.
        before: [isize; 3],
        /// Voxels added after the last.
        after: [isize; 3],
    },
    /// The channels `start` to `start + len` (exclusive).
    Channels {
        /// First channel.
        start: usize,
        /// Number of channels.
        len: usize,
    },
    /// Multi-head self-attention inside windows (Swin transformer, Liu et al. 2021, in three dimensions).
    WindowAttention(WindowAttention),
}

impl Op {
    /// The operation's name, for people.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Input { .. } => "input",
            Self::Conv(_) => "conv",
            Self::ConvTranspose { .. } => "transposed conv",
            Self::InstanceNorm { .. } => "instance norm",
            Self::BatchNorm { .. } => "batch norm",
            Self::GroupNorm { .. } => "group norm",
            Self::LayerNorm { .. } => "layer norm",
            Self::Affine { .. } => "affine",
            Self::Activation(Activation::LeakyRelu { slope: 0.0 }) => "ReLU",
            Self::Activation(Activation::LeakyRelu { .. }) => "leaky ReLU",
            Self::Activation(Activation::Sigmoid) => "sigmoid",
            Self::Activation(Activation::PRelu { .. }) => "PReLU",
            Self::Activation(Activation::Gelu) => "GELU",
            Self::Activation(Activation::Silu) => "SiLU",
            Self::Activation(Activation::Tanh) => "tanh",
            Self::Softmax => "softmax",
            Self::Dropout { .. } => "dropout",
            Self::DropPath { .. } => "drop path",
            Self::Add => "add",
            Self::Mul => "multiply",
            Self::Concat => "concat",
            Self::Pool {
                kind: PoolKind::Max, ..
            } => "max pool",
            Self::Pool { .. } => "average pool",
            Self::AxisMean { .. } => "mean",
            Self::ResizeLike { .. } | Self::Resize { .. } => "resize",
            Self::Pad { .. } => "pad",
            Self::Channels { .. } => "channels",
            Self::WindowAttention(_) => "window attention",
        }
    }

    /// The parameters it reads, in the order of its fields.
    #[must_use]
    pub fn params(&self) -> Vec<ParamId> {
        let pair = |affine: &Option<(ParamId, ParamId)>| affine.iter().flat_map(|&(w, b)| [w, b]).collect::<Vec<_>>();
        match self {
            Self::Conv(conv) => [Some(conv.weight), conv.bias].into_iter().flatten().collect(),
            Self::ConvTranspose { weight, bias, .. } => [Some(*weight), *bias].into_iter().flatten().collect(),
            Self::InstanceNorm { affine, .. } | Self::GroupNorm { affine, .. } | Self::LayerNorm { affine, .. } => {
                pair(affine)
            }
            Self::BatchNorm {
                mean, variance, affine, ..
            } => [vec![*mean, *variance], pair(affine)].concat(),
            Self::Affine { weight, bias } => [*weight, *bias].into_iter().flatten().collect(),
            Self::Activation(Activation::PRelu { slope }) => vec![*slope],
            Self::WindowAttention(attention) => vec![attention.bias],
            _ => Vec::new(),
        }
    }
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

/// Self-attention inside windows.
///
/// Reads 3·c channels: queries, keys, values, c channels each, of which each head has c / heads neighbouring ones (d). Gives
/// c channels. Voxels are tokens. The volume is rolled by −`shift` along each axis and cut into windows of `window`, which
/// must divide its extents. Within a window and head, token i becomes the mean of all tokens' values weighted by
/// softmax over j of `q_i · k_j / √d + table[i − j] + mask`, and the volume is rolled back.
///
/// `table[i − j]` is the row of `bias` for the offset (iz − jz + wz − 1, iy − jy + wy − 1, ix − jx + wx − 1), counted with x
/// fastest over (2wz − 1, 2wy − 1, 2wx − 1). `mask` is −100 where the roll has brought together what is not adjacent: along
/// an axis of n voxels with shift s > 0, rolled positions below n − w, from there to n − s, and from n − s on are
/// three regions, and two tokens must share theirs on every axis; otherwise 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WindowAttention {
    /// Heads; they divide c.
    pub heads: usize,
    /// Extent of a window.
    pub window: [usize; 3],
    /// Voxels to roll by, less than the window; 0 for none.
    pub shift: [usize; 3],
    /// Relative position bias `[(2wz − 1)(2wy − 1)(2wx − 1), heads]`.
    pub bias: ParamId,
}

/// How a resize finds values between voxels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Interpolation {
    /// Output voxel `o` is input voxel `o / factor`, rounded down.
    Nearest,
    /// Linear along each axis.
    Trilinear {
        /// Corner voxels coincide (true), or corner faces do: half-pixel centres (false). As in PyTorch's `interpolate`.
        align_corners: bool,
    },
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
    /// max(x, 0) + slope · min(x, 0) with a learnt slope.
    PRelu {
        /// `[1]`, or `[c]` for one per channel.
        slope: ParamId,
    },
    /// x · Φ(x), Φ the standard normal distribution's function, exact: x · (1 + erf(x / √2)) / 2.
    Gelu,
    /// x · sigmoid(x).
    Silu,
    /// Hyperbolic tangent.
    Tanh,
}

/// Kinds of pooling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PoolKind {
    /// Largest value.
    Max,
    /// Mean.
    Average,
}
