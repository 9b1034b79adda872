//! Kernels, one file per family. Each takes and gives values in the blocked layout of [`crate::layout`].

pub(crate) mod across;
pub(crate) mod activation;
pub(crate) mod amx;
pub(crate) mod attention;
pub(crate) mod conv;
mod functions;
pub(crate) mod gate;
mod matrix;
pub(crate) mod moments;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod pad;
pub(crate) mod pointwise;
pub(crate) mod pooling;
pub(crate) mod resize;
pub(crate) mod scope;
mod tile;
pub(crate) mod weight_gradient;
pub(crate) mod winograd;
