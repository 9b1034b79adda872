//! What the trainer knows of a network: the one trait between it and whoever computes.

use crate::{NetError, Tensor, Weights};

/// A network that can be run and differentiated. The engine and the Burn executor implement it.
pub trait Executor {
    /// Runs the network in training mode and keeps what [`Self::backward`] needs.
    ///
    /// `seed` fixes which channels dropout drops ([`crate::dropout_keeps`]). Gives one tensor per graph output.
    ///
    /// # Errors
    /// When the input does not fit the graph.
    fn forward(&mut self, input: &Tensor, seed: u64) -> Result<Vec<Tensor>, NetError>;

    /// Takes the loss's gradient for each output of the last [`Self::forward`] and gives that of every parameter, in the
    /// order and layout of [`Weights::values`]; for a [`crate::ParamKind::Statistic`] what is said there.
    ///
    /// # Errors
    /// When there was no forward pass, or shapes differ from it.
    fn backward(&mut self, gradients: &[Tensor]) -> Result<Vec<Vec<f32>>, NetError>;

    /// Runs the network as it will be used: no dropout, nothing kept.
    ///
    /// # Errors
    /// When the input does not fit the graph.
    fn infer(&mut self, input: &Tensor) -> Result<Vec<Tensor>, NetError>;

    /// The parameters.
    fn parameters(&self) -> &Weights;

    /// Replaces the parameters (an optimiser's step).
    ///
    /// # Errors
    /// When the lengths differ from the graph's.
    fn set_parameters(&mut self, weights: &Weights) -> Result<(), NetError>;
}

/// Whether dropout keeps a channel: a pure function, so that every executor drops the same ones.
///
/// `node` is the place of the dropout in the graph. The draw is SplitMix64 of the four numbers.
#[must_use]
pub fn dropout_keeps(seed: u64, node: usize, batch: usize, channel: usize, p: f32) -> bool {
    let mut x = seed
        ^ (node as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ (batch as u64).wrapping_mul(0xC2B2_AE3D_27D4_EB4F)
        ^ (channel as u64).wrapping_mul(0x1656_67B1_9E37_79F9);
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^= x >> 31;
    (x >> 40) as f32 / (1u64 << 24) as f32 >= p
}
