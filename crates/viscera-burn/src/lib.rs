//! Runs a [`viscera_net::Graph`] on Burn tensors, forward and backward, on any backend of Burn 0.21.
//!
//! Burn differentiates the graph by itself; nothing here is a hand-written gradient. What it lacks (3-D pooling, trilinear
//! resize) is put together from what it has, and follows PyTorch down to which of several equal values a maximum takes.

mod check;
mod convert;
mod device;
mod executor;
mod guard;
mod interpret;
mod ops;

pub use convert::{from_burn, to_burn};
pub use device::BurnDevice;
pub use executor::BurnExecutor;

/// Burn's CPU backend.
pub type Cpu = burn::backend::Flex;

/// Burn's CPU backend with gradients.
pub type CpuAutodiff = burn::backend::Autodiff<Cpu>;

/// The executor on the CPU.
pub type CpuExecutor = BurnExecutor<CpuAutodiff>;

/// Name in errors.
const EXECUTOR: &str = "Burn";
