//! What was measured: the numbers of one run, and a file of several.

use crate::curve::{Area, Curve};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One reading of the system and of the command's process tree.
///
/// What a platform or a moment cannot give is `None`. MiB are 2²⁰ bytes, which the FLARE scripts call MB.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Sample {
    /// Seconds since the command was started.
    pub t_s: f64,
    /// Taken between the regular readings: just after the start, and at the end. FLARE's sums leave it out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extra: bool,
    /// Busy processors of the whole system since the reading before, in percent of all cores: 100 − idle, where waiting
    /// for a disk is idle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// The same by the formula of FLARE's script, see [`Curve::CpuFlare`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_flare_percent: Option<f64>,
    /// User and system seconds that the tree has used so far, dead processes included. It never falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_cpu_s: Option<f64>,
    /// Processes of the tree that live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Resident memory, summed over the tree. Pages that several processes share count once for each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss_mib: Option<f64>,
    /// Proportional resident memory, summed over the tree: shared pages are divided among those that share them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pss_mib: Option<f64>,
    /// Memory in use in the whole system: total − free − buffers − cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_used_mib: Option<f64>,
    /// Memory in use on the whole GPU, by whomever: total − free. 0 where there is no GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_mib: Option<f64>,
}

/// The system just before the start: means of regular readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Seconds that it was watched.
    pub seconds: f64,
    /// Mean of every curve of the system that could be read.
    pub mean: BTreeMap<Curve, f64>,
}

/// What the kernel accounts to the command and to its descendants when they end.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Processor seconds of the tree in user mode.
    pub user_s: f64,
    /// Processor seconds of the tree in the kernel.
    pub system_s: f64,
    /// Largest resident memory of any one process of the tree. `None` where the kernel's number does not exceed that of
    /// the measuring program, from which a new process inherits it, and so says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rss_mib: Option<f64>,
}

impl Usage {
    /// User and system seconds together.
    pub fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// A GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuFacts {
    /// Index by NVML's count.
    pub index: u32,
    /// Name, such as `NVIDIA H100`.
    pub name: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Version of the driver.
    pub driver: String,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Logical cores that the command may use.
    pub cores: usize,
    /// Memory in MiB, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ram_mib: Option<u64>,
    /// Operating system, kernel and architecture.
    pub system: String,
    /// The GPU whose memory is read; `None` is "no GPU".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<GpuFacts>,
}

/// One run of a command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Seconds since 1970 when it was started.
    pub started_unix_s: f64,
    /// Exit code as a shell gives it: that of the command, or 128 + the signal that ended it.
    pub exit_code: i32,
    /// The signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The measurement was interrupted, and the tree was ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Wall clock of the whole command in seconds, from just before its start to its end.
    pub wall_s: f64,
    /// Seconds between regular readings.
    pub interval_s: f64,
    /// Processor time and memory by the kernel's accounts.
    pub usage: Usage,
    /// Largest resident memory of the whole tree in MiB: of the readings and of [`Usage::max_rss_mib`], the larger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<f64>,
    /// Largest value of every curve, over its readings.
    pub peaks: BTreeMap<Curve, f64>,
    /// Largest GPU memory in MiB by the rule of FLARE21 and FLARE22: the largest value that more than 2 % of the
    /// regular readings have. `None` where no value has so many; the official script fails there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_max_flare22_mib: Option<f64>,
    /// Largest GPU memory in MiB by the rule of FLARE23: the largest regular reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_max_flare23_mib: Option<f64>,
    /// Area under every curve.
    pub areas: BTreeMap<Curve, Area>,
    /// The system before the start, where it was watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Processes seen in the tree. Some that lived for less than the interval may be missing here, but not in
    /// [`Record::usage`].
    pub processes_seen: u32,
    /// Processes of the tree that lived on when the command ended. What they do later is not measured.
    pub left_running: u32,
    /// Processor seconds that the measurement itself took.
    pub monitor_cpu_s: f64,
    /// What could not be measured, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_measured: Vec<String>,
    /// The machine.
    pub machine: Machine,
    /// The readings, in order of time.
    pub samples: Vec<Sample>,
}

impl Record {
    /// Processor use of the tree over time: (seconds, percent of one core since the reading before). Steps are as
    /// coarse as the kernel's clock, 1/100 s as a rule.
    pub fn tree_cpu_curve(&self) -> Vec<(f64, f64)> {
        let regular = self.samples.iter().filter(|s| !s.extra);
        let readings: Vec<(f64, f64)> = regular.filter_map(|s| Some((s.t_s, s.tree_cpu_s?))).collect();
        let pairs = readings.iter().zip(readings.iter().skip(1));
        pairs
            .filter(|((t0, _), (t1, _))| t1 > t0)
            .map(|(&(t0, c0), &(t1, c1))| (t1, 100.0 * (c1 - c0) / (t1 - t0)))
            .collect()
    }
}

/// Median, smallest and largest of some numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Median; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of these numbers; `None` of none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 {
            upper
        } else {
            (values.get(middle.checked_sub(1)?)? + upper) / 2.0
        };
        Some(Self {
            median,
            min: *values.first()?,
            max: *values.last()?,
        })
    }
}

/// A command run several times: the content of the files of `viscera bench`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// The case that the command works on, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Wall clock in seconds.
    pub wall_s: Spread,
    /// Processor seconds of the tree.
    pub cpu_s: Spread,
    /// Largest resident memory of the tree in MiB, where it could be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_rss_mib: Option<Spread>,
    /// The runs, in order; never empty in a file that `viscera bench` wrote.
    pub runs: Vec<Record>,
}

impl Bench {
    /// Of these runs of one command; `None` of none.
    pub fn new(case: Option<String>, runs: Vec<Record>) -> Option<Self> {
        Some(Self {
            case,
            command: runs.first()?.command.clone(),
            wall_s: Spread::of(runs.iter().map(|r| r.wall_s))?,
            cpu_s: Spread::of(runs.iter().map(|r| r.usage.cpu_s()))?,
            peak_rss_mib: Spread::of(runs.iter().filter_map(|r| r.peak_rss_mib)),
            runs,
        })
    }

    /// The run whose wall clock is nearest to the median; of equals the first. Its curves stand for all.
    pub fn typical(&self) -> Option<&Record> {
        let distance = |record: &&Record| (record.wall_s - self.wall_s.median).abs();
        self.runs.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}
