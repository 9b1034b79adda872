//! Platforms without `/proc`: wall clock, exit code, the kernel's account of the command, and the GPU; no curves of
//! processors and memory. Ctrl-C does what it does without a measurement.

use crate::MonitorError;
use crate::machine::{CpuReading, Times, TreeReading};
use std::time::Duration;

/// What this platform cannot measure.
pub(crate) const NOT_MEASURED: &[&str] = &[
    "curves of processor and memory, of the command and of the system: this needs Linux",
    "processor time and memory of processes that the command did not wait for",
];

/// Knows the command only.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    times: Times,
}

impl Tree {
    pub(crate) fn before_start() -> Result<Self, MonitorError> {
        Ok(Self::default())
    }

    pub(crate) fn started(&mut self, _pid: u32) {}

    pub(crate) fn ended(&mut self, times: Times) {
        self.times = times;
    }

    pub(crate) fn read(&mut self, _with_pss: bool) -> Option<TreeReading> {
        None
    }

    pub(crate) fn times(&mut self) -> Times {
        self.times
    }

    pub(crate) fn seen(&self) -> u32 {
        1
    }

    pub(crate) fn alive(&mut self) -> u32 {
        0
    }
}

/// Leaves signals alone.
#[derive(Debug)]
pub(crate) struct Interrupts;

impl Interrupts {
    pub(crate) fn take() -> Result<Self, MonitorError> {
        Ok(Self)
    }

    pub(crate) fn came(&self) -> bool {
        false
    }

    pub(crate) fn pass_on(&mut self, _tree: &mut Tree) {}

    pub(crate) fn finish(&mut self, _tree: &mut Tree) {}
}

/// Reads nothing.
#[derive(Debug)]
pub(crate) struct System;

impl System {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn cpu(&mut self) -> Option<CpuReading> {
        None
    }

    pub(crate) fn ram_used_mib(&self) -> Option<f64> {
        None
    }
}

pub(crate) fn cpu_model() -> Option<String> {
    None
}

pub(crate) fn kernel() -> Option<String> {
    None
}

pub(crate) fn ram_mib() -> Option<u64> {
    None
}

/// Largest resident memory that this process has had, in bytes; not known here.
#[must_use]
pub fn own_peak_bytes() -> Option<u64> {
    None
}

pub(crate) fn thread_cpu() -> Duration {
    Duration::ZERO
}
