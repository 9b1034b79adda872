//! Which executor computes.

use serde::{Deserialize, Serialize};
use viscera_burn::CpuExecutor;
use viscera_engine::Engine;
use viscera_net::{Executor, Graph, NetError, Weights};

/// Where a network is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Device {
    /// Our own engine on the CPU.
    #[default]
    Cpu,
    /// Burn's CPU backend; slower, for comparison.
    BurnCpu,
}

impl Device {
    /// All devices.
    pub const ALL: [Self; 2] = [Self::Cpu, Self::BurnCpu];

    /// Name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::BurnCpu => "burn-cpu",
        }
    }

    /// An executor for a network.
    ///
    /// # Errors
    /// When the weights do not fit the graph, or the executor lacks one of its operations.
    pub fn executor(self, graph: &Graph, weights: &Weights) -> Result<Box<dyn Executor>, NetError> {
        Ok(match self {
            Self::Cpu => Box::new(Engine::new(graph, weights)?),
            Self::BurnCpu => Box::new(CpuExecutor::new(graph, weights, &Default::default())?),
        })
    }
}
