//! Random changes of training samples. The recipe's [`Augment`] says how likely and how strong each is.
//!
//! Order, after nnU-Net and EfficientSegNet: the field of view is cut and the box drawn (`place.rs`); rotation, scale,
//! stretch, shift, deformation and mirroring go into one resampling from the cache (`place.rs`, `lattice.rs`,
//! `crate::gather`); in HU: slices, organs, tissue curve, sharpening, grainy noise (`tissue.rs`), then copy-paste (`paste.rs`); window and z-score as
//! in inference; then nnU-Net's noise, blur, brightness, contrast, low resolution, gamma (`intensity.rs`).

mod filter;
mod intensity;
mod lattice;
mod noise;
mod paste;
mod place;
mod tissue;

pub(crate) use intensity::change_normalised;
pub(crate) use lattice::Lattice;
pub(crate) use paste::copy_paste;
pub(crate) use place::{Placement, place};
pub(crate) use tissue::change_hu;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use viscera_pipeline::recipe::Chance;

/// Whether a change happens, and how strongly: drawn evenly from its range.
fn drawn(chance: Option<Chance>, rng: &mut ChaCha8Rng) -> Option<f64> {
    let chance = chance?;
    (rng.random::<f64>() < chance.probability).then(|| evenly(chance.range, rng))
}

/// As [`drawn`], for factors: half the draws lie below 1, half above, where the range has both (nnU-Net).
fn drawn_factor(chance: Option<Chance>, rng: &mut ChaCha8Rng) -> Option<f64> {
    let chance = chance?;
    (rng.random::<f64>() < chance.probability).then(|| factor(chance.range, rng))
}

fn factor([low, high]: [f64; 2], rng: &mut ChaCha8Rng) -> f64 {
    if low < 1.0 && high > 1.0 {
        if rng.random::<bool>() {
            evenly([low, 1.0], rng)
        } else {
            evenly([1.0, high], rng)
        }
    } else {
        evenly([low, high], rng)
    }
}

fn evenly([low, high]: [f64; 2], rng: &mut ChaCha8Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// A standard normal draw (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
