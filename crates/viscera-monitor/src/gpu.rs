//! GPU memory by NVML, whose library is loaded at run time: absent, there is no GPU.

use crate::MonitorError;
use crate::record::GpuFacts;
use nvml_wrapper::Nvml;

/// A GPU whose memory is read.
#[derive(Debug)]
pub(crate) struct Gpu {
    nvml: Nvml,
    pub(crate) facts: GpuFacts,
}

impl Gpu {
    /// The GPU of this index. Of `None` the first, or nothing where there is no GPU.
    pub(crate) fn open(index: Option<u32>) -> Result<Option<Self>, MonitorError> {
        match (Self::try_open(index.unwrap_or(0)), index) {
            (Ok(gpu), _) => Ok(Some(gpu)),
            (Err(_), None) => Ok(None),
            (Err(error), Some(index)) => Err(MonitorError::NoSuchGpu {
                index,
                reason: error.to_string(),
            }),
        }
    }

    fn try_open(index: u32) -> Result<Self, nvml_wrapper::error::NvmlError> {
        let nvml = Nvml::init()?;
        let device = nvml.device_by_index(index)?;
        let facts = GpuFacts {
            index,
            name: device.name()?,
            memory_mib: device.memory_info()?.total >> 20,
            driver: nvml.sys_driver_version()?,
        };
        Ok(Self { nvml, facts })
    }

    /// Memory in use on the device, by whomever, in MiB: total − free, which what the driver reserves is part of.
    pub(crate) fn used_mib(&self) -> Option<f64> {
        let memory = self.nvml.device_by_index(self.facts.index).ok()?.memory_info().ok()?;
        Some(memory.total.saturating_sub(memory.free) as f64 / 1_048_576.0)
    }
}
