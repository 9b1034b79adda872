//! Which executor computes.

use serde::{Deserialize, Serialize};
use viscera_burn::BurnDevice;
use viscera_engine::{Engine, Precision};
use viscera_net::{Executor, Graph, NetError, Weights};

/// Where a network is computed while it is trained. Losses, augmentation and optimiser are always the CPU's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Device {
    /// Our own engine on the CPU.
    #[default]
    Cpu,
    /// Burn's CPU backend; slower, for comparison.
    BurnCpu,
    /// The first NVIDIA GPU.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The fastest GPU that Vulkan, Metal or DirectX 12 has.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl Device {
    /// All devices of this build.
    pub const ALL: &[Self] = &[
        Self::Cpu,
        Self::BurnCpu,
        #[cfg(feature = "cuda")]
        Self::Cuda,
        #[cfg(feature = "wgpu")]
        Self::Wgpu,
    ];

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::BurnCpu => "burn-cpu",
            #[cfg(feature = "cuda")]
            Self::Cuda => "cuda",
            #[cfg(feature = "wgpu")]
            Self::Wgpu => "wgpu",
        }
    }

    /// An executor for a network, which stores what waits for the backward pass with this precision. Gradients, and the
    /// weights that an optimiser changes, are f32 either way.
    ///
    /// # Errors
    /// When the weights do not fit the graph, the executor lacks one of its operations, the device does not work, or is to
    /// store bf16 and is not [`Self::Cpu`].
    pub fn executor(
        self,
        graph: &Graph,
        weights: &Weights,
        precision: Precision,
    ) -> Result<Box<dyn Executor>, NetError> {
        if self != Self::Cpu && precision.is_bf16() {
            return Err(NetError::Executor {
                executor: self.name(),
                reason: "it computes in f32; bf16 is for the device cpu".to_owned(),
            });
        }
        let device = match self {
            Self::Cpu => return Ok(Box::new(Engine::with_options(graph, weights, precision.into())?)),
            Self::BurnCpu => BurnDevice::Cpu,
            #[cfg(feature = "cuda")]
            Self::Cuda => BurnDevice::Cuda,
            #[cfg(feature = "wgpu")]
            Self::Wgpu => BurnDevice::Wgpu,
        };
        device.executor(graph, weights)
    }
}

impl std::str::FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(&device) = Self::ALL.iter().find(|device| device.name() == text) {
            return Ok(device);
        }
        if ["cuda", "wgpu"].contains(&text) {
            return Err(format!(
                "this program was built without it: `cargo build --release --features {text}`"
            ));
        }
        let known: Vec<_> = Self::ALL.iter().map(|device| device.name()).collect();
        Err(format!("there are {}", known.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names_and_others_an_error_that_helps() {
        for &device in Device::ALL {
            assert_eq!(device.name().parse(), Ok(device));
        }
        let error = "gpu".parse::<Device>().unwrap_err();
        assert!(error.contains("cpu, burn-cpu"), "{error}");
        #[cfg(not(feature = "cuda"))]
        assert!("cuda".parse::<Device>().unwrap_err().contains("--features cuda"));
    }
}
