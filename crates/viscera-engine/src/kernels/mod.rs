//! Kernels, one file per family. Each takes and gives values in the blocked layout of [`crate::layout`].

pub(crate) mod conv;
pub(crate) mod moments;
pub(crate) mod norm;
pub(crate) mod pointwise;
pub(crate) mod pooling;
pub(crate) mod resize;
mod tile;
pub(crate) mod weight_gradient;
pub(crate) mod winograd;
