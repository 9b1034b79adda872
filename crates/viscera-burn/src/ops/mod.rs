//! The operations of a graph on Burn tensors of shape (batch, channel, z, y, x).

mod conv;
mod norm;
mod pool;
mod resize;

pub(crate) use conv::{conv, conv_transpose};
pub(crate) use norm::{dropout, instance_norm};
pub(crate) use pool::{axis_mean, pool};
pub(crate) use resize::resize;
