//! nnU-Net's U-Nets: `PlainConvUNet` and `ResidualEncoderUNet` of its second version (Isensee et al. 2021, 2024) for any
//! plans, and `Generic_UNet` of its first.
//!
//! Encoder: stages of convolution units (convolution → dropout → norm → leaky ReLU) or of residual blocks (ResNet-D,
//! `BasicBlockD`). Decoder: transposed convolution (kernel = stride), concatenation [up, skip], convolution units. Heads:
//! 1×1×1 on each level of the decoder (deep supervision), on the finest, or on one coarser level where the decoder ends.
//!
//! Parameters are named as in the checkpoints, whose aliases (`all_modules`, `decoder.encoder`) are left out.

use super::parts::{ConvSettings, GraphBuilder, Norm};
use crate::{Activation, Graph, NetError, NodeId, PoolKind};
use serde::{Deserialize, Serialize};

/// Settings of a U-Net.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UNet {
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of the logits.
    pub out_channels: usize,
    /// What the encoder's stages are made of.
    pub encoder: Encoder,
    /// Stages, finest first; at least two. The last is the bottleneck.
    pub stages: Vec<UNetStage>,
    /// Whether 3×3×3 and other kernels of units have a bias (projections of residual blocks never do).
    pub conv_bias: bool,
    /// Whether transposed convolutions have one; as `conv_bias` in nnU-Net v2, never in v1.
    pub up_bias: bool,
    /// Whether heads have one; always in v2, never in v1.
    pub head_bias: bool,
    /// Norm of all units.
    pub norm: Norm,
    /// Slope of the leaky ReLU; 0 for ReLU.
    pub slope: f32,
    /// Channel dropout of units; of a residual block only the first unit has it.
    pub dropout: f32,
    /// Which heads are there, and so which outputs.
    pub heads: Heads,
    /// Names of parameters.
    pub naming: Naming,
}

/// One level of a [`UNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UNetStage {
    /// Channels.
    pub features: usize,
    /// Kernel of the convolutions of this level, in encoder and decoder.
    pub kernel: [usize; 3],
    /// Step from the level above: stride of the first convolution, kernel and stride of the way back up.
    pub stride: [usize; 3],
    /// Units, or residual blocks, in the encoder; at least one.
    pub depth: usize,
    /// Units in the decoder. nnU-Net's plans list them from the coarsest level up. Not read at the bottleneck.
    pub decoder_depth: usize,
}

/// What the stages of an encoder are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// Convolution units.
    Plain,
    /// Residual blocks of two units. The shortcut averages where strided, then projects by 1×1×1 where channels change.
    Residual {
        /// Channels of one unit before the first stage, with its kernel; nnU-Net takes the first stage's.
        stem: Option<usize>,
    },
}

/// Which heads a network has. Outputs stand finest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// One on every level of the decoder, for deep supervision.
    All,
    /// Only the finest, for inference. Weights of the others stay unread.
    Finest,
    /// Only the one of this level (0 is the finest), where the decoder ends.
    Level(usize),
}

/// Whose names the parameters bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// `dynamic_network_architectures`: `encoder.stages.0.0.convs.0.conv.weight`.
    #[serde(rename = "nnunet_v2")]
    NnUnetV2,
    /// `Generic_UNet`: `conv_blocks_context.0.blocks.0.conv.weight`. Plain encoders only.
    #[serde(rename = "nnunet_v1")]
    NnUnetV1,
}

impl UNet {
    /// The graph. The input's extents must be multiples of the product of the strides.
    ///
    /// # Errors
    /// [`NetError::Settings`] when a number is zero or fewer than two stages are given.
    pub fn build(&self) -> Result<Graph, NetError> {
        self.check()?;
        let mut g = GraphBuilder::new(match self.encoder {
            Encoder::Plain => "plain_unet",
            Encoder::Residual { .. } => "residual_encoder_unet",
        });
        let mut x = g.input(self.in_channels);
        if let (Encoder::Residual { stem: Some(stem) }, [first, ..]) = (self.encoder, self.stages.as_slice()) {
            x = self.unit(&mut g, "encoder.stem.convs.0", x, (stem, first.kernel, [1; 3]));
        }
        let mut skips = Vec::new();
        for (level, stage) in self.stages.iter().enumerate() {
            for i in 0..stage.depth {
                let stride = if i == 0 { stage.stride } else { [1; 3] };
                let shape = (stage.features, stage.kernel, stride);
                x = match self.encoder {
                    Encoder::Plain => self.unit(&mut g, &self.encoder_unit(level, i), x, shape),
                    Encoder::Residual { .. } => {
                        self.block(&mut g, &format!("encoder.stages.{level}.blocks.{i}"), x, shape)
                    }
                };
            }
            skips.push(x);
        }
        skips.pop();
        let end = match self.heads {
            Heads::All | Heads::Finest => 0,
            Heads::Level(level) => level,
        };
        let mut outputs = Vec::new();
        for (step, level) in (end..skips.len()).rev().enumerate() {
            let stage = &self.stages[level];
            let (up, head) = match self.naming {
                Naming::NnUnetV2 => (
                    format!("decoder.transpconvs.{step}"),
                    format!("decoder.seg_layers.{step}"),
                ),
                Naming::NnUnetV1 => (format!("tu.{step}"), format!("seg_outputs.{step}")),
            };
            let stride = self.stages[level + 1].stride;
            let enlarged = g.conv_transpose(&up, x, stage.features, stride, self.up_bias, self.slope);
            x = g.concat(&format!("{up}.concat"), &[enlarged, skips[level]]);
            for i in 0..stage.decoder_depth {
                let shape = (stage.features, stage.kernel, [1; 3]);
                x = self.unit(&mut g, &self.decoder_unit(step, i, stage.decoder_depth), x, shape);
            }
            if self.heads == Heads::All || level == end {
                outputs.push(g.conv(&head, x, self.out_channels, [1; 3], [1; 3], self.head_bias, self.slope));
            }
        }
        outputs.reverse();
        Ok(g.finish(outputs))
    }

