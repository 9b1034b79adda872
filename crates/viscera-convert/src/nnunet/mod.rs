//! Result folders of nnU-Net v2 as models.
//!
//! A folder `TRAINER__PLANS__CONFIGURATION` holds `plans.json` (network, spacing, patch size, normalisation, resampling),
//! `dataset.json` (classes, channels) and `fold_K/checkpoint_final.pth`. All of it becomes a recipe with one stage, a
//! label table, and the weights of each fold.

mod architecture;
mod configuration;
mod dataset;
mod folder;
mod recipe;

pub use folder::{Imported, Options, Which, import};
