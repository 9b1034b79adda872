//! How a network is run and its logits read.

use super::Axis;
use serde::{Deserialize, Serialize};

/// How a network is run and its logits read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inference {
    /// How the volume reaches the network.
    pub mode: Mode,
    /// What makes probabilities of logits, and so which channels there are.
    pub activation: Activation,
    /// With a sigmoid: probability from which a voxel belongs to a class; where several reach it, the greatest wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// With a sliding window: patch and step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<SlidingWindow>,
    /// Axes along which the input is mirrored; the average is over all combinations, mirrored back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirror: Vec<Axis>,
    /// Names of the networks of an ensemble, which are averaged; one network without a name if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folds: Vec<String>,
    /// The head that is read: 0 the finest, 1 the next coarser, … Logits of a coarser one are enlarged to the input's grid
    /// trilinearly (align-corners).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: usize,
    /// What patches, mirrored runs and folds are averaged as.
    #[serde(default, skip_serializing_if = "Average::is_default")]
    pub average: Average,
    /// With averaged probabilities: those below it count as 0, on the network's grid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// What is brought back to the scan's resolution.
    #[serde(default, skip_serializing_if = "Restore::is_default")]
    pub restore: Restore,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// What patches, mirrored runs and folds are averaged as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// Logits (nnU-Net v2).
    #[default]
    Logits,
    /// Probabilities: each patch's softmax.
    Probabilities,
}

impl Average {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What is brought back to the scan's resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Restore {
    /// Logits (or probabilities) are enlarged, then decided: smooth borders.
    #[default]
    Logits,
    /// They are decided on the network's grid, and labels enlarged by nearest neighbour.
    Labels,
}

impl Restore {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How the volume reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// At once.
    WholeVolume,
    /// Patch by patch; overlapping patches are averaged. A volume smaller than the patch is padded with 0.
    SlidingWindow,
}

/// What makes probabilities of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Each channel for itself. One channel per class, in the label table's order; no background channel.
    Sigmoid,
    /// All channels together; the greatest wins. First the background's channel, then one per class in the label
    /// table's order.
    Softmax,
}

/// Patches over a volume.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlidingWindow {
    /// Voxels, in the stage's order of axes.
    pub patch: [usize; 3],
    /// Greatest distance of neighbouring patches, in patches.
    pub step: f64,
    /// What a patch's voxels count in the average.
    pub weights: PatchWeights,
}

/// What a patch's voxels count in the average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchWeights {
    /// All the same.
    Uniform,
    /// A Gaussian around the patch's middle whose standard deviation is an eighth of the patch (nnU-Net).
    Gaussian,
}

impl Inference {
    /// Over the whole volume, or by a sliding window; everything else as where a recipe does not mention it.
    #[must_use]
    pub fn new(activation: Activation, threshold: Option<f64>, window: Option<SlidingWindow>) -> Self {
        Self {
            mode: if window.is_some() {
                Mode::SlidingWindow
            } else {
                Mode::WholeVolume
            },
            activation,
            threshold,
            window,
            mirror: Vec::new(),
            folds: Vec::new(),
            head: 0,
            average: Average::default(),
            floor: None,
            restore: Restore::default(),
        }
    }

    /// The logit from which a voxel belongs to a class: ln(t / (1 − t)), 0 for t = 0.5; −∞ without a threshold.
    #[must_use]
    pub fn logit_threshold(&self) -> f32 {
        self.threshold
            .map_or(f32::NEG_INFINITY, |t| (t / (1.0 - t)).ln() as f32)
    }

    /// Channels of the network's output for so many classes.
    #[must_use]
    pub fn channels(&self, classes: usize) -> usize {
        match self.activation {
            Activation::Sigmoid => classes,
            Activation::Softmax => classes + 1,
        }
    }
}
