//! What the machine is, and what is read of it.

use crate::platform;
use crate::record::{GpuFacts, Machine};

/// Use of all processors over some time.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux is read"))]
pub(crate) struct CpuReading {
    /// [`crate::Sample::cpu_percent`].
    pub(crate) percent: f64,
    /// [`crate::Sample::cpu_flare_percent`].
    pub(crate) flare_percent: f64,
}

/// A process tree at a moment.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "only Linux is read"))]
pub(crate) struct TreeReading {
    /// Processor time so far, of living and dead.
    pub(crate) cpu_s: f64,
    pub(crate) processes: u32,
    pub(crate) rss_mib: f64,
    pub(crate) pss_mib: Option<f64>,
}

/// Processor time in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Times {
    pub(crate) user_s: f64,
    pub(crate) system_s: f64,
}

impl Times {
    pub(crate) fn total(self) -> f64 {
        self.user_s + self.system_s
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.user_s += other.user_s;
        self.system_s += other.system_s;
    }
}

/// Reads what the machine is.
pub(crate) fn machine(gpu: Option<&GpuFacts>) -> Machine {
    let parts = [
        Some(std::env::consts::OS.to_owned()),
        platform::kernel(),
        Some(std::env::consts::ARCH.to_owned()),
    ];
    Machine {
        cpu: platform::cpu_model(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        ram_mib: platform::ram_mib(),
        system: parts.into_iter().flatten().collect::<Vec<_>>().join(" "),
        gpu: gpu.cloned(),
    }
}
