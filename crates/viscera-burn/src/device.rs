//! Burn's devices.

#[cfg(any(feature = "cuda", feature = "wgpu"))]
use crate::EXECUTOR;
use crate::{BurnExecutor, Cpu};
use burn::backend::Autodiff;
use burn::tensor::backend::AutodiffBackend;
use viscera_net::{Executor, Graph, NetError, Weights};

/// A device of Burn that this build can compute on; which ones there are is a choice of features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BurnDevice {
    /// The CPU.
    Cpu,
    /// The first NVIDIA GPU, by CUDA. Driver and compiler (NVRTC) are loaded at run time.
    #[cfg(feature = "cuda")]
    Cuda,
    /// The fastest GPU that Vulkan, Metal or DirectX 12 has.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

impl BurnDevice {
    /// An executor for a network on this device.
    ///
    /// # Errors
    /// [`NetError::Executor`] when there is no such device or its driver does not work; when the weights do not fit the graph.
    pub fn executor(self, graph: &Graph, weights: &Weights) -> Result<Box<dyn Executor>, NetError> {
        match self {
            Self::Cpu => boxed::<Autodiff<Cpu>>(graph, weights),
            #[cfg(feature = "cuda")]
            Self::Cuda => boxed::<Autodiff<burn::backend::Cuda>>(graph, weights).map_err(|e| missing("CUDA", e)),
            #[cfg(feature = "wgpu")]
            Self::Wgpu => {
                let executor = boxed::<Autodiff<burn::backend::Wgpu>>(graph, weights);
                executor.map_err(|e| missing("Vulkan, Metal or DirectX 12", e))
            }
        }
    }
}

fn boxed<B: AutodiffBackend>(graph: &Graph, weights: &Weights) -> Result<Box<dyn Executor>, NetError> {
    Ok(Box::new(BurnExecutor::<B>::new(graph, weights, &Default::default())?))
}

/// What the failure of a GPU's driver means.
#[cfg(any(feature = "cuda", feature = "wgpu"))]
fn missing(interface: &str, error: NetError) -> NetError {
    match error {
        NetError::Executor { reason, .. } => NetError::Executor {
            executor: EXECUTOR,
            reason: format!("no GPU answers by {interface}; is there one, with its driver? ({reason})"),
        },
        other => other,
    }
}
