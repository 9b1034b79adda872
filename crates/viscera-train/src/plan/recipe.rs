//! A plan as a recipe.

use super::{Encoder, Plan};
use crate::{Fingerprint, TrainError};
use viscera_image::LabelTable;
use viscera_pipeline::Recipe;
use viscera_pipeline::recipe::{
    Activation, Augment, ChannelRule, Crop, Formula, Header, Inference, Interpolation, LossSettings, LossTerm, Method,
    Modality, NetworkSpec, Normalise, OptimizerSettings, Orient, Partial, PatchWeights, Profile, Resample, Role,
    Schedule, SeparateZ, SlidingWindow, SoftmaxLoss, SpacingGrid, Stage, StageClasses, TrainingSettings, UnetPlan,
};

/// Id of the only stage.
const STAGE: &str = "segment";

impl Plan {
    /// The recipe that follows the plan: nnU-Net's preprocessing, network, loss, optimiser and schedule. Scans are turned to
    /// RAS+ first, and nothing is mirrored: left and right organs are classes of their own.
    ///
    /// # Errors
    /// [`TrainError::DataSet`] for a fingerprint without intensities, [`TrainError::Pipeline`] for a label table that
    /// recipes cannot name.
    pub fn recipe(&self, name: &str, fingerprint: &Fingerprint, table: &LabelTable) -> Result<Recipe, TrainError> {
        let ct = fingerprint.ct()?;
        let interpolation = |order| Interpolation {
            method: Method::Spline,
            order,
            order_z: 0,
            separate_z: SeparateZ::Auto,
            anisotropy: 3.0,
        };
        let network = UnetPlan {
            features: self.features.clone(),
            kernels: self.kernels.clone(),
            strides: self.strides.clone(),
            depths: self.depths.clone(),
            decoder_depths: self.decoder_depths.clone(),
            stem: None,
            conv_bias: true,
            norm_eps: 1e-5,
            norm_affine: true,
            slope: 0.01,
            dropout: 0.0,
            deep_supervision: true,
        };
        let stage = Stage {
            id: STAGE.to_owned(),
            role: Role::Segment,
            classes: StageClasses::All,
            orient: Orient::Ras,
            axes: self.axes,
            roi: None,
            crop: Some(Crop::NonZero),
            resample: Resample::Spacing(SpacingGrid {
                spacing_mm: self.spacing,
                image: interpolation(3),
                logits: interpolation(1),
                max_in_plane: None,
            }),
            normalise: Normalise::Channels(vec![ChannelRule::Fixed {
                window: [ct.percentile_00_5, ct.percentile_99_5],
                mean: ct.mean,
                std: ct.std,
            }]),
            network: match self.encoder {
                Encoder::Plain => NetworkSpec::PlainUnet(network),
                Encoder::Residual => NetworkSpec::ResidualEncoderUnet(network),
            },
            inference: Inference::new(
                Activation::Softmax,
                None,
                Some(SlidingWindow {
                    patch: self.patch,
                    step: 0.5,
                    weights: PatchWeights::Gaussian,
                }),
            ),
            postprocess: Vec::new(),
        };
        let term = |formula| LossTerm {
            formula,
            weight: 1.0,
            streams: Vec::new(),
            ramp: None,
        };
        let dice = Formula::Dice {
            smooth: 1e-5,
            batch: self.batch_dice,
            background: false,
            squared: false,
        };
        let training = TrainingSettings {
            supervision: Default::default(),
            loss: LossSettings::Softmax(SoftmaxLoss {
                terms: vec![term(Formula::CrossEntropy {}), term(dice)],
                partial: Partial::Merge,
                heads: Vec::new(),
            }),
            optimizer: OptimizerSettings::Sgd {
                lr: 0.01,
                momentum: 0.99,
                nesterov: true,
                weight_decay: 3e-5,
            },
            schedule: Schedule::Poly { power: 0.9 },
            warmup: 0.0,
            epochs: 1000,
            iterations_per_epoch: 250,
            batch_size: self.batch_size,
            accumulate: 1,
            streams: Default::default(),
            augment: Augment {
                profile: Profile::Standard,
                ..Augment::default()
            },
            plain_epochs: 0,
            foreground_share: 0.33,
            intensities: Default::default(),
            seed: 0,
            clip_norm: Some(12.0),
            ema: None,
            validate_every: 50,
            cache_spacing_mm: self.spacing.iter().copied().fold(f64::INFINITY, f64::min),
        };
        let recipe = Recipe {
            recipe: Header {
                name: name.to_owned(),
                labels: table.name().to_owned(),
                modality: Modality::Ct,
                reference: "Isensee et al.: nnU-Net, Nature Methods 2021".to_owned(),
            },
            stages: vec![stage],
            training: [(STAGE.to_owned(), training)].into(),
            phases: Vec::new(),
        };
        recipe.validate(table)?;
        Ok(recipe)
    }
}
