//! Builders of the networks, one file each. A builder takes widths and options and gives a [`Graph`](crate::Graph).

mod coarse_unet;
mod efficientsegnet;
mod parts;

pub use coarse_unet::CoarseUnet;
pub use efficientsegnet::{EfficientSegNet, Plane};
pub use parts::GraphBuilder;
