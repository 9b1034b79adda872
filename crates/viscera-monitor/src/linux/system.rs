//! The whole machine, from `/proc`.

use super::stat::kib_of;
use crate::machine::CpuReading;
use std::fs;

/// Seconds of all cores together since boot, as `/proc/stat` counts them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Counters {
    /// User mode at normal priority.
    user: f64,
    system: f64,
    /// Idle, without waiting for a disk.
    idle: f64,
    /// Idle or waiting for a disk.
    resting: f64,
    all: f64,
}

impl Counters {
    fn read() -> Option<Self> {
        let tick_s = 1.0 / rustix::param::clock_ticks_per_second().max(1) as f64;
        Self::parse(&fs::read_to_string("/proc/stat").ok()?, tick_s)
    }

    fn parse(text: &str, tick_s: f64) -> Option<Self> {
        let line = text.lines().next()?.strip_prefix("cpu ")?;
        let fields: Vec<f64> = line
            .split_ascii_whitespace()
            .map_while(|field| Some(field.parse::<u64>().ok()? as f64 * tick_s))
            .collect();
        // user nice system idle iowait irq softirq steal; the guests after these are part of user and nice.
        let at = |index: usize| fields.get(index).copied();
        Some(Self {
            user: at(0)?,
            system: at(2)?,
            idle: at(3)?,
            resting: at(3)? + at(4).unwrap_or(0.0),
            all: fields.iter().take(8).sum(),
        })
    }

    /// Use since `before`. `None` where no tick has passed.
    fn since(&self, before: &Self) -> Option<CpuReading> {
        let all = self.all - before.all;
        // Kernels let the time of waiting for disks fall at times.
        let resting = (self.resting - before.resting).clamp(0.0, all.max(0.0));
        let idle = self.idle - before.idle;
        let three = (self.user - before.user) + (self.system - before.system) + idle;
        (all > 0.0).then(|| CpuReading {
            percent: 100.0 * (1.0 - resting / all),
            flare_percent: 100.0 - 100.0 * idle / (three + 0.1),
        })
    }
}

/// Reads the system's processors and memory.
#[derive(Debug)]
pub(crate) struct System {
    before: Option<Counters>,
}

impl System {
    pub(crate) fn new() -> Self {
        Self {
            before: Counters::read(),
        }
    }

    /// Processor use since the last call.
    pub(crate) fn cpu(&mut self) -> Option<CpuReading> {
        let now = Counters::read()?;
        let reading = now.since(&self.before?);
        if reading.is_some() {
            self.before = Some(now);
        }
        reading
    }

    /// Memory in use in MiB: total − free − buffers − cached, as psutil 5 has it.
    pub(crate) fn ram_used_mib(&self) -> Option<f64> {
        used_mib(&fs::read_to_string("/proc/meminfo").ok()?)
    }
}

fn used_mib(meminfo: &str) -> Option<f64> {
    let bytes = |key| kib_of(key, meminfo);
    let (total, free) = (bytes("MemTotal:")?, bytes("MemFree:")?);
    let cached = bytes("Buffers:")? + bytes("Cached:")? + bytes("SReclaimable:").unwrap_or(0);
    let used = total.saturating_sub(free);
    Some(used.checked_sub(cached).unwrap_or(used) as f64 / 1_048_576.0)
}

/// Model of the processor.
pub(crate) fn cpu_model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Installed memory in MiB.
pub(crate) fn ram_mib() -> Option<u64> {
    Some(kib_of("MemTotal:", &fs::read_to_string("/proc/meminfo").ok()?)? >> 20)
}

/// Version of the kernel.
pub(crate) fn kernel() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flares_formula_and_its_quirks() {
        let before = Counters::parse("cpu  1000 500 200 9000 10 1 2 3 40 50\ncpu0 1 2\n", 0.01).unwrap();
        // Two cores for a second: 0.3 s user, 0.5 s nice, 0.1 s system, 1.0 s idle, 0.1 s waiting for a disk.
        let now = Counters::parse("cpu  1030 550 210 9100 20 1 2 3 60 50\n", 0.01).unwrap();
        let reading = now.since(&before).unwrap();
        assert!((reading.percent - 45.0).abs() < 1e-9, "{reading:?}");
        // Neither nice nor waiting are in it: 1 of 1.4 s, and 0.1 s on top.
        assert!(
            (reading.flare_percent - (100.0 - 100.0 / 1.5)).abs() < 1e-9,
            "{reading:?}"
        );
        assert_eq!(now.since(&now).map(|r| r.percent), None);
        assert_eq!(Counters::parse("cpu  1 2", 0.01), None);
    }

    #[test]
    fn memory_in_use() {
        let text = "MemTotal: 8192 kB\nMemFree: 1024 kB\nMemAvailable: 1 kB\nBuffers: 512 kB\nCached: 2048 kB\n\
                    SwapCached: 7 kB\nSReclaimable: 512 kB\n";
        assert_eq!(used_mib(text), Some(4.0));
        assert_eq!(used_mib("MemTotal: 8192 kB\n"), None);
    }

    #[test]
    fn this_machine() {
        let mut system = System::new();
        assert!(system.ram_used_mib().unwrap() < ram_mib().unwrap() as f64);
        std::thread::sleep(std::time::Duration::from_millis(50));
        let cpu = system.cpu().unwrap();
        assert!((0.0..=100.0).contains(&cpu.percent), "{cpu:?}");
        assert!(kernel().is_some());
    }
}