    fn check(&self) -> Result<(), NetError> {
        let fail = |reason: String| {
            Err(NetError::Settings {
                network: "U-Net",
                reason,
            })
        };
        if self.stages.len() < 2 {
            return fail(format!("{} stages; at least two are needed", self.stages.len()));
        }
        for (level, stage) in self.stages.iter().enumerate() {
            let decoder = level + 1 < self.stages.len() && stage.decoder_depth == 0;
            if stage.features == 0 || stage.depth == 0 || decoder {
                return fail(format!("stage {level} has no channels or no convolutions"));
            }
            if [stage.kernel, stage.stride].as_flattened().contains(&0) {
                return fail(format!("kernel and stride of stage {level} must be positive"));
            }
        }
        if self.in_channels == 0 || self.out_channels == 0 || self.encoder == (Encoder::Residual { stem: Some(0) }) {
            return fail("channels must be positive".to_owned());
        }
        if let Heads::Level(level) = self.heads
            && level + 1 >= self.stages.len()
        {
            return fail(format!("no head on level {level} of {} stages", self.stages.len()));
        }
        if self.naming == Naming::NnUnetV1 && self.encoder != Encoder::Plain {
            return fail("nnU-Net v1 has no residual encoder".to_owned());
        }
        Ok(())
    }

    fn encoder_unit(&self, level: usize, i: usize) -> String {
        let (last, depth) = (level + 1 == self.stages.len(), self.stages[level].depth);
        match self.naming {
            Naming::NnUnetV2 => format!("encoder.stages.{level}.0.convs.{i}"),
            // The bottleneck is two stacks, of which the second has one unit.
            Naming::NnUnetV1 if last && i + 1 == depth => format!("conv_blocks_context.{level}.1.blocks.0"),
            Naming::NnUnetV1 if last => format!("conv_blocks_context.{level}.0.blocks.{i}"),
            Naming::NnUnetV1 => format!("conv_blocks_context.{level}.blocks.{i}"),
        }
    }

    fn decoder_unit(&self, step: usize, i: usize, depth: usize) -> String {
        match self.naming {
            Naming::NnUnetV2 => format!("decoder.stages.{step}.convs.{i}"),
            Naming::NnUnetV1 if i + 1 == depth => format!("conv_blocks_localization.{step}.1.blocks.0"),
            Naming::NnUnetV1 => format!("conv_blocks_localization.{step}.0.blocks.{i}"),
        }
    }

    /// Convolution → dropout → norm → leaky ReLU; the shape is channels, kernel and stride.
    fn unit(&self, g: &mut GraphBuilder, name: &str, x: NodeId, shape: (usize, [usize; 3], [usize; 3])) -> NodeId {
        let x = self.conv_norm(g, name, x, shape, (self.conv_bias, self.dropout, 1.0));
        let leaf = match self.naming {
            Naming::NnUnetV2 => "nonlin",
            Naming::NnUnetV1 => "lrelu",
        };
        self.activate(g, &format!("{name}.{leaf}"), x)
    }

    /// The same without the activation; `with` is bias, dropout and the weight at which the norm starts.
    fn conv_norm(
        &self,
        g: &mut GraphBuilder,
        name: &str,
        x: NodeId,
        (out, kernel, stride): (usize, [usize; 3], [usize; 3]),
        (bias, dropout, start): (bool, f32, f32),
    ) -> NodeId {
        let settings = ConvSettings {
            out,
            kernel,
            stride,
            bias,
            ..ConvSettings::default()
        };
        let x = g.convolution(&format!("{name}.conv"), x, &settings, self.slope);
        let x = g.dropout(&format!("{name}.dropout"), x, dropout);
        let leaf = match self.naming {
            Naming::NnUnetV2 => "norm",
            Naming::NnUnetV1 => "instnorm",
        };
        g.norm_from(&format!("{name}.{leaf}"), x, self.norm, start)
    }

    fn activate(&self, g: &mut GraphBuilder, name: &str, x: NodeId) -> NodeId {
        g.activation(name, x, Activation::LeakyRelu { slope: self.slope })
    }

    /// A residual block. Its last norm starts at weight 0, so that a fresh block is its shortcut, as in nnU-Net.
    fn block(
        &self,
        g: &mut GraphBuilder,
        name: &str,
        x: NodeId,
        (out, kernel, stride): (usize, [usize; 3], [usize; 3]),
    ) -> NodeId {
        let y = self.unit(g, &format!("{name}.conv1"), x, (out, kernel, stride));
        let same = (out, kernel, [1; 3]);
        let y = self.conv_norm(g, &format!("{name}.conv2"), y, same, (self.conv_bias, 0.0, 0.0));
        let (mut skip, mut place) = (x, 0);
        if stride != [1; 3] {
            skip = g.pool(
                &format!("{name}.skip.0"),
                skip,
                PoolKind::Average,
                stride,
                stride,
                [0; 3],
            );
            place = 1;
        }
        if g.channels(x) != out {
            let point = (out, [1; 3], [1; 3]);
            skip = self.conv_norm(g, &format!("{name}.skip.{place}"), skip, point, (false, 0.0, 1.0));
        }
        let sum = g.add(&format!("{name}.add"), &[y, skip]);
        self.activate(g, &format!("{name}.nonlin2"), sum)
    }
}
