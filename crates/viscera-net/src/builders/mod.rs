//! Builders of the networks, one file each. A builder takes widths and options and gives a [`Graph`].
//!
//! [`Architecture`] is any of them; [`named()`] gives those that publications fix, with all their settings.

mod coarse_unet;
mod dmfnet;
mod efficientsegnet;
mod named;
mod parts;
mod phtrans;
mod residual;
mod unet;

pub use coarse_unet::CoarseUnet;
pub use dmfnet::{DmfNet, Gates};
pub use efficientsegnet::{EfficientSegNet, Plane};
pub use named::{NamedNetwork, named, networks};
pub use parts::{ConvSettings, GraphBuilder, Norm};
pub use phtrans::PhTrans;
pub use unet::{Encoder, Heads, Naming, UNet, UNetStage};

use crate::{Graph, NetError};
use serde::{Deserialize, Serialize};

/// The settings of a network of any kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// The localising U-Net of EfficientSegNet's authors.
    CoarseUnet(CoarseUnet),
    /// EfficientSegNet.
    #[serde(rename = "efficientsegnet")]
    EfficientSegNet(EfficientSegNet),
    /// nnU-Net's U-Nets.
    #[serde(rename = "unet")]
    UNet(UNet),
    /// MFNet, DMFNet, Attention DMFNet.
    #[serde(rename = "dmfnet")]
    DmfNet(DmfNet),
    /// PHTrans.
    #[serde(rename = "phtrans")]
    PhTrans(PhTrans),
}

impl Architecture {
    /// The graph.
    ///
    /// # Errors
    /// [`NetError::Settings`] when no network can be built from the settings.
    pub fn build(&self) -> Result<Graph, NetError> {
        match self {
            Self::CoarseUnet(settings) => Ok(settings.build()),
            Self::EfficientSegNet(settings) => Ok(settings.build()),
            Self::UNet(settings) => settings.build(),
            Self::DmfNet(settings) => settings.build(),
            Self::PhTrans(settings) => settings.build(),
        }
    }
}
