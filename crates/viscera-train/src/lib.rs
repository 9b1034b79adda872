//! Training of the networks of a recipe: data sets, cache, sampling, augmentation, losses, optimisers and the trainer.
//!
//! [`train`] does it all. It is blind to who computes: a [`Device`] makes a [`viscera_net::Executor`]. The same seed gives
//! the same run, bit for bit, for any number of threads, and so does a run that was stopped and resumed.

mod augment;
mod cache;
mod checkpoint;
mod cross;
mod data;
mod dataset;
mod device;
mod error;
mod gather;
mod loss;
mod measure;
mod optimizer;
mod plan;
mod prefetch;
mod progress;
mod pseudo;
mod report;
mod run;
mod sample;
mod trainer;
mod validate;
mod view;

pub use cache::{CachedCase, CaseGrid};
pub use cross::{CrossReport, FoldScores, cross_validate};
pub use data::{
    DataReport, Finding, FindingKind, Fingerprint, Fold, Intensities, SplitBy, check_data, folds, load_folds,
};
pub use dataset::{Splits, TrainingData};
pub use device::Device;
pub use error::TrainError;
pub use loss::{LossValue, Target, evaluate};
pub use measure::StepMeasure;
pub use optimizer::{Optimizer, average, clip_norm};
pub use plan::{Encoder, Plan, PlanOptions};
pub use progress::{Progress, StepReport, StepSeconds, ValidationReport};
pub use pseudo::{PSEUDO_LIST, PseudoLabelOptions, PseudoLabelReport, pseudo_label};
pub use run::{StageReport, TrainOptions, TrainReport, train};
pub use sample::{Batch, Sampler};
pub use view::{StageCase, StageView};
