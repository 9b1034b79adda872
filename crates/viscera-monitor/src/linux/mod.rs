//! What Linux tells through `/proc`.

mod interrupt;
mod stat;
mod system;
mod tree;

pub(crate) use interrupt::Interrupts;
pub(crate) use system::{System, cpu_model, kernel, ram_mib};
pub use tree::own_peak_bytes;
pub(crate) use tree::{Tree, thread_cpu};

/// What this platform cannot measure.
pub(crate) const NOT_MEASURED: &[&str] = &[];
