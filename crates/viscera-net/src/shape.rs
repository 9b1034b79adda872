//! Shape inference over a graph.

use crate::{Activation, Graph, NetError, Op, Param, ParamId, WindowAttention};

/// Channels and `[z, y, x]` extents.
type Shape = (usize, [usize; 3]);

/// Values that one node may have for one sample; more is a mistake, and could overflow later.
const MOST_VALUES: usize = 1 << 40;

/// Channels and `[z, y, x]` extents of every node for one input size.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// `(channels, [z, y, x])`, node by node.
    pub nodes: Vec<(usize, [usize; 3])>,
}

impl Graph {
    /// The shape of every node for an input of `spatial` voxels.
    ///
    /// # Errors
    /// [`NetError::Shape`] naming the first node whose inputs or parameters do not fit, or whose output would be empty or
    /// absurdly large.
    pub fn shapes(&self, spatial: [usize; 3]) -> Result<Shapes, NetError> {
        let mut nodes: Vec<Shape> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let shape = node
                .inputs
                .iter()
                .map(|id| nodes.get(id.0).copied())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| "reads a node that does not stand before it".to_owned())
                .and_then(|inputs| self.shape(&node.op, &inputs, spatial))
                .and_then(|(channels, extent)| {
                    if channels == 0 || extent.contains(&0) {
                        let left = format!("{channels} channels of {extent:?} are left here");
                        return Err(format!("an input of {spatial:?} voxels is too small: {left}"));
                    }
                    let values = extent.iter().try_fold(channels, |n, &e| n.checked_mul(e));
                    match values {
                        Some(0..=MOST_VALUES) => Ok((channels, extent)),
                        _ => Err(format!("{channels} channels of {extent:?} are too many values")),
                    }
                });
            nodes.push(shape.map_err(|reason| NetError::Shape {
                node: node.name.clone(),
                reason,
            })?);
        }
        Ok(Shapes { nodes })
    }

    /// One operation's rule. Arithmetic saturates: what is too large is refused by the caller.
    fn shape(&self, op: &Op, inputs: &[Shape], spatial: [usize; 3]) -> Result<Shape, String> {
        if let Op::Input { channels } = op {
            return Ok((*channels, spatial));
        }
        let &(channels, extent) = inputs.first().ok_or("has no input")?;
        let one = (channels, extent);
        let pair = |affine: &Option<(ParamId, ParamId)>| {
            let mut ids = affine.iter().flat_map(|&(weight, bias)| [weight, bias]);
            ids.try_for_each(|id| self.vector(id, channels, false))
        };
        Ok(match op {
            Op::Input { channels } => (*channels, spatial),
            Op::Conv(conv) => {
                let [kz, ky, kx] = conv.kernel;
                if conv.groups == 0
                    || !channels.is_multiple_of(conv.groups)
                    || !conv.out_channels.is_multiple_of(conv.groups)
                {
                    let (groups, out) = (conv.groups, conv.out_channels);
                    return Err(format!(
                        "{groups} groups do not divide {channels} channels in and {out} out"
                    ));
                }
                self.param(conv.weight, &[conv.out_channels, channels / conv.groups, kz, ky, kx])?;
                if let Some(bias) = conv.bias {
                    self.param(bias, &[conv.out_channels])?;
                }
                let extent = windows(extent, conv.kernel, conv.stride, conv.padding, conv.dilation);
                (conv.out_channels, extent)
            }
            Op::ConvTranspose {
                out_channels,
                kernel,
                weight,
                bias,
            } => {
                let [kz, ky, kx] = *kernel;
                self.param(*weight, &[channels, *out_channels, kz, ky, kx])?;
                if let Some(bias) = bias {
                    self.param(*bias, &[*out_channels])?;
                }
                (*out_channels, times(extent, *kernel))
            }
            Op::InstanceNorm { affine, .. } | Op::LayerNorm { affine, .. } => {
                pair(affine)?;
                one
            }
            Op::GroupNorm { groups, affine, .. } => {
                if *groups == 0 || !channels.is_multiple_of(*groups) {
                    return Err(format!("{groups} groups do not divide {channels} channels"));
                }
                pair(affine)?;
                one
            }
            Op::BatchNorm {
                mean, variance, affine, ..
            } => {
                self.vector(*mean, channels, false)?;
                self.vector(*variance, channels, false)?;
                pair(affine)?;
                one
            }
            Op::Affine { weight, bias } => {
                for id in [weight, bias].into_iter().flatten() {
                    self.vector(*id, channels, true)?;
                }
                one
            }
            Op::Activation(Activation::PRelu { slope }) => {
                self.vector(*slope, channels, true)?;
                one
            }
            Op::Activation(_) | Op::Softmax => one,
            Op::Dropout { p } | Op::DropPath { p } => {
                if !(0.0..1.0).contains(p) {
                    return Err(format!("drops with probability {p}; it must be in [0, 1)"));
                }
                one
            }
            Op::Add => {
                if inputs.iter().any(|&other| other != one) {
                    return Err(format!("adds unequal shapes {inputs:?}"));
                }
                one
            }
            Op::Mul => {
                let flat = |&(c, [z, y, x]): &Shape| [c, z, y, x];
                let [c, z, y, x] = std::array::from_fn(|a| inputs.iter().map(|i| flat(i)[a]).max().unwrap_or(0));
                let fits = |input: &Shape| {
                    flat(input)
                        .iter()
                        .zip([c, z, y, x])
                        .all(|(&n, most)| n == most || n == 1)
                };
                if !inputs.iter().all(fits) {
                    return Err(format!("multiplies shapes that do not fit: {inputs:?}"));
                }
                (c, [z, y, x])
            }
            Op::Concat => {
                if inputs.iter().any(|other| other.1 != extent) {
                    return Err(format!("joins unequal extents {inputs:?}"));
                }
                (inputs.iter().fold(0, |n: usize, i| n.saturating_add(i.0)), extent)
            }
            Op::Pool {
                kernel,
                stride,
                padding,
                ..
            } => (channels, windows(extent, *kernel, *stride, *padding, [1; 3])),
            Op::AxisMean { axes } => (channels, std::array::from_fn(|a| if axes[a] { 1 } else { extent[a] })),
            Op::ResizeLike { .. } => (channels, inputs.get(1).ok_or("has no second input")?.1),
            Op::Resize { factor, .. } => (channels, times(extent, *factor)),
            Op::Pad { before, after } => {
                let padded = |a: usize| {
                    let sum = extent[a].checked_add_signed(before[a])?.checked_add_signed(after[a])?;
                    // What is removed on one side must be there: no output voxel lies beyond both ends.
                    (before[a].min(0).unsigned_abs() < extent[a] && after[a].min(0).unsigned_abs() < extent[a])
                        .then_some(sum)
                };
                let [Some(z), Some(y), Some(x)] = [padded(0), padded(1), padded(2)] else {
                    return Err(format!("cannot pad {extent:?} by {before:?} and {after:?}"));
                };
                (channels, [z, y, x])
            }
            Op::Channels { start, len } => {
                if start.checked_add(*len).is_none_or(|end| end > channels) {
                    return Err(format!("takes {len} channels from {start} on of only {channels}"));
                }
                (*len, extent)
            }
            Op::WindowAttention(attention) => (self.attention(attention, channels, extent)?, extent),
        })
    }

    /// Channels out of an attention.
    fn attention(&self, attention: &WindowAttention, channels: usize, extent: [usize; 3]) -> Result<usize, String> {
        let WindowAttention {
            heads,
            window,
            shift,
            bias,
        } = attention;
        if *heads == 0 || !channels.is_multiple_of(heads.saturating_mul(3)) {
            return Err(format!(
                "{channels} channels are not queries, keys and values of {heads} heads"
            ));
        }
        if (0..3).any(|a| window[a] == 0 || !extent[a].is_multiple_of(window[a])) {
            return Err(format!("windows of {window:?} do not divide {extent:?} voxels"));
        }
        if (0..3).any(|a| shift[a] >= window[a]) {
            return Err(format!("cannot shift windows of {window:?} by {shift:?}"));
        }
        let offsets = window.iter().fold(1, |n: usize, &w| n.saturating_mul(2 * w - 1));
        self.param(*bias, &[offsets, *heads])?;
        Ok(channels / 3)
    }

    /// Checks that a parameter is there and has this shape.
    fn param(&self, id: ParamId, want: &[usize]) -> Result<&Param, String> {
        match self.params.get(id.0) {
            Some(param) if param.shape == want => Ok(param),
            Some(param) => Err(format!(
                "{} has shape {:?}, {want:?} is needed",
                param.name, param.shape
            )),
            None => Err(format!("parameter {} does not exist", id.0)),
        }
    }

    /// The same for one value per channel or, where `scalar` allows it, one for all.
    fn vector(&self, id: ParamId, channels: usize, scalar: bool) -> Result<(), String> {
        match self.params.get(id.0) {
            Some(param) if scalar && param.shape == [1] => Ok(()),
            _ => self.param(id, &[channels]).map(|_| ()),
        }
    }
}

