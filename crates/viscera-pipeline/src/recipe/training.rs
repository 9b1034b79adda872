//! How a stage is trained: the `[training.ID]` tables.

use serde::{Deserialize, Serialize};

/// A `[training.ID]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Who says what is right.
    pub supervision: Supervision,
    /// What is minimised.
    pub loss: Loss,
    /// How parameters move.
    pub optimizer: Optimizer,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Number of epochs.
    pub epochs: usize,
    /// Optimiser steps per epoch.
    pub iterations_per_epoch: usize,
    /// Samples per step.
    pub batch_size: usize,
    /// Largest norm of the whole gradient; longer ones are shortened to it. None without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradient_clip: Option<f64>,
    /// Random changes of the samples.
    #[serde(default)]
    pub augment: Augment,
    /// Seed of weights, order and changes.
    #[serde(default)]
    pub seed: u64,
}

/// Who says what is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Supervision {
    /// Labels only; classes that a case does not annotate are left out of its loss.
    Supervised,
}

/// Weights of the parts of the loss; 0 leaves one out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// 1 − soft Dice with squared denominator, mean over samples and annotated classes.
    pub dice: f64,
    /// Focal loss per voxel (Lin et al. 2017).
    #[serde(default)]
    pub focal: f64,
    /// α of the focal loss: weight of foreground, 1 − α that of background.
    #[serde(default = "half")]
    pub focal_alpha: f64,
    /// γ of the focal loss.
    #[serde(default = "two")]
    pub focal_gamma: f64,
}

fn half() -> f64 {
    0.5
}

fn two() -> f64 {
    2.0
}

/// How parameters move.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Adam (Kingma and Ba 2015).
    Adam(Adam),
    /// Stochastic gradient descent with momentum.
    Sgd(Sgd),
}

/// Settings of Adam.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// Learning rate at the start.
    pub lr: f64,
    /// Decay of the first and second moment.
    pub betas: [f64; 2],
    /// L2 penalty added to the gradient (not decoupled).
    #[serde(default)]
    pub weight_decay: f64,
}

/// Settings of SGD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate at the start.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Nesterov's form.
    #[serde(default)]
    pub nesterov: bool,
    /// L2 penalty added to the gradient.
    #[serde(default)]
    pub weight_decay: f64,
}

impl Optimizer {
    /// Learning rate at the start.
    #[must_use]
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adam(adam) => adam.lr,
            Self::Sgd(sgd) => sgd.lr,
        }
    }
}

/// How the learning rate changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// From each fraction of the training on, the start's rate times the factor beside it.
    Steps(Steps),
    /// (1 − progress)^power.
    Poly(Poly),
    /// Half a cosine from 1 down to `end`.
    Cosine(Cosine),
}

/// Settings of the stepwise schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// Fractions of the training, rising, between 0 and 1.
    pub at: Vec<f64>,
    /// Factors of the start's rate, one per fraction.
    pub factors: Vec<f64>,
}

/// Settings of the polynomial schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Poly {
    /// The exponent; 0.9 in nnU-Net.
    pub power: f64,
}

/// Settings of the cosine schedule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// Factor at the end.
    pub end: f64,
}

impl Schedule {
    /// Factor of the start's learning rate after `progress` of the training, 0 to 1 (values beyond count as the end).
    #[must_use]
    pub fn factor(&self, progress: f64) -> f64 {
        let progress = progress.clamp(0.0, 1.0);
        match self {
            Self::Steps(steps) => {
                let passed = steps.at.iter().take_while(|at| **at <= progress).count();
                passed
                    .checked_sub(1)
                    .and_then(|i| steps.factors.get(i))
                    .copied()
                    .unwrap_or(1.0)
            }
            Self::Poly(poly) => (1.0 - progress).powf(poly.power),
            Self::Cosine(cosine) => {
                cosine.end + (1.0 - cosine.end) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

/// Random changes of training samples: a profile, and single changes that replace the profile's.
///
/// `probability = 0.0` turns one off. [`Augment::effective`] gives what holds in the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// Where the changes that are not given come from.
    #[serde(default)]
    pub profile: Profile,
    /// Rotation in degrees about each of the three axes, each drawn for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_deg: Option<Chance>,
    /// Size of the content, one factor for all axes; below 1 shrinks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Chance>,
    /// Shift along each axis in mm, each drawn for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift_mm: Option<Chance>,
    /// Mirroring.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Standard deviation of Gaussian noise, in units of the normalised input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_std: Option<Chance>,
    /// Standard deviation of a Gaussian blur in voxels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blur_sigma: Option<Chance>,
    /// Factor of the normalised input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brightness: Option<Chance>,
    /// Factor of the distance from the mean, clipped to the range before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Chance>,
    /// Factor of the resolution that is lost: down by it (nearest), up again (linear).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low_resolution: Option<Chance>,
    /// Exponent of the range-scaled input; mean and standard deviation are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma: Option<Chance>,
    /// As `gamma`, of the inverted input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamma_inverted: Option<Chance>,
    /// HU added inside each organ, drawn per organ, before windowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organ_shift_hu: Option<Chance>,
    /// Growth of the box around the labels in mm, drawn per side; the stage's `roi.margin_mm` where it is not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi_margin_mm: Option<Chance>,
}

/// A change that happens with some probability, its strength drawn evenly from a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chance {
    /// Probability per sample (per organ for `organ_shift_hu`), 0 to 1.
    pub probability: f64,
    /// Least and greatest strength.
    pub range: [f64; 2],
}

impl Chance {
    /// A change of that probability and range.
    #[must_use]
    pub const fn new(probability: f64, range: [f64; 2]) -> Self {
        Self { probability, range }
    }
}

/// Mirroring along axes, each drawn for itself.
///
/// Models with paired organs (left and right kidney) should not mirror along x.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Probability per sample and axis.
    pub probability: f64,
    /// The axes.
    pub axes: Vec<Axis>,
}

/// An array axis; in RAS+ x grows to the right, y to the front, z upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Axis {
    /// Feet to head.
    Z,
    /// Back to front.
    Y,
    /// Left to right.
    X,
}

