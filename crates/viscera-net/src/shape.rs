//! Shape inference over a graph, and counts that follow from it.

use crate::{Graph, NetError, Op};

/// Channels and `[z, y, x]` extents of every node for one input size.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// `(channels, [z, y, x])`, node by node.
    pub nodes: Vec<(usize, [usize; 3])>,
}

/// Size and work of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Learnt values.
    pub params: usize,
    /// Multiply-accumulates of all convolutions for one sample; bias, norm and activation are not counted.
    pub macs: u64,
}

impl Graph {
    /// The shape of every node for an input of `spatial` voxels.
    ///
    /// # Errors
    /// [`NetError::Shape`] naming the first node whose inputs do not fit, or whose output would be empty.
    pub fn shapes(&self, spatial: [usize; 3]) -> Result<Shapes, NetError> {
        let mut nodes: Vec<(usize, [usize; 3])> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let fail = |reason: String| NetError::Shape {
                node: node.name.clone(),
                reason,
            };
            let inputs = node
                .inputs
                .iter()
                .map(|id| nodes.get(id.0).copied())
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| fail("reads a node that does not stand before it".to_owned()))?;
            let first = || inputs.first().copied().ok_or_else(|| fail("has no input".to_owned()));
            let (channels, extent) = match &node.op {
                Op::Input { channels } => (*channels, spatial),
                Op::Conv(conv) => {
                    let (channels, extent) = first()?;
                    let want = self.params.get(conv.weight.0).map(|p| p.shape.clone());
                    let [kz, ky, kx] = conv.kernel;
                    if conv.groups == 0
                        || want != Some(vec![conv.out_channels, channels / conv.groups.max(1), kz, ky, kx])
                    {
                        return Err(fail(format!("weight shape {want:?} does not fit {channels} channels")));
                    }
                    let extent = windows(extent, conv.kernel, conv.stride, conv.padding, conv.dilation);
                    (conv.out_channels, extent)
                }
                Op::ConvTranspose {
                    out_channels, kernel, ..
                } => {
                    let (_, extent) = first()?;
                    (*out_channels, std::array::from_fn(|a| extent[a] * kernel[a]))
                }
                Op::InstanceNorm { .. } | Op::Activation(_) | Op::Dropout { .. } => first()?,
                Op::Add => {
                    let one = first()?;
                    if inputs.iter().any(|&other| other != one) {
                        return Err(fail(format!("adds unequal shapes {inputs:?}")));
                    }
                    one
                }
                Op::Concat => {
                    let (_, extent) = first()?;
                    if inputs.iter().any(|other| other.1 != extent) {
                        return Err(fail(format!("joins unequal extents {inputs:?}")));
                    }
                    (inputs.iter().map(|i| i.0).sum(), extent)
                }
                Op::Pool {
                    kernel,
                    stride,
                    padding,
                    ..
                } => {
                    let (channels, extent) = first()?;
                    (channels, windows(extent, *kernel, *stride, *padding, [1; 3]))
                }
                Op::AxisMean { axes } => {
                    let (channels, extent) = first()?;
                    (channels, std::array::from_fn(|a| if axes[a] { 1 } else { extent[a] }))
                }
                Op::ResizeLike { .. } => {
                    let (channels, _) = first()?;
                    let like = inputs.get(1).ok_or_else(|| fail("has no second input".to_owned()))?;
                    (channels, like.1)
                }
            };
            if extent.contains(&0) {
                return Err(fail(format!(
                    "an input of {spatial:?} voxels is too small: {extent:?} is left here"
                )));
            }
            nodes.push((channels, extent));
        }
        Ok(Shapes { nodes })
    }

    /// Parameters and multiply-accumulates for one sample of `spatial` voxels.
    ///
    /// # Errors
    /// Those of [`Self::shapes`].
    pub fn counts(&self, spatial: [usize; 3]) -> Result<Counts, NetError> {
        let shapes = self.shapes(spatial)?;
        let volume = |extent: [usize; 3]| extent.iter().map(|&e| e as u64).product::<u64>();
        let macs = self
            .nodes
            .iter()
            .zip(&shapes.nodes)
            .map(|(node, &(_, extent))| match &node.op {
                Op::Conv(conv) => self.params[conv.weight.0].len() as u64 * volume(extent),
                // Every input voxel meets every weight once.
                Op::ConvTranspose { weight, .. } => {
                    self.params[weight.0].len() as u64 * volume(shapes.nodes[node.inputs[0].0].1)
                }
                _ => 0,
            })
            .sum();
        Ok(Counts {
            params: self.params.iter().map(crate::Param::len).sum(),
            macs,
        })
    }
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
        let span = dilation[a] * kernel[a].saturating_sub(1) + 1;
        let room = (extent[a] + 2 * padding[a]).checked_sub(span);
        match (room, stride[a]) {
            (Some(room), 1..) => room / stride[a] + 1,
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::builders::{CoarseUnet, EfficientSegNet, Plane};

    fn fine(out_channels: usize) -> EfficientSegNet {
        EfficientSegNet {
            in_channels: 1,
            base_features: 16,
            out_channels,
            dropout: 0.2,
            plane: Plane::Paper,
        }
    }

    /// The published counts of FLARE21's winner.
    #[test]
    fn counts_equal_the_published_ones() {
        let coarse = CoarseUnet {
            in_channels: 1,
            base_features: 8,
            out_channels: 4,
            dropout: 0.2,
        };
        let counts = coarse.build().counts([160; 3]).unwrap();
        assert_eq!(counts.params, 2_676_480);
        assert_eq!((counts.macs as f64 / 1e7).round() / 100.0, 100.19);
        let counts = fine(4).build().counts([192; 3]).unwrap();
        assert_eq!(counts.params, 9_366_016);
        assert_eq!((counts.macs as f64 / 1e7).round() / 100.0, 357.66);
        assert_eq!(fine(13).build().counts([192; 3]).unwrap().params, 9_366_160);
        assert_eq!(fine(14).build().counts([192; 3]).unwrap().params, 9_366_176);
    }

    #[test]
    fn both_planes_have_equal_counts() {
        let code = EfficientSegNet {
            plane: Plane::Code,
            ..fine(4)
        };
        assert_eq!(
            code.build().counts([192; 3]).unwrap(),
            fine(4).build().counts([192; 3]).unwrap()
        );
    }

    #[test]
    fn an_input_too_small_names_the_node() {
        let error = fine(4).build().shapes([32; 3]).unwrap_err().to_string();
        assert!(error.contains("context.pyramid.pool4"), "{error}");
    }

    #[test]
    fn odd_sizes_pass() {
        let coarse = CoarseUnet {
            in_channels: 1,
            base_features: 4,
            out_channels: 3,
            dropout: 0.0,
        };
        let graph = coarse.build();
        let shapes = graph.shapes([17, 33, 50]).unwrap();
        assert_eq!(shapes.nodes[graph.outputs[0].0], (3, [17, 33, 50]));
    }
}
