//! Measures what a command costs: wall clock, processor time, memory of its whole process tree and GPU memory, sampled
//! as it runs, with the areas under the curves as the FLARE challenges take them and by the true integral.
//!
//! # What is read
//!
//! On Linux from `/proc`, every 0.1 s unless told otherwise, and more often in the first 0.1 s:
//!
//! * of the system as FLARE's script does it: processors that are not idle, RAM in use, GPU memory in use on the whole
//!   device (NVML);
//! * of the command and all its descendants, orphans included: processor time, resident memory (RSS, `statm`) summed,
//!   and proportional memory (PSS, `smaps_rollup`) summed where it may be read. RSS counts a page once for each process
//!   that shares it; PSS divides it. PSS is dear for large processes, so that it is read as often as one hundredth of a
//!   core allows.
//!
//! When the command has ended, the kernel's account of it and of all processes that it waited for (`wait4`) gives the
//! exact processor time and the largest memory of any one of them, however short they lived.
//!
//! A command that hands its work to a service, as `docker run` does, has only the client in its tree; the curves of the
//! system show the work, which is why FLARE takes those.
//!
//! On other platforms there are the wall clock, the exit code, the kernel's account and the GPU.
//!
//! `/proc` is read here and not through the crate `sysinfo`, which reads all processes of the machine each time and has
//! neither PSS nor the time of children that were waited for.
//!
//! ```no_run
//! use viscera_monitor::{Curve, Monitor, MonitorOptions};
//!
//! # fn main() -> Result<(), viscera_monitor::MonitorError> {
//! let monitor = Monitor::new(&MonitorOptions::default())?;
//! let record = monitor.run(std::process::Command::new("sleep").arg("1"))?;
//! println!("{:.2} s, {:.2} s of processor", record.wall_s, record.usage.cpu_s());
//! println!("{:.0} MiB·s of RAM", record.areas[&Curve::Ram].integral);
//! # Ok(())
//! # }
//! ```

#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

mod curve;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod error;
mod gpu;
#[cfg(target_os = "linux")]
mod linux;
mod machine;
mod monitor;
mod record;

#[cfg(not(target_os = "linux"))]
use elsewhere as platform;
#[cfg(target_os = "linux")]
use linux as platform;

pub use curve::{Area, Curve, flare_sum, integral_of_means, maximum, stable_maximum, trapezoid};
pub use error::MonitorError;
pub use monitor::{Monitor, MonitorOptions};
pub use platform::own_peak_bytes;
pub use record::{Baseline, Bench, GpuFacts, Machine, Record, Sample, Spread, Usage};
