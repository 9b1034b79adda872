//! Builders of the networks, one file each. A builder takes widths and options and gives a [`Graph`](crate::Graph).

mod coarse_unet;
mod dmfnet;
mod efficientsegnet;
mod parts;
mod phtrans;
mod residual;
mod unet;

pub use coarse_unet::CoarseUnet;
pub use dmfnet::{DmfNet, Gates};
pub use efficientsegnet::{EfficientSegNet, Plane};
pub use parts::{ConvSettings, GraphBuilder, Norm};
pub use phtrans::PhTrans;
pub use unet::{Encoder, Heads, Naming, UNet, UNetStage};
