//! MFNet and DMFNet (Chen et al. 2019) and Attention DMFNet: light networks of grouped convolutions, some dilated.
//!
//! Every unit is norm → ReLU → convolution, convolutions without bias, batch norm. The encoder halves four times, the
//! first time by a plain convolution; the decoder enlarges trilinearly (half-pixel) and concatenates [skip, up]. An
//! attention gate (Oktay et al. 2018) may weigh each skip. The original ends in a softmax; this graph gives logits.
//!
//! Parameters have the original's names. The input's extents must be multiples of 16.

use super::Plane;
use super::parts::{ConvSettings, GraphBuilder, NORM_EPS, Norm};
use crate::{Activation, Graph, NetError, NodeId};
use serde::{Deserialize, Serialize};

const NORM: Norm = Norm::Batch {
    eps: NORM_EPS,
    affine: true,
};

/// Settings of the family.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DmfNet {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Channels at half resolution; 32.
    pub stem: usize,
    /// Channels at a quarter, twice as many from an eighth on; 128, 96 in "0.75 × MFNet".
    pub width: usize,
    /// Groups of the spatial convolutions; 16.
    pub groups: usize,
    /// Units at a quarter and an eighth have three convolutions of dilation 1, 2, 3, weighted by learnt numbers (DMFNet),
    /// instead of one (MFNet).
    pub dilated: bool,
    /// What weighs the skips.
    pub gates: Gates,
    /// Where the flat kernel of a unit lies: within the slice, (1,3,3), or as in the released code on arrays whose last
    /// axis is the slice's, (3,3,1); the latter only for its weights, on images turned likewise.
    pub plane: Plane,
}

/// Attention gates on the skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gates {
    /// None.
    None,
    /// Of `AttentionDMFNet`: the enlarged feature map and the skip, at the same resolution, each through a grouped 1×1×1
    /// convolution with bias to `width` channels and a norm; added, ReLU, 1×1×1 to one channel, norm, sigmoid.
    Grouped,
    /// Of Attention U-Net: the skip through a 2×2×2 convolution of stride 2, and the coarser feature map before its
    /// enlargement through a 1×1×1 one, both to the skip's channels; added, ReLU, 1×1×1 to one channel, sigmoid, enlarged
    /// trilinearly; the weighted skip passes a 1×1×1 convolution and a norm.
    Grid,
}

impl DmfNet {
    /// The graph.
    ///
    /// # Errors
    /// [`NetError::Settings`] when widths do not suit the groups.
    pub fn build(&self) -> Result<Graph, NetError> {
        self.check()?;
        let (stem, width, groups) = (self.stem, self.width, self.groups);
        let mut g = GraphBuilder::new(match (self.gates, self.dilated) {
            (Gates::Grouped | Gates::Grid, _) => "attention_dmfnet",
            (Gates::None, true) => "dmfnet",
            (Gates::None, false) => "mfnet",
        });
        let image = g.input(self.in_channels);
        let mut x = g.conv("encoder_block1", image, stem, [3; 3], [2; 3], false, 0.0);
        let mut skips = vec![x];
        let stages = [
            (2, [width; 3], self.dilated),
            (3, [2 * width; 3], self.dilated),
            (4, [3 * width, 3 * width, 2 * width], false),
        ];
        for (stage, widths, dilated) in stages {
            for (i, out) in widths.into_iter().enumerate() {
                let stride = if i == 0 { 2 } else { 1 };
                x = self.unit(&mut g, &format!("encoder_block{stage}.{i}"), x, (out, stride, dilated));
            }
            skips.push(x);
        }
        skips.pop();
        for (i, out) in [2 * width, width, stem].into_iter().enumerate() {
            let up = g.enlarge(&format!("upsample{}", i + 1), x, [2; 3], false);
            let gate = format!("att{}", 3 - i);
            let skip = skips[2 - i];
            let skip = match self.gates {
                Gates::None => skip,
                Gates::Grouped => self.same_size_gate(&mut g, &gate, up, skip, groups),
                Gates::Grid => grid_gate(&mut g, &gate, x, skip),
            };
            let block = format!("decoder_block{}", i + 1);
            let joined = g.concat(&format!("{block}.concat"), &[skip, up]);
            x = self.unit(&mut g, &block, joined, (out, 1, false));
        }
        let up = g.enlarge("upsample4", x, [2; 3], false);
        let logits = g.conv("seg", up, self.out_channels, [1; 3], [1; 3], false, 0.0);
        Ok(g.finish(vec![logits]))
    }

    fn check(&self) -> Result<(), NetError> {
        let suits = |n: usize| n >= 4 && n.is_multiple_of(self.groups);
        if self.in_channels > 0 && self.out_channels > 0 && self.groups > 0 && suits(self.stem) && suits(self.width) {
            return Ok(());
        }
        Err(NetError::Settings {
            network: "DMFNet",
            reason: format!(
                "channels must be positive, and stem {} and width {} multiples of the {} groups, at least 4",
                self.stem, self.width, self.groups
            ),
        })
    }

