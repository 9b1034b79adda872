//! How a stage is trained: the `[training.ID]` tables.

use super::{LossSettings, Stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A `[training.ID]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainingSettings {
    /// Which kind of supervision.
    #[serde(default)]
    pub supervision: Supervision,
    /// What it minimises.
    pub loss: LossSettings,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// How the learning rate falls.
    #[serde(default)]
    pub schedule: Schedule,
    /// Share of the run over which the learning rate rises from 0 to its full value, 0 to 1.
    #[serde(default)]
    pub warmup: f64,
    /// Epochs.
    pub epochs: u64,
    /// Optimiser steps per epoch.
    pub iterations_per_epoch: u64,
    /// Samples per batch.
    pub batch_size: usize,
    /// Batches whose gradients are averaged for one optimiser step: for batches that memory does not hold at once. Dice
    /// terms and batch norm see one batch at a time.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: u64,
    /// Samples per batch of each stream, in sum `batch_size`; without, samples of any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub streams: BTreeMap<Stream, usize>,
    /// Random changes of the samples.
    #[serde(default)]
    pub augment: Augment,
    /// Epochs at the end without random changes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub plain_epochs: u64,
    /// With a sliding window: share of a step's patches that show a voxel of a class, drawn evenly over the classes of
    /// the case, then over its voxels. They are the last of a step, from sample round(batch · (1 − share)) on, as in nnU-Net,
    /// so that 0.33 makes one of two; a batch of one shows it with this probability.
    #[serde(default = "third", skip_serializing_if = "is_third")]
    pub foreground_share: f64,
    /// Where the constants of `normalise.channels` come from.
    #[serde(default, skip_serializing_if = "IntensitySource::is_default")]
    pub intensities: IntensitySource,
    /// Seed of fresh weights, of the order of cases and of their random changes.
    #[serde(default)]
    pub seed: u64,
    /// Longest gradient (2-norm over all parameters); longer ones are shortened to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f32>,
    /// Decay per step of the moving average of the weights; validation and the result use the average when set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f32>,
    /// Epochs between validations. The last epoch always ends with one.
    #[serde(default = "one")]
    pub validate_every: u64,
    /// Spacing in mm at which cases are held in memory; an axis that is coarser in the file stays as it is.
    /// Samples are drawn from there, so about half the network's voxel is enough.
    #[serde(default = "two")]
    pub cache_spacing_mm: f64,
}

fn one() -> u64 {
    1
}

fn is_one(n: &u64) -> bool {
    *n == 1
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// nnU-Net's.
fn third() -> f64 {
    0.33
}

fn is_third(share: &f64) -> bool {
    *share == third()
}

fn two() -> f64 {
    2.0
}

impl TrainingSettings {
    /// Optimiser steps of the whole run.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.epochs.saturating_mul(self.iterations_per_epoch)
    }
}

/// Kinds of supervision.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Supervision {
    /// Every case is labelled, each for the classes that it annotates.
    #[default]
    Supervised,
    /// The network also learns from a moving average of itself, its teacher, for annotations that miss some of what there
    /// is (Tarvainen and Valpola 2017, as FLARE23's StMt has it): loss(labels) + `weight` · loss(what the teacher says of
    /// the same input, with the annotated voxels laid over it).
    MeanTeacher {
        /// Decay of the average per step.
        #[serde(default = "teacher_decay")]
        decay: f32,
        /// Weight of the second loss.
        #[serde(default = "full")]
        weight: f64,
        /// Whose weights are validated and kept.
        #[serde(default)]
        keep: Kept,
    },
}

fn teacher_decay() -> f32 {
    0.99
}

fn full() -> f64 {
    1.0
}

/// Whose weights a mean teacher's training keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// The student's (StMt).
    #[default]
    Student,
    /// The teacher's.
    Teacher,
}

/// Where the constants of `normalise.channels` with `scheme = "fixed"` come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum IntensitySource {
    /// The recipe.
    #[default]
    Recipe,
    /// The labelled voxels of the cases that are trained on: 0.5th and 99.5th percentiles, mean and standard deviation. The
    /// recipe in the model file has what was found.
    Data,
}

impl IntensitySource {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How parameters move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OptimizerSettings {
    /// Kingma and Ba 2015; weight decay is added to the gradient (L2).
    Adam(AdamSettings),
    /// Loshchilov and Hutter 2019; weight decay shrinks the weights themselves.
    Adamw(AdamSettings),
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Share of the last direction that stays.
        #[serde(default)]
        momentum: f64,
        /// Looks ahead along the momentum.
        #[serde(default)]
        nesterov: bool,
        /// Added to the gradient (L2).
        #[serde(default)]
        weight_decay: f64,
    },
}

/// Values of Adam and AdamW.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamSettings {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and second moments.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// Weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Added to the root of the second moment.
    #[serde(default = "eps")]
    pub eps: f64,
    /// Divides by the greatest second moment so far (Reddi, Kale and Kumar 2018).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub amsgrad: bool,
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn eps() -> f64 {
    1e-8
}

impl OptimizerSettings {
    /// The learning rate before any schedule.
    #[must_use]
    pub fn lr(&self) -> f64 {
        match self {
            Self::Adam(adam) | Self::Adamw(adam) => adam.lr,
            Self::Sgd { lr, .. } => *lr,
        }
    }
}

/// How the learning rate falls.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Schedule {
    /// It does not.
    #[default]
    Constant,
    /// Factor 1, then `factors[i]` from the share `at[i]` of the run on.
    Steps {
        /// Rising shares of the run, 0 to 1.
        at: Vec<f64>,
        /// One factor each, of the base rate.
        factors: Vec<f64>,
    },
    /// `(1 − t)^power` (nnU-Net: 0.9).
    Poly {
        /// The exponent.
        power: f64,
    },
    /// Half a cosine wave from 1 down to `floor` (Loshchilov and Hutter 2017).
    Cosine {
        /// Factor at the end.
        #[serde(default)]
        floor: f64,
    },
}

impl Schedule {
    /// The factor when the share `done` (0 to 1) of the run is over; rises linearly from 0 within the share `warmup`.
    #[must_use]
    pub fn factor(&self, done: f64, warmup: f64) -> f64 {
        let t = done.clamp(0.0, 1.0);
        let rise = if t < warmup { t / warmup } else { 1.0 };
        let fall = match self {
            Self::Constant => 1.0,
            Self::Steps { at, factors } => at
                .iter()
                .zip(factors)
                .rev()
                .find(|(at, _)| t >= **at)
                .map_or(1.0, |(_, &factor)| factor),
            Self::Poly { power } => (1.0 - t).powf(*power),
            Self::Cosine { floor } => floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * t).cos()),
        };
        rise * fall
    }
}

/// Random changes of training samples: a profile, and single changes that replace the profile's.
///
/// `probability = 0.0` turns one off. [`Augment::effective`] gives what holds in the end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// Further scale along each axis, each drawn for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stretch: Option<Chance>,
    /// Smooth random deformation: standard deviation in mm of the shifts of a cubic B-spline's control points, which lie
    /// 60 mm apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elastic_mm: Option<Chance>,
    /// Fraction of the scan's height that is left when it is cut at both ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_height: Option<Chance>,
    /// Fraction of the scan's width and depth that is left, each drawn for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_width: Option<Chance>,
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
    /// Factor of the contrast inside each organ about its mean, drawn per organ, before windowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organ_contrast: Option<Chance>,
    /// Random rising curve from HU to HU that keeps air, −150 and 325 HU: natural logarithm of the greatest change of
    /// slope between them. Stands for contrast phases and tube voltages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tissue_curve: Option<Chance>,
    /// Thickness in mm of the slices that the scan seems to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice_mm: Option<Chance>,
    /// Share of the unsharp mask that is added, as sharp reconstruction kernels do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharpen: Option<Chance>,
    /// Standard deviation in HU of noise with a grain of about two voxels, before windowing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noise_hu: Option<Chance>,
    /// Number of cubes of 6³ voxels around labelled voxels that are copied, with their labels, to random places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_paste: Option<Chance>,
    /// Share of the way to the border of the scan that each side of the box moves, after `roi_margin_mm`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi_growth: Option<Chance>,
    /// Growth of the box around the labels in mm, drawn per side; the stage's `roi.margin_mm` where it is not drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roi_margin_mm: Option<Chance>,
}

/// A change that happens with some probability, its strength drawn evenly from a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mirror {
    /// Probability per sample and axis.
    pub probability: f64,
    /// The axes.
    pub axes: Vec<Axis>,
}

/// An array axis; in RAS+ x grows to the right, y to the front, z upwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
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
    /// `standard` with nnU-Net's mirroring, along every axis; a model of paired organs is better off without.
    #[serde(rename = "nnunet")]
    NnUnet,
    /// `standard` and more, stronger: for few scans, or synthetic ones that should prepare for real ones. Adds deformation,
    /// brightness and contrast of organs and tissues, thick slices, noise, cut fields of view and loose boxes.
    Robust,
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
            stretch: self.stretch.or(base.stretch),
            elastic_mm: self.elastic_mm.or(base.elastic_mm),
            cut_height: self.cut_height.or(base.cut_height),
            cut_width: self.cut_width.or(base.cut_width),
            mirror: self.mirror.clone().or(base.mirror),
            noise_std: self.noise_std.or(base.noise_std),
            blur_sigma: self.blur_sigma.or(base.blur_sigma),
            brightness: self.brightness.or(base.brightness),
            contrast: self.contrast.or(base.contrast),
            low_resolution: self.low_resolution.or(base.low_resolution),
            gamma: self.gamma.or(base.gamma),
            gamma_inverted: self.gamma_inverted.or(base.gamma_inverted),
            organ_shift_hu: self.organ_shift_hu.or(base.organ_shift_hu),
            organ_contrast: self.organ_contrast.or(base.organ_contrast),
            tissue_curve: self.tissue_curve.or(base.tissue_curve),
            slice_mm: self.slice_mm.or(base.slice_mm),
            sharpen: self.sharpen.or(base.sharpen),
            noise_hu: self.noise_hu.or(base.noise_hu),
            copy_paste: self.copy_paste.or(base.copy_paste),
            roi_growth: self.roi_growth.or(base.roi_growth),
            roi_margin_mm: self.roi_margin_mm.or(base.roi_margin_mm),
        }
    }

    /// The changes with a probability and a range, by their keys.
    pub(super) fn chances(&self) -> [(&'static str, Option<Chance>); 23] {
        [
            ("rotate_deg", self.rotate_deg),
            ("scale", self.scale),
            ("shift_mm", self.shift_mm),
            ("stretch", self.stretch),
            ("elastic_mm", self.elastic_mm),
            ("cut_height", self.cut_height),
            ("cut_width", self.cut_width),
            ("noise_std", self.noise_std),
            ("blur_sigma", self.blur_sigma),
            ("brightness", self.brightness),
            ("contrast", self.contrast),
            ("low_resolution", self.low_resolution),
            ("gamma", self.gamma),
            ("gamma_inverted", self.gamma_inverted),
            ("organ_shift_hu", self.organ_shift_hu),
            ("organ_contrast", self.organ_contrast),
            ("tissue_curve", self.tissue_curve),
            ("slice_mm", self.slice_mm),
            ("sharpen", self.sharpen),
            ("noise_hu", self.noise_hu),
            ("copy_paste", self.copy_paste),
            ("roi_growth", self.roi_growth),
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
            Self::NnUnet => Augment {
                mirror: Some(Mirror {
                    probability: 0.5,
                    axes: vec![Axis::Z, Axis::Y, Axis::X],
                }),
                ..Self::Standard.changes()
            },
            Self::Robust => Augment {
                rotate_deg: chance(0.4, -20.0, 20.0),
                scale: chance(0.4, 0.75, 1.3),
                stretch: chance(0.3, 0.85, 1.2),
                shift_mm: chance(0.3, -20.0, 20.0),
                elastic_mm: chance(0.4, 2.0, 8.0),
                cut_height: chance(0.4, 0.4, 1.0),
                cut_width: chance(0.2, 0.75, 1.0),
                roi_margin_mm: chance(0.7, -10.0, 50.0),
                roi_growth: chance(0.1, 0.2, 1.0),
                organ_shift_hu: chance(0.3, -60.0, 60.0),
                organ_contrast: chance(0.2, 0.7, 1.4),
                tissue_curve: chance(0.5, 0.1, 0.9),
                slice_mm: chance(0.3, 3.0, 8.0),
                sharpen: chance(0.15, 0.5, 2.0),
                noise_hu: chance(0.5, 5.0, 40.0),
                ..Self::Standard.changes()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_take_their_published_values() {
        let steps = Schedule::Steps {
            at: vec![0.66, 0.86],
            factors: vec![0.1, 0.05],
        };
        assert_eq!(
            [0.0, 0.65, 0.66, 0.85, 0.86, 1.0].map(|t| steps.factor(t, 0.0)),
            [1.0, 1.0, 0.1, 0.1, 0.05, 0.05]
        );
        let poly = Schedule::Poly { power: 0.9 };
        assert!((poly.factor(0.5, 0.0) - 0.5f64.powf(0.9)).abs() < 1e-12 && poly.factor(1.2, 0.0) == 0.0);
        let cosine = Schedule::Cosine { floor: 0.2 };
        assert!((cosine.factor(0.5, 0.0) - 0.6).abs() < 1e-12 && (cosine.factor(1.0, 0.0) - 0.2).abs() < 1e-12);
        assert_eq!(Schedule::Constant.factor(0.05, 0.1), 0.5);
    }

    #[test]
    fn a_change_that_is_given_replaces_the_profiles() {
        let off = Chance::new(0.0, [0.0, 0.0]);
        let augment = Augment {
            profile: Profile::Standard,
            noise_std: Some(off),
            ..Augment::default()
        };
        let effective = augment.effective();
        assert_eq!(effective.noise_std, Some(off));
        assert_eq!(effective.scale, Some(Chance::new(0.2, [0.7, 1.4])));
        assert_eq!(effective.mirror, None);
        let nnunet = Augment {
            profile: Profile::NnUnet,
            ..Augment::default()
        };
        assert_eq!(nnunet.effective().mirror.unwrap().axes, [Axis::Z, Axis::Y, Axis::X]);
        assert_eq!(nnunet.effective().gamma, effective.gamma);
    }
}
