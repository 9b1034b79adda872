//! Networks of a recipe, by builder and settings.

use super::schema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use viscera_net::builders::{
    CoarseUnet, DmfNet, EfficientSegNet, Encoder, Gates, Heads, Naming, Norm, PhTrans, Plane, UNet, UNetStage,
};
use viscera_net::{Graph, NetError};

/// A network by its builder and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "arch", rename_all = "snake_case", deny_unknown_fields)]
pub enum NetworkSpec {
    /// [`CoarseUnet`].
    CoarseUnet {
        /// Channels of the finest level.
        base_features: usize,
        /// Channel dropout in training.
        dropout: f64,
    },
    /// [`EfficientSegNet`].
    #[serde(rename = "efficientsegnet")]
    EfficientSegNet {
        /// Channels of the finest level.
        base_features: usize,
        /// Channel dropout in training.
        dropout: f64,
        /// Layout of the anisotropic kernels.
        #[schemars(schema_with = "schema::plane")]
        plane: Plane,
        /// Whether it has its context block.
        #[serde(default = "yes", skip_serializing_if = "is_yes")]
        context: bool,
    },
    /// nnU-Net v2's `PlainConvUNet`.
    PlainUnet(UnetPlan),
    /// nnU-Net v2's `ResidualEncoderUNet`.
    ResidualEncoderUnet(UnetPlan),
    /// nnU-Net v1's `Generic_UNet`: heads and transposed convolutions have no bias.
    GenericUnet(UnetPlan),
    /// MFNet, DMFNet, Attention DMFNet: [`DmfNet`].
    #[serde(rename = "dmfnet")]
    DmfNet {
        /// Channels at half resolution.
        stem: usize,
        /// Channels at a quarter; twice as many from an eighth on.
        width: usize,
        /// Groups of the spatial convolutions.
        groups: usize,
        /// Whether units at a quarter and an eighth have three dilated convolutions.
        dilated: bool,
        /// What weighs the skips.
        #[schemars(schema_with = "schema::gates")]
        gates: Gates,
        /// Layout of the flat kernels.
        #[schemars(schema_with = "schema::plane")]
        plane: Plane,
    },
    /// [`PhTrans`].
    #[serde(rename = "phtrans")]
    PhTrans {
        /// Channels of the finest stage.
        base_features: usize,
        /// Most channels of a stage.
        max_features: usize,
        /// Kernel of each stage's convolutions, finest first.
        kernels: Vec<[usize; 3]>,
        /// Steps between the stages.
        strides: Vec<[usize; 3]>,
        /// Heads of attention in the stages that have it, the bottleneck's last.
        heads: Vec<usize>,
        /// Attention's window.
        window: [usize; 3],
        /// Channel dropout in training.
        dropout: f64,
        /// Stochastic depth of the last block in training.
        drop_path: f64,
        /// Whether there is a head on every level; the finest comes first.
        deep_supervision: bool,
    },
    /// A graph that lies in the model file.
    Graph {},
}

fn yes() -> bool {
    true
}

fn is_yes(value: &bool) -> bool {
    *value
}

/// What nnU-Net's plans say of a network. Lists run from the finest level to the bottleneck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnetPlan {
    /// Channels (`features_per_stage`).
    pub features: Vec<usize>,
    /// Kernels (`kernel_sizes`), in the stage's order of axes.
    pub kernels: Vec<[usize; 3]>,
    /// Steps from the level above (`strides`).
    pub strides: Vec<[usize; 3]>,
    /// Convolutions or residual blocks of the encoder (`n_conv_per_stage`, `n_blocks_per_stage`).
    pub depths: Vec<usize>,
    /// Convolutions of the decoder (`n_conv_per_stage_decoder`), the coarsest level first; one fewer than levels.
    pub decoder_depths: Vec<usize>,
    /// Channels of the stem of a residual encoder; those of the finest level without (`stem_channels`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<usize>,
    /// Whether convolutions have a bias.
    pub conv_bias: bool,
    /// Epsilon of the instance norms.
    pub norm_eps: f64,
    /// Whether the norms have weights.
    pub norm_affine: bool,
    /// Slope of the leaky ReLU.
    pub slope: f64,
    /// Channel dropout in training.
    pub dropout: f64,
    /// Whether there is a head on every level; the finest comes first.
    pub deep_supervision: bool,
}

