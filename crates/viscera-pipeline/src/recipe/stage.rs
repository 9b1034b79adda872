//! One stage of a recipe: what its network sees, what it is, how its answer is read.

use super::{Inference, NetworkSpec, Normalise, Resample, StageClasses};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A `[[stage]]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Unique name; weights and training refer to it.
    pub id: String,
    /// What its answer is for.
    pub role: Role,
    /// The classes that its network tells apart.
    #[serde(default, skip_serializing_if = "StageClasses::are_all")]
    pub classes: StageClasses,
    /// Axes of what it sees.
    #[serde(default)]
    pub orient: Orient,
    /// Order of axes of what it sees: its axis `a` is axis `axes[a]` of `[z, y, x]`. Triples of this stage's grid and
    /// inference are in its own order.
    #[serde(default = "own_axes", skip_serializing_if = "are_own_axes")]
    pub axes: [usize; 3],
    /// Which part of the scan it sees; the whole without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi: Option<RoiSpec>,
    /// What is cut off before everything else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<Crop>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Finds where a later stage should look.
    Localise,
    /// Gives the label map.
    Segment,
    /// Nothing: a network alone, of which nobody has said how a scan reaches it.
    Bare,
}

/// Axes of what a network sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Orient {
    /// x grows to the right, y to the front, z upwards.
    #[default]
    #[serde(rename = "RAS")]
    Ras,
    /// As the voxels lie in the file.
    #[serde(rename = "file")]
    File,
}

fn own_axes() -> [usize; 3] {
    [0, 1, 2]
}

fn are_own_axes(axes: &[usize; 3]) -> bool {
    *axes == own_axes()
}

/// What is cut off before everything else: the box that stays, within the stage's ROI where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Crop {
    /// The box around voxels that are not exactly 0 (nnU-Net; filling the holes between them does not change the box).
    NonZero,
    /// The box around voxels of at least so many HU: the body and the table.
    AboveHu(f64),
    /// The middle slices, so many of the scan's (Gao et al., FLARE23). What lies above and below is background: accuracy
    /// collapses.
    MiddleSlices(usize),
    /// The middle slices, so many millimetres: the same, counted after resampling to 1 mm.
    MiddleMm(f64),
}

/// The part of the scan that a stage sees: the box around what an earlier stage found, grown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoiSpec {
    /// Id of the earlier stage.
    pub from: String,
    /// Growth on each side in mm, `[z, y, x]`.
    pub margin_mm: [f64; 3],
}

/// A rule on the connected components (26 neighbours) of a label map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostRule {
    /// StageClasses of which only the largest component stays.
    pub keep_largest: Keep,
    /// That component goes too unless it is larger than this, in mm³ of the real spacing.
    #[serde(default)]
    pub min_volume_mm3: f64,
}

/// StageClasses that a rule speaks of: `"all"` or a list of names.
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