    /// Multi-fibre unit: two 1×1×1, one 3×3×3 or three dilated ones, one flat convolution, and a shortcut; `shape` is
    /// channels, stride and whether it is dilated.
    fn unit(
        &self,
        g: &mut GraphBuilder,
        name: &str,
        x: NodeId,
        (out, stride, dilated): (usize, usize, bool),
    ) -> NodeId {
        let channels = g.channels(x);
        let point = |out| ConvSettings {
            out,
            ..ConvSettings::default()
        };
        let spatial = |kernel, stride, dilation| ConvSettings {
            out,
            kernel,
            stride: [stride; 3],
            dilation: [dilation; 3],
            groups: self.groups,
            bias: false,
        };
        let y = unit(g, &format!("{name}.conv1x1x1_in1"), x, &point(channels / 4));
        let y = unit(g, &format!("{name}.conv1x1x1_in2"), y, &point(channels.min(out)));
        let middle = format!("{name}.conv3x3x3_m1");
        let y = if dilated {
            let branches = [1, 2, 3].map(|dilation| {
                let branch = format!("{middle}.{}", dilation - 1);
                let branch = unit(g, &branch, y, &spatial([3; 3], stride, dilation));
                g.scale(&format!("{name}.weight{dilation}"), branch)
            });
            g.add(&format!("{middle}.add"), &branches)
        } else {
            unit(g, &middle, y, &spatial([3; 3], stride, 1))
        };
        let flat = match self.plane {
            Plane::Paper => [1, 3, 3],
            Plane::Code => [3, 3, 1],
        };
        let y = unit(g, &format!("{name}.conv3x3x3_m2"), y, &spatial(flat, 1, 1));
        let skip = if stride == 2 {
            let settings = ConvSettings {
                kernel: [2; 3],
                stride: [2; 3],
                ..point(out)
            };
            unit(g, &format!("{name}.conv2x2x2_shortcut"), x, &settings)
        } else if channels != out {
            unit(g, &format!("{name}.conv1x1x1_shortcut"), x, &point(out))
        } else {
            x
        };
        g.add(&format!("{name}.add"), &[y, skip])
    }

    fn same_size_gate(&self, g: &mut GraphBuilder, name: &str, signal: NodeId, skip: NodeId, groups: usize) -> NodeId {
        let settings = ConvSettings {
            out: self.width,
            groups,
            bias: true,
            ..ConvSettings::default()
        };
        let mut side = |leaf: &str, x| {
            let x = g.convolution(&format!("{name}.{leaf}.0"), x, &settings, 0.0);
            g.norm(&format!("{name}.{leaf}.1"), x, NORM)
        };
        let sides = [side("W_g", signal), side("W_x", skip)];
        let sum = g.add(&format!("{name}.add"), &sides);
        let sum = g.relu(&format!("{name}.relu"), sum);
        let psi = g.conv(&format!("{name}.psi.0"), sum, 1, [1; 3], [1; 3], true, 0.0);
        let psi = g.norm(&format!("{name}.psi.1"), psi, NORM);
        let psi = g.activation(&format!("{name}.psi.2"), psi, Activation::Sigmoid);
        g.mul(&format!("{name}.mul"), &[skip, psi])
    }
}

/// Norm → ReLU → convolution.
fn unit(g: &mut GraphBuilder, name: &str, x: NodeId, settings: &ConvSettings) -> NodeId {
    let x = g.norm(&format!("{name}.bn"), x, NORM);
    let x = g.relu(&format!("{name}.act_fn"), x);
    g.convolution(&format!("{name}.conv"), x, settings, 0.0)
}

fn grid_gate(g: &mut GraphBuilder, name: &str, signal: NodeId, skip: NodeId) -> NodeId {
    let channels = g.channels(skip);
    let theta = g.conv(&format!("{name}.theta"), skip, channels, [2; 3], [2; 3], false, 0.0);
    let phi = g.conv(&format!("{name}.phi"), signal, channels, [1; 3], [1; 3], true, 0.0);
    let sum = g.add(&format!("{name}.add"), &[theta, phi]);
    let sum = g.relu(&format!("{name}.relu"), sum);
    let psi = g.conv(&format!("{name}.psi"), sum, 1, [1; 3], [1; 3], true, 0.0);
    let psi = g.activation(&format!("{name}.sigmoid"), psi, Activation::Sigmoid);
    let psi = g.enlarge(&format!("{name}.up"), psi, [2; 3], false);
    let weighted = g.mul(&format!("{name}.mul"), &[skip, psi]);
    let out = g.conv(&format!("{name}.W.0"), weighted, channels, [1; 3], [1; 3], true, 0.0);
    g.norm(&format!("{name}.W.1"), out, NORM)
}
