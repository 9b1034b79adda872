//! One network of a recipe: what it sees, what it is, how its answer is read.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use viscera_image::Convention;
use viscera_net::Graph;
use viscera_net::builders::{CoarseUnet, EfficientSegNet, Plane};

/// A `[[stage]]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique name; weights and training refer to it.
    pub id: String,
    /// What its answer is for.
    pub role: Role,
    /// Axes of what it sees.
    #[serde(default)]
    pub orient: Orient,
    /// Which part of the scan it sees; the whole without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi: Option<RoiSpec>,
    /// Its grid.
    pub resample: Resample,
    /// Its intensities.
    pub normalise: Normalise,
    /// Its network.
    pub network: NetworkSpec,
    /// How it is run and read.
    pub inference: Inference,
    /// Rules that clean its label map, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub postprocess: Vec<PostRule>,
}

/// What a stage's answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Finds where a later stage should look.
    Localise,
    /// Gives the label map.
    Segment,
}

/// Axes of what a network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Orient {
    /// x grows to the right, y to the front, z upwards.
    #[default]
    #[serde(rename = "RAS")]
    Ras,
}

/// The part of the scan that a stage sees: the box around what an earlier stage found, grown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoiSpec {
    /// Id of the earlier stage.
    pub from: String,
    /// Growth on each side in mm, `[z, y, x]`.
    pub margin_mm: [f64; 3],
}

/// The grid of a network's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resample {
    /// Voxels `[z, y, x]`, whatever the spacing becomes.
    pub size: [usize; 3],
    /// How the two grids correspond.
    pub convention: Convention,
}

/// How HU become network input, after resampling.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Normalise {
    /// Lowest and highest HU kept; what lies beyond is set to them.
    pub window_hu: [f64; 2],
    /// What mean and standard deviation are taken from.
    pub zscore: ZScore,
}

/// What mean and standard deviation are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZScore {
    /// The resampled, windowed input itself.
    Case,
}

/// A network by its builder and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
        plane: Plane,
    },
}

impl NetworkSpec {
    /// The network for so many channels in and out.
    #[must_use]
    pub fn graph(&self, in_channels: usize, out_channels: usize) -> Graph {
        match *self {
            Self::CoarseUnet { base_features, dropout } => CoarseUnet {
                in_channels,
                base_features,
                out_channels,
                decoder_blocks: 1,
                dropout: dropout as f32,
            }
            .build(),
            Self::EfficientSegNet {
                base_features,
                dropout,
                plane,
            } => EfficientSegNet {
                in_channels,
                base_features,
                out_channels,
                dropout: dropout as f32,
                plane,
            }
            .build(),
        }
    }

    pub(super) fn base_features(&self) -> usize {
        match *self {
            Self::CoarseUnet { base_features, .. } | Self::EfficientSegNet { base_features, .. } => base_features,
        }
    }

    pub(super) fn dropout(&self) -> f64 {
        match *self {
            Self::CoarseUnet { dropout, .. } | Self::EfficientSegNet { dropout, .. } => dropout,
        }
    }
}

/// How a network is run and its logits read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inference {
    /// How the volume reaches the network.
    pub mode: Mode,
    /// What makes probabilities of logits. One channel per class, in the label table's order; no background channel.
    pub activation: Activation,
    /// Probability from which a voxel belongs to a class; where several reach it, the greatest wins.
    pub threshold: f64,
}

/// How the volume reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At once.
    WholeVolume,
}

/// What makes probabilities of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Each channel for itself.
    Sigmoid,
}

impl Inference {
    /// The logit from which a voxel belongs to a class: ln(t / (1 − t)), 0 for t = 0.5.
    #[must_use]
    pub fn logit_threshold(&self) -> f32 {
        (self.threshold / (1.0 - self.threshold)).ln() as f32
    }
}

/// A rule on the connected components (26 neighbours) of a label map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostRule {
    /// Classes of which only the largest component stays.
    pub keep_largest: Keep,
    /// That component goes too unless it is larger than this, in mm³ of the real spacing.
    #[serde(default)]
    pub min_volume_mm3: f64,
}

/// Classes that a rule speaks of: `"all"` or a list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// Every class.
    All,
    /// The classes named.
    Named(Vec<String>),
}

impl Keep {
    /// Whether a class is meant.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.iter().any(|n| n == name),
        }
    }
}

impl Serialize for Keep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Named(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Keep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Keep;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"all\" or a list of class names")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Keep, E> {
                match text {
                    "all" => Ok(Keep::All),
                    other => Err(E::invalid_value(de::Unexpected::Str(other), &self)),
                }
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Keep, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Keep::Named(names))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
