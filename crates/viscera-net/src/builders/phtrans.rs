//! PHTrans (Liu et al. 2022): a U-Net whose deeper stages run convolutions and 3-D shifted-window attention side by side.
//!
//! Convolution unit: convolution with bias → channel dropout → instance norm → GELU. Where attention runs too, its result
//! is added to the convolutions'. In the decoder the convolutions read the concatenation [up, skip], attention their sum. A
//! strided convolution leads down, a transposed one up, each with an instance norm and without bias.
//!
//! Parameters have the original's names. A linear layer is a 1×1×1 convolution, its weight `[out, in, 1, 1, 1]`.

use super::parts::{ConvSettings, GraphBuilder, NORM_EPS, Norm};
use crate::{Activation, Graph, NetError, NodeId};
use serde::{Deserialize, Serialize};

const NORM: Norm = Norm::Instance {
    eps: NORM_EPS,
    affine: true,
};
const TOKEN_NORM: Norm = Norm::Layer {
    eps: NORM_EPS,
    affine: true,
};
/// The original's He initialisation.
const SLOPE: f32 = 0.02;

/// Settings of PHTrans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhTrans {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// Channels of the finest stage, doubled at each below; 24.
    pub base_features: usize,
    /// Most channels of a stage; 312.
    pub max_features: usize,
    /// Kernel of each stage's convolutions, finest first; at least two stages.
    pub kernels: Vec<[usize; 3]>,
    /// Steps between the stages, one less than kernels.
    pub strides: Vec<[usize; 3]>,
    /// Heads of attention in each stage after those of convolutions only; the last is the bottleneck's. They divide the
    /// stage's channels.
    pub heads: Vec<usize>,
    /// Attention's window. It must divide the extents of every stage with attention.
    pub window: [usize; 3],
    /// Channel dropout of convolution units; 0.1.
    pub dropout: f32,
    /// Stochastic depth of the last stage's last block; those before rise to it evenly from 0; 0.2.
    pub drop_path: f32,
    /// Heads on every level, for training (the bottleneck's is there too and trains nothing, as in the original), or only
    /// the finest.
    pub deep_supervision: bool,
}

/// Attention blocks of a stage: one on plain windows, one on shifted ones.
const BLOCKS: usize = 2;

impl PhTrans {
    /// The graph.
    ///
    /// # Errors
    /// [`NetError::Settings`] when lists have the wrong length or heads do not divide channels.
    pub fn build(&self) -> Result<Graph, NetError> {
        self.check()?;
        let mut g = GraphBuilder::new("phtrans");
        let mut x = g.input(self.in_channels);
        let mut skips = Vec::new();
        let bottom = self.strides.len();
        for stage in 0..bottom {
            let name = format!("down_layers.{stage}");
            x = self.stage(&mut g, &name, stage, x, None);
            skips.push(x);
            let settings = ConvSettings {
                out: self.features(stage + 1),
                kernel: self.strides[stage],
                stride: self.strides[stage],
                ..ConvSettings::default()
            };
            x = g.convolution(&format!("{name}.down_or_upsample.0"), x, &settings, SLOPE);
            x = g.norm(&format!("{name}.down_or_upsample.1"), x, NORM);
        }
        let mut outputs = Vec::new();
        for (place, stage) in (0..=bottom).rev().enumerate() {
            let name = format!("up_layers.{place}");
            let skip = skips.get(stage).copied();
            x = self.stage(&mut g, &name, stage, x, skip);
            if self.deep_supervision || stage == 0 {
                let head = format!("{name}.deep_supervision.proj");
                let head = g.conv(&head, x, self.out_channels, [1; 3], [1; 3], false, SLOPE);
                if stage < bottom {
                    outputs.push(head);
                }
            }
            if stage > 0 {
                let (out, kernel) = (self.features(stage - 1), self.strides[stage - 1]);
                x = g.conv_transpose(&format!("{name}.down_or_upsample.0"), x, out, kernel, false, SLOPE);
                x = g.norm(&format!("{name}.down_or_upsample.1"), x, NORM);
            }
        }
        outputs.reverse();
        Ok(g.finish(outputs))
    }