impl NetworkSpec {
    /// Its builder's name in recipes.
    #[must_use]
    pub fn arch(&self) -> &'static str {
        match self {
            Self::CoarseUnet { .. } => "coarse_unet",
            Self::EfficientSegNet { .. } => "efficientsegnet",
            Self::PlainUnet(_) => "plain_unet",
            Self::ResidualEncoderUnet(_) => "residual_encoder_unet",
            Self::GenericUnet(_) => "generic_unet",
            Self::DmfNet { .. } => "dmfnet",
            Self::PhTrans { .. } => "phtrans",
            Self::Graph {} => "graph",
        }
    }

    /// The network for so many channels in and out.
    ///
    /// # Errors
    /// [`NetError::Settings`] when lists differ in length, a number is zero, or the graph is not in the recipe.
    pub fn graph(&self, in_channels: usize, out_channels: usize) -> Result<Graph, NetError> {
        match self {
            Self::CoarseUnet { base_features, dropout } => Ok(CoarseUnet {
                in_channels,
                base_features: *base_features,
                out_channels,
                decoder_blocks: 1,
                dropout: *dropout as f32,
            }
            .build()),
            Self::EfficientSegNet {
                base_features,
                dropout,
                plane,
                context,
            } => Ok(EfficientSegNet {
                in_channels,
                base_features: *base_features,
                out_channels,
                dropout: *dropout as f32,
                plane: *plane,
                context: *context,
            }
            .build()),
            Self::PlainUnet(plan) => plan.unet(in_channels, out_channels, false)?.build(),
            Self::ResidualEncoderUnet(plan) => plan.unet(in_channels, out_channels, true)?.build(),
            Self::GenericUnet(plan) => UNet {
                up_bias: false,
                head_bias: false,
                naming: Naming::NnUnetV1,
                ..plan.unet(in_channels, out_channels, false)?
            }
            .build(),
            Self::DmfNet {
                stem,
                width,
                groups,
                dilated,
                gates,
                plane,
            } => DmfNet {
                in_channels,
                out_channels,
                stem: *stem,
                width: *width,
                groups: *groups,
                dilated: *dilated,
                gates: *gates,
                plane: *plane,
            }
            .build(),
            Self::PhTrans {
                base_features,
                max_features,
                kernels,
                strides,
                heads,
                window,
                dropout,
                drop_path,
                deep_supervision,
            } => PhTrans {
                in_channels,
                out_channels,
                base_features: *base_features,
                max_features: *max_features,
                kernels: kernels.clone(),
                strides: strides.clone(),
                heads: heads.clone(),
                window: *window,
                dropout: *dropout as f32,
                drop_path: *drop_path as f32,
                deep_supervision: *deep_supervision,
            }
            .build(),
            Self::Graph {} => Err(NetError::Settings {
                network: "graph",
                reason: "the graph lies in a model file; a recipe alone does not have it".to_owned(),
            }),
        }
    }

    /// Widest level, and channel dropout.
    pub(super) fn limits(&self) -> (Option<usize>, f64) {
        match self {
            Self::CoarseUnet { base_features, dropout }
            | Self::EfficientSegNet {
                base_features, dropout, ..
            } => (Some(*base_features), *dropout),
            Self::PlainUnet(plan) | Self::ResidualEncoderUnet(plan) | Self::GenericUnet(plan) => (None, plan.dropout),
            Self::DmfNet { stem, width, .. } => (Some(*stem.max(width)), 0.0),
            Self::PhTrans {
                base_features, dropout, ..
            } => (Some(*base_features), *dropout),
            Self::Graph {} => (None, 0.0),
        }
    }
}

impl UnetPlan {
    fn unet(&self, in_channels: usize, out_channels: usize, residual: bool) -> Result<UNet, NetError> {
        let fail = |reason: String| NetError::Settings {
            network: "U-Net",
            reason,
        };
        let levels = self.features.len();
        let lists = [
            ("kernels", self.kernels.len(), levels),
            ("strides", self.strides.len(), levels),
            ("depths", self.depths.len(), levels),
            ("decoder_depths", self.decoder_depths.len() + 1, levels),
        ];
        if let Some((name, found, _)) = lists.iter().find(|(_, found, want)| found != want) {
            return Err(fail(format!("{name} does not fit {levels} levels: {found} there")));
        }
        if !residual && self.stem.is_some() {
            return Err(fail("a plain encoder has no stem".to_owned()));
        }
        let decoder = self.decoder_depths.iter().rev().copied().chain([0]);
        let stages = self
            .features
            .iter()
            .zip(&self.kernels)
            .zip(&self.strides)
            .zip(&self.depths)
            .zip(decoder)
            .map(|((((&features, &kernel), &stride), &depth), decoder_depth)| UNetStage {
                features,
                kernel,
                stride,
                depth,
                decoder_depth,
            })
            .collect();
        let stem = self.stem.or(self.features.first().copied());
        Ok(UNet {
            in_channels,
            out_channels,
            encoder: if residual {
                Encoder::Residual { stem }
            } else {
                Encoder::Plain
            },
            stages,
            conv_bias: self.conv_bias,
            up_bias: self.conv_bias,
            head_bias: true,
            norm: Norm::Instance {
                eps: self.norm_eps as f32,
                affine: self.norm_affine,
            },
            slope: self.slope as f32,
            dropout: self.dropout as f32,
            heads: if self.deep_supervision {
                Heads::All
            } else {
                Heads::Finest
            },
            naming: Naming::NnUnetV2,
        })
    }
}
