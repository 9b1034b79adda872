//! Training of the networks of a recipe: data sets, cache, sampling, augmentation, losses, optimisers and the trainer.

mod augment;
mod cache;
mod error;
mod gather;
mod loss;
mod optimizer;
mod sample;

pub use cache::CachedCase;
pub use error::TrainError;
pub use loss::{LossValue, Target, evaluate};
pub use optimizer::{Optimizer, average, clip_norm};
pub use sample::{Batch, Sampler};