    fn check(&self) -> Result<(), NetError> {
        let fail = |reason: String| {
            Err(NetError::Settings {
                network: "PHTrans",
                reason,
            })
        };
        let (kernels, strides, heads) = (self.kernels.len(), self.strides.len(), self.heads.len());
        if kernels < 2 || strides + 1 != kernels || heads > kernels {
            return fail(format!(
                "{kernels} kernels, {strides} strides and {heads} heads do not make stages"
            ));
        }
        let positive = [self.kernels.as_flattened(), self.strides.as_flattened(), &self.window].concat();
        if positive.contains(&0) || self.in_channels.min(self.out_channels).min(self.base_features) == 0 {
            return fail("channels, kernels, strides and window must be positive".to_owned());
        }
        let first = kernels - heads;
        for (i, &heads) in self.heads.iter().enumerate() {
            let features = self.features(first + i);
            if heads == 0 || !features.is_multiple_of(heads) {
                return fail(format!(
                    "{heads} heads do not divide the {features} channels of stage {}",
                    first + i
                ));
            }
        }
        Ok(())
    }

    fn features(&self, stage: usize) -> usize {
        let doubled = u32::try_from(stage).ok().and_then(|s| 2usize.checked_pow(s));
        let wide = doubled.and_then(|d| d.checked_mul(self.base_features));
        wide.map_or(self.max_features, |wide| wide.min(self.max_features))
    }

    /// Two convolution units and, where the stage has heads, attention beside them.
    fn stage(&self, g: &mut GraphBuilder, name: &str, stage: usize, x: NodeId, skip: Option<NodeId>) -> NodeId {
        let mut y = match skip {
            Some(skip) => g.concat(&format!("{name}.concat"), &[x, skip]),
            None => x,
        };
        let settings = ConvSettings {
            out: self.features(stage),
            kernel: self.kernels[stage],
            bias: true,
            ..ConvSettings::default()
        };
        for i in 0..2 {
            let unit = format!("{name}.conv_blocks.{i}");
            y = g.convolution(&format!("{unit}.conv"), y, &settings, SLOPE);
            y = g.dropout(&format!("{unit}.dropout"), y, self.dropout);
            y = g.norm(&format!("{unit}.instnorm"), y, NORM);
            y = g.activation(&format!("{unit}.lrelu"), y, Activation::Gelu);
        }
        let Some(place) = stage.checked_sub(self.kernels.len() - self.heads.len()) else {
            return y;
        };
        let mut tokens = match skip {
            Some(skip) => g.add(&format!("{name}.swin_add"), &[x, skip]),
            None => x,
        };
        for block in 0..BLOCKS {
            let depth = BLOCKS * self.heads.len() - 1;
            let drop_path = self.drop_path * (BLOCKS * place + block) as f32 / depth as f32;
            tokens = self.swin(
                g,
                &format!("{name}.swin_blocks.{block}"),
                tokens,
                (place, block),
                drop_path,
            );
        }
        g.add(&format!("{name}.add"), &[y, tokens])
    }

    /// A Swin transformer block: attention and a perceptron of four times the width, each after a norm and added.
    fn swin(
        &self,
        g: &mut GraphBuilder,
        name: &str,
        x: NodeId,
        (place, block): (usize, usize),
        drop_path: f32,
    ) -> NodeId {
        let channels = g.channels(x);
        let shift = if block == 0 { [0; 3] } else { self.window.map(|w| w / 2) };
        let y = g.norm(&format!("{name}.norm1"), x, TOKEN_NORM);
        let y = g.linear(&format!("{name}.attn.qkv"), y, 3 * channels);
        let y = g.window_attention(&format!("{name}.attn"), y, self.heads[place], self.window, shift);
        let y = g.linear(&format!("{name}.attn.proj"), y, channels);
        let y = g.drop_path(&format!("{name}.drop_path1"), y, drop_path);
        let x = g.add(&format!("{name}.add1"), &[x, y]);
        let y = g.norm(&format!("{name}.norm2"), x, TOKEN_NORM);
        let y = g.linear(&format!("{name}.mlp.fc1"), y, 4 * channels);
        let y = g.activation(&format!("{name}.mlp.act"), y, Activation::Gelu);
        let y = g.linear(&format!("{name}.mlp.fc2"), y, channels);
        let y = g.drop_path(&format!("{name}.drop_path2"), y, drop_path);
        g.add(&format!("{name}.add2"), &[x, y])
    }
}