/// A named set of random changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// No change.
    #[default]
    None,
    /// Those of EfficientSegNet's fine stage: random growth of the box, HU shift inside organs.
    #[serde(rename = "efficientsegnet")]
    EfficientSegNet,
    /// nnU-Net's rotation, scale, noise, blur, brightness, contrast, low resolution and gamma, without its mirroring.
    Standard,
}

impl Augment {
    /// The changes that hold: those given, else the profile's.
    #[must_use]
    pub fn effective(&self) -> Self {
        let base = self.profile.changes();
        Self {
            profile: self.profile,
            rotate_deg: self.rotate_deg.or(base.rotate_deg),
            scale: self.scale.or(base.scale),
            shift_mm: self.shift_mm.or(base.shift_mm),
            mirror: self.mirror.clone().or(base.mirror),
            noise_std: self.noise_std.or(base.noise_std),
            blur_sigma: self.blur_sigma.or(base.blur_sigma),
            brightness: self.brightness.or(base.brightness),
            contrast: self.contrast.or(base.contrast),
            low_resolution: self.low_resolution.or(base.low_resolution),
            gamma: self.gamma.or(base.gamma),
            gamma_inverted: self.gamma_inverted.or(base.gamma_inverted),
            organ_shift_hu: self.organ_shift_hu.or(base.organ_shift_hu),
            roi_margin_mm: self.roi_margin_mm.or(base.roi_margin_mm),
        }
    }

    /// The changes with a probability and a range, by their keys.
    pub(super) fn chances(&self) -> [(&'static str, Option<Chance>); 12] {
        [
            ("rotate_deg", self.rotate_deg),
            ("scale", self.scale),
            ("shift_mm", self.shift_mm),
            ("noise_std", self.noise_std),
            ("blur_sigma", self.blur_sigma),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("low_resolution", self.low_resolution),
            ("gamma", self.gamma),
            ("gamma_inverted", self.gamma_inverted),
            ("organ_shift_hu", self.organ_shift_hu),
            ("roi_margin_mm", self.roi_margin_mm),
        ]
    }
}

impl Profile {
    fn changes(self) -> Augment {
        let chance = |probability, low, high| Some(Chance::new(probability, [low, high]));
        match self {
            Self::None => Augment::default(),
            // The released code's, with its sign slip on the lower sides mended: outwards on all sides.
            Self::EfficientSegNet => Augment {
                roi_margin_mm: chance(0.5, -40.0 / 3.0, 40.0),
                organ_shift_hu: chance(0.5, -200.0, 200.0),
                ..Augment::default()
            },
            Self::Standard => Augment {
                rotate_deg: chance(0.2, -30.0, 30.0),
                scale: chance(0.2, 0.7, 1.4),
                noise_std: chance(0.1, 0.0, 0.1),
                blur_sigma: chance(0.1, 0.5, 1.0),
                brightness: chance(0.15, 0.75, 1.25),
                contrast: chance(0.15, 0.75, 1.25),
                low_resolution: chance(0.125, 0.5, 1.0),
                gamma: chance(0.3, 0.7, 1.5),
                gamma_inverted: chance(0.1, 0.7, 1.5),
                ..Augment::default()
            },
        }
    }
}
