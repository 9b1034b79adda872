//! The operations of a graph on Burn tensors of shape (batch, channel, z, y, x).

mod activation;
mod attention;
mod conv;
mod norm;
mod pad;
mod pool;
mod resize;

pub(crate) use activation::activate;
pub(crate) use attention::window_attention;
pub(crate) use conv::{conv, conv_transpose};
pub(crate) use norm::{affine, batch_norm, batch_norm_fixed, dropout, group_norm, layer_norm};
pub(crate) use pad::pad;
pub(crate) use pool::{axis_mean, pool};
pub(crate) use resize::resize;