fn times(extent: [usize; 3], factor: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| extent[a].saturating_mul(factor[a]))
}

/// Positions of a window, per axis, with floor rounding; 0 where none fits.
fn windows(
    extent: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    dilation: [usize; 3],
) -> [usize; 3] {
    std::array::from_fn(|a| {
        let span = dilation[a]
            .saturating_mul(kernel[a].saturating_sub(1))
            .saturating_add(1);
        let room = extent[a].saturating_add(padding[a].saturating_mul(2)).checked_sub(span);
        match (room, stride[a]) {
            (Some(room), 1..) if kernel[a] > 0 => room / stride[a] + 1,
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::builders::{CoarseUnet, EfficientSegNet, Plane};
    use crate::{Graph, Init, Interpolation, Node, NodeId, Op, Param, ParamId, ParamKind, WindowAttention};

    /// What an operation gives for an input of 6 channels and 4×6×8 voxels, or what is wrong. Parameter 0 is `[6]`,
    /// parameter 1 `[15, 2]`.
    fn shape_after(op: Op) -> Result<(usize, [usize; 3]), String> {
        let node = |name: &str, op, inputs| Node {
            name: name.to_owned(),
            op,
            inputs,
        };
        let param = |shape: &[usize]| Param {
            name: "p".to_owned(),
            shape: shape.to_vec(),
            init: Init::Constant(0.0),
            kind: ParamKind::Learnt,
        };
        let graph = Graph {
            name: "one".to_owned(),
            nodes: vec![
                node("input", Op::Input { channels: 6 }, vec![]),
                node("op", op, vec![NodeId(0)]),
            ],
            params: vec![param(&[6]), param(&[15, 2])],
            outputs: vec![NodeId(1)],
        };
        let shapes = graph.shapes([4, 6, 8]).map_err(|error| error.to_string())?;
        Ok(shapes.nodes[1])
    }

    fn pad(before: [isize; 3], after: [isize; 3]) -> Op {
        Op::Pad { before, after }
    }

    fn attention(heads: usize, window: [usize; 3], shift: [usize; 3]) -> Op {
        Op::WindowAttention(WindowAttention {
            heads,
            window,
            shift,
            bias: ParamId(1),
        })
    }

    #[test]
    fn operations_give_their_shapes() {
        let nearest = |factor| Op::Resize {
            factor,
            mode: Interpolation::Nearest,
        };
        for (op, shape) in [
            (pad([1, 0, -2], [0, -3, 4]), (6, [5, 3, 10])),
            (nearest([1, 2, 3]), (6, [4, 12, 24])),
            (Op::Channels { start: 2, len: 4 }, (4, [4, 6, 8])),
            (attention(2, [1, 3, 2], [0, 1, 1]), (2, [4, 6, 8])),
        ] {
            assert_eq!(shape_after(op.clone()), Ok(shape), "{op:?}");
        }
    }

    /// Graphs come from files too: nothing may overflow, and everything must be named.
    #[test]
    fn what_does_not_fit_is_refused() {
        let huge = usize::MAX / 2;
        let prelu = |slope| Op::Activation(crate::Activation::PRelu { slope });
        for (op, reason) in [
            (pad([-4, 0, 0], [0; 3]), "cannot pad"),
            (pad([isize::MAX, 0, 0], [isize::MAX, 0, 0]), "cannot pad"),
            (pad([1 << 50, 0, 0], [0; 3]), "too many values"),
            (
                Op::Resize {
                    factor: [huge; 3],
                    mode: Interpolation::Nearest,
                },
                "too many values",
            ),
            (Op::Channels { start: 3, len: 4 }, "of only 6"),
            (
                Op::Channels {
                    start: usize::MAX,
                    len: 2,
                },
                "of only 6",
            ),
            (attention(2, [1, 4, 2], [0; 3]), "do not divide"),
            (attention(2, [1, 3, 2], [1, 0, 0]), "cannot shift"),
            (attention(2, [2, 3, 2], [0; 3]), "is needed"),
            (attention(huge, [1, 3, 2], [0; 3]), "heads"),
            (prelu(ParamId(1)), "is needed"),
            (prelu(ParamId(7)), "does not exist"),
            (Op::DropPath { p: 1.0 }, "must be in [0, 1)"),
            (
                Op::GroupNorm {
                    groups: 4,
                    eps: 1e-5,
                    affine: None,
                },
                "do not divide",
            ),
        ] {
            let error = shape_after(op.clone()).unwrap_err();
            assert!(error.contains("node op") && error.contains(reason), "{op:?}: {error}");
        }
    }

    #[test]
    fn an_input_too_small_names_the_node() {
        let fine = EfficientSegNet {
            in_channels: 1,
            base_features: 16,
            out_channels: 4,
            dropout: 0.2,
            plane: Plane::Paper,
            context: true,
        };
        let error = fine.build().shapes([32; 3]).unwrap_err().to_string();
        assert!(error.contains("context.pyramid.pool4"), "{error}");
    }

    #[test]
    fn odd_sizes_pass() {
        let coarse = CoarseUnet {
            in_channels: 1,
            base_features: 4,
            out_channels: 3,
            decoder_blocks: 1,
            dropout: 0.0,
        };
        let graph = coarse.build();
        let shapes = graph.shapes([17, 33, 50]).unwrap();
        assert_eq!(shapes.nodes[graph.outputs[0].0], (3, [17, 33, 50]));
    }
}
