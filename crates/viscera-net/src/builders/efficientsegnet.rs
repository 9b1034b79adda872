//! EfficientSegNet, the fine network of FLARE21's winner (Zhang et al. 2022).
//!
//! A residual encoder of five stages, a context block of pyramid and strip pooling at the bottom, and a slim decoder:
//! 1×1×1 unit, trilinear enlargement (align-corners), additive skip, one anisotropic block. Head: 1×1×1, no bias.

use super::GraphBuilder;
use crate::{Graph, NodeId, PoolKind};
use serde::{Deserialize, Serialize};

/// Which axes the two kernels of an anisotropic block cover; the paper's text and the authors' code differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plane {
    /// (1,3,3) then (3,1,1): in the slice, then between slices, as the paper means it.
    Paper,
    /// (3,3,1) then (1,1,3), as the released code has it; needed for its weights.
    Code,
}

impl Plane {
    fn kernels(self) -> [[usize; 3]; 2] {
        match self {
            Self::Paper => [[1, 3, 3], [3, 1, 1]],
            Self::Code => [[3, 3, 1], [1, 1, 3]],
        }
    }
}

/// Settings of EfficientSegNet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EfficientSegNet {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the finest level, doubled at each of the four levels below; 16 in the paper.
    pub base_features: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Channel dropout; 0.2 in the authors' code.
    pub dropout: f32,
    /// Layout of the anisotropic kernels.
    pub plane: Plane,
    /// Whether there is a context block; without one, the decoder follows the encoder: for comparisons.
    #[serde(default = "yes")]
    pub context: bool,
}

fn yes() -> bool {
    true
}

impl EfficientSegNet {
    /// The graph. The input's extents must be at least 64, so that the context block can pool by 4; 32 without
    /// one.
    #[must_use]
    pub fn build(&self) -> Graph {
        let mut g = GraphBuilder::new("efficientsegnet");
        let mut x = g.input(self.in_channels);
        let mut stages: Vec<NodeId> = Vec::new();
        for stage in 0..5 {
            let out = self.base_features << stage;
            let stride = if stage == 0 { 1 } else { 2 };
            for block in 0..2 {
                x = g.residual(
                    &format!("encoder.{stage}.block{block}"),
                    x,
                    out,
                    [[3; 3]; 2],
                    if block == 0 { stride } else { 1 },
                    block == 0,
                    self.dropout,
                );
            }
            stages.push(x);
        }
        if self.context {
            x = self.context(&mut g, x);
        }
        for level in (0..4).rev() {
            let out = self.base_features << level;
            let name = format!("decoder.{level}");
            let reduced = g.conv_norm_relu(&format!("{name}.reduce"), x, out, [1; 3], 1, self.dropout);
            let up = g.resize_like(&format!("{name}.up"), reduced, stages[level], true);
            let sum = g.add(&format!("{name}.add"), &[up, stages[level]]);
            let kernels = self.plane.kernels();
            x = g.residual(&format!("{name}.block"), sum, out, kernels, 1, true, self.dropout);
        }
        let logits = g.conv("head", x, self.out_channels, [1; 3], [1; 3], false, 0.0);
        g.finish(vec![logits])
    }

    /// The context block: pooled by 1, 2 and 4 in one branch, by whole planes in the other.
    fn context(&self, g: &mut GraphBuilder, x: NodeId) -> NodeId {
        let wide = g.channels(x);
        let narrow = wide / 4;
        let p = self.dropout;
        let t = g.conv_norm_relu("context.reduce", x, narrow, [1; 3], 1, p);

        let a = g.conv_norm_relu("context.pyramid.reduce", t, narrow, [1; 3], 1, p);
        let mut scales = vec![g.conv_norm("context.pyramid.full", a, narrow, [3; 3], 1)];
        for factor in [2, 4] {
            let name = format!("context.pyramid.pool{factor}");
            let pooled = g.pool(&name, a, PoolKind::Average, [factor; 3], [factor; 3], [0; 3]);
            let conv = g.conv_norm(&format!("{name}.conv"), pooled, narrow, [3; 3], 1);
            scales.push(g.resize_like(&format!("{name}.up"), conv, a, true));
        }
        let sum = g.add("context.pyramid.add", &scales);
        let sum = g.relu("context.pyramid.relu", sum);
        let pyramid = g.conv_norm_relu("context.pyramid.out", sum, narrow, [3; 3], 1, p);

        let b = g.conv_norm_relu("context.strip.reduce", t, narrow, [1; 3], 1, p);
        let mut strips = Vec::new();
        for (axis, name) in ["z", "y", "x"].into_iter().enumerate() {
            let mut over = [true; 3];
            over[axis] = false;
            let mut kernel = [1; 3];
            kernel[axis] = 3;
            let name = format!("context.strip.{name}");
            let pooled = g.axis_mean(&name, b, over);
            let conv = g.conv_norm(&format!("{name}.conv"), pooled, narrow, kernel, 1);
            strips.push(g.resize_like(&format!("{name}.up"), conv, b, true));
        }
        let sum = g.add("context.strip.add", &strips);
        let sum = g.relu("context.strip.relu", sum);
        let strip = g.conv_norm_relu("context.strip.out", sum, narrow, [3; 3], 1, p);

        let joined = g.concat("context.concat", &[pyramid, strip]);
        let merged = g.conv_norm("context.merge", joined, narrow, [1; 3], 1);
        let sum = g.add("context.add", &[t, merged]);
        let r = g.relu("context.relu", sum);
        let out = g.conv_norm_relu("context.out", r, narrow, [3; 3], 1, p);
        g.conv("context.expand", out, wide, [1; 3], [1; 3], false, 0.0)
    }
}
