//! One stage of a recipe: what its network sees, what it is, how its answer is read.

use super::{Inference, NetworkSpec, Normalise, PostRule, Resample, StageClasses};
use crate::window::shrunk;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

impl Stage {
    /// The same with the patch of its sliding window, if it has one, shorter by so many eighths.
    pub(crate) fn with_patches(&self, eighths: u8) -> Self {
        let mut stage = self.clone();
        if let Some(window) = &mut stage.inference.window {
            window.patch = shrunk(window.patch, eighths);
        }
        stage
    }
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
