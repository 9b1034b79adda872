//! Runs a command and watches it.

use crate::MonitorError;
use crate::curve::{Curve, maximum, stable_maximum};
use crate::gpu::Gpu;
use crate::machine::{Times, machine};
use crate::platform::{Interrupts, NOT_MEASURED, System, Tree, own_peak_bytes, thread_cpu};
use crate::record::{Baseline, Machine, Record, Sample, Usage};
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use wait4::{ResUse, Wait4};

/// Signals are looked for this often.
const LOOK: Duration = Duration::from_millis(100);

/// Following orphans is a state of the whole process, so that it can follow one command at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How to measure.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorOptions {
    /// Time between regular readings, 0.01 s to 60 s; FLARE's is 0.1 s.
    pub interval: Duration,
    /// How long the idle system is watched before each start; zero is not at all.
    pub baseline: Duration,
    /// NVML's index of the GPU to read. `None` is the first, if there is one.
    pub gpu: Option<u32>,
}

impl Default for MonitorOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            baseline: Duration::from_millis(500),
            gpu: None,
        }
    }
}

/// Measures commands, one after the other.
#[derive(Debug)]
pub struct Monitor {
    interval: Duration,
    baseline: Duration,
    gpu: Option<Gpu>,
    machine: Machine,
}

impl Monitor {
    /// Opens the GPU and reads what the machine is.
    ///
    /// # Errors
    /// [`MonitorError::Interval`], and [`MonitorError::NoSuchGpu`] for an index that was asked for and is not there.
    pub fn new(options: &MonitorOptions) -> Result<Self, MonitorError> {
        if !(Duration::from_millis(10)..=Duration::from_secs(60)).contains(&options.interval) {
            let seconds = options.interval.as_secs_f64();
            return Err(MonitorError::Interval { seconds });
        }
        let gpu = Gpu::open(options.gpu)?;
        Ok(Self {
            interval: options.interval,
            baseline: options.baseline,
            machine: machine(gpu.as_ref().map(|gpu| &gpu.facts)),
            gpu,
        })
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Runs a command, with the streams and the surroundings that it is given, until it ends.
    ///
    /// Meanwhile SIGINT and SIGTERM to this process end the command's whole tree, and no other thread should start
    /// processes: they would be counted to the tree. Calls from several threads wait for each other.
    ///
    /// # Errors
    /// [`MonitorError::Start`] if there is no such program or it may not be run. However a command ends, that it ran is
    /// no error.
    pub fn run(&self, command: &mut Command) -> Result<Record, MonitorError> {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let own_cpu = thread_cpu();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let program = words.first().cloned().unwrap_or_default();
        let mut system = System::new();
        let (before, baseline) = self.watch_idle(&mut system);
        let interrupts = Interrupts::take()?;
        let mut tree = Tree::before_start()?;
        let (give, end) = waiter()?;
        let own_peak = own_peak_bytes().unwrap_or(0);
        let started_unix_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let start = Instant::now();
        let child = command.spawn().map_err(|source| MonitorError::Start {
            program: program.clone(),
            source,
        })?;
        tree.started(child.id());
        // The thread is there until it has a child.
        let _ = give.send(child);
        let mut run = Run {
            monitor: self,
            start,
            system,
            tree,
            interrupts,
            samples: Vec::new(),
        };
        let (ended, result) = run.watch(&end, before);
        let used = result.map_err(|source| MonitorError::Wait { program, source })?;
        let wall_s = ended.duration_since(start).as_secs_f64();
        let usage = run.finish(wall_s, &used, own_peak);
        let interrupted = run.interrupts.came();
        let mut record = Record {
            command: words,
            started_unix_s: started_unix_s.map_or(0.0, |since| since.as_secs_f64()),
            exit_code: exit_code(used.status),
            signal: signal(used.status),
            interrupted,
            wall_s,
            interval_s: self.interval.as_secs_f64(),
            usage,
            peak_rss_mib: None,
            peaks: BTreeMap::new(),
            gpu_max_flare22_mib: None,
            gpu_max_flare23_mib: None,
            areas: BTreeMap::new(),
            baseline,
            processes_seen: run.tree.seen(),
            left_running: run.tree.alive(),
            monitor_cpu_s: 0.0,
            not_measured: self.not_measured(),
            machine: self.machine.clone(),
            samples: run.samples,
        };
        summarise(&mut record);
        record.monitor_cpu_s = thread_cpu().saturating_sub(own_cpu).as_secs_f64();
        Ok(record)
    }

    fn not_measured(&self) -> Vec<String> {
        let gpu = self.gpu.is_none().then_some("GPU memory: no GPU, or no NVML");
        NOT_MEASURED.iter().copied().chain(gpu).map(str::to_owned).collect()
    }

    fn gpu_mib(&self) -> Option<f64> {
        self.gpu.as_ref().map_or(Some(0.0), Gpu::used_mib)
    }

    /// Watches the system for a while. Gives the last reading, and the means.
    fn watch_idle(&self, system: &mut System) -> (Sample, Option<Baseline>) {
        let readings = (self.baseline.as_secs_f64() / self.interval.as_secs_f64()).round() as u32;
        let start = Instant::now();
        let mut samples = Vec::new();
        for _ in 0..readings {
            std::thread::sleep(self.interval);
            samples.push(self.system(system));
        }
        let mean = |curve: &Curve| {
            let values = curve.regular(&samples);
            (!values.is_empty()).then(|| (*curve, values.iter().sum::<f64>() / values.len() as f64))
        };
        let baseline = Baseline {
            seconds: start.elapsed().as_secs_f64(),
            mean: Curve::ALL.iter().filter_map(mean).collect(),
        };
        (samples.pop().unwrap_or_default(), (readings > 0).then_some(baseline))
    }

    /// Reads the system.
    fn system(&self, system: &mut System) -> Sample {
        let cpu = system.cpu();
        Sample {
            cpu_percent: cpu.map(|cpu| cpu.percent),
            cpu_flare_percent: cpu.map(|cpu| cpu.flare_percent),
            ram_used_mib: system.ram_used_mib(),
            gpu_mib: self.gpu_mib(),
            ..Sample::default()
        }
    }
}

/// The end of the command, and what the kernel says of it.
type End = (Instant, io::Result<ResUse>);

/// A thread that waits for the child that it is given. It is there before the child, so that nothing can fail between.
fn waiter() -> Result<(mpsc::Sender<Child>, Receiver<End>), MonitorError> {
    let (give, take) = mpsc::channel::<Child>();
    let (tell, end) = mpsc::channel();
    let wait = move || {
        if let Ok(mut child) = take.recv() {
            let result = loop {
                match child.wait4() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result,
                }
            };
            // Nobody listens any more: nothing to tell.
            let _ = tell.send((Instant::now(), result));
        }
    };
    std::thread::Builder::new()
        .spawn(wait)
        .map_err(|source| MonitorError::Watch {
            what: "to start a thread",
            source,
        })?;
    Ok((give, end))
}

/// When to read: at the start; five times within the first interval, each time after twice as long, as memory rises
/// fastest there; then regularly, however long a reading takes.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    extra: u32,
    regular: u32,
}

impl Schedule {
    const EXTRA: u32 = 5;

    fn new(interval: Duration) -> Self {
        Self {
            interval,
            extra: 0,
            regular: 0,
        }
    }

    /// The first time after `now` to read at, and whether it is an extra reading. Times that were missed are skipped.
    fn next(&mut self, now: Duration) -> (Duration, bool) {
        while self.extra < Self::EXTRA {
            let time = self.interval / 2u32.pow(Self::EXTRA - self.extra);
            self.extra += 1;
            if time > now {
                return (time, true);
            }
        }
        loop {
            self.regular = self.regular.saturating_add(1);
            let time = self.interval.saturating_mul(self.regular);
            if time > now || self.regular == u32::MAX {
                return (time, false);
            }
        }
    }
}

/// A command that runs.
struct Run<'a> {
    monitor: &'a Monitor,
    start: Instant,
    system: System,
    tree: Tree,
    interrupts: Interrupts,
    samples: Vec<Sample>,
}

impl Run<'_> {
    /// Reads until the command ends. `before` is the system just before the start.
    fn watch(&mut self, end: &Receiver<End>, before: Sample) -> End {
        let mut schedule = Schedule::new(self.monitor.interval);
        let sample = self.with_tree(before, true);
        self.samples.push(sample);
        loop {
            let (due, extra) = schedule.next(self.start.elapsed());
            loop {
                let left = due.saturating_sub(self.start.elapsed());
                match end.recv_timeout(left.min(LOOK)) {
                    Ok(end) => return end,
                    Err(RecvTimeoutError::Disconnected) => {
                        return (Instant::now(), Err(io::Error::other("the waiting thread is gone")));
                    }
                    Err(RecvTimeoutError::Timeout) => self.interrupts.pass_on(&mut self.tree),
                }
                if self.start.elapsed() >= due {
                    break;
                }
            }
            let system = if extra {
                Sample::default()
            } else {
                self.monitor.system(&mut self.system)
            };
            let sample = self.with_tree(Sample { extra, ..system }, !extra);
            self.samples.push(sample);
        }
    }

    /// Adds the tree to a reading of the system.
    fn with_tree(&mut self, system: Sample, with_pss: bool) -> Sample {
        let t_s = self.start.elapsed().as_secs_f64();
        let tree = self.tree.read(with_pss);
        Sample {
            t_s,
            tree_cpu_s: tree.map(|tree| tree.cpu_s),
            processes: tree.map(|tree| tree.processes),
            rss_mib: tree.map(|tree| tree.rss_mib),
            pss_mib: tree.and_then(|tree| tree.pss_mib),
            ..system
        }
    }

    /// After the end: the last reading, and the accounts.
    fn finish(&mut self, wall_s: f64, used: &ResUse, own_peak: u64) -> Usage {
        let cpu = self.system.cpu();
        self.tree.ended(Times {
            user_s: used.rusage.utime.as_secs_f64(),
            system_s: used.rusage.stime.as_secs_f64(),
        });
        let times = self.tree.times();
        // A reading that was due just as the command ended shows the dying tree.
        self.samples.retain(|sample| sample.t_s < wall_s);
        let tree_cpu_s = self.tree.read(false).map(|tree| tree.cpu_s);
        self.samples.push(Sample {
            t_s: wall_s,
            extra: true,
            cpu_percent: cpu.map(|cpu| cpu.percent),
            tree_cpu_s,
            ..Sample::default()
        });
        self.interrupts.pass_on(&mut self.tree);
        self.interrupts.finish(&mut self.tree);
        let says = used.rusage.maxrss > own_peak;
        Usage {
            user_s: times.user_s,
            system_s: times.system_s,
            max_rss_mib: says.then_some(used.rusage.maxrss as f64 / 1_048_576.0),
        }
    }
}

/// Peaks and areas from the readings.
fn summarise(record: &mut Record) {
    let samples = &record.samples;
    for &curve in Curve::ALL {
        let idle = record.baseline.as_ref().and_then(|b| b.mean.get(&curve).copied());
        let values: Vec<f64> = samples.iter().filter_map(|sample| curve.of(sample)).collect();
        if let Some(peak) = maximum(&values) {
            record.peaks.insert(curve, peak);
        }
        if let Some(area) = curve.area(samples, record.interval_s, record.wall_s, idle) {
            record.areas.insert(curve, area);
        }
    }
    let gpu = Curve::Gpu.regular(samples);
    record.gpu_max_flare22_mib = stable_maximum(&gpu);
    record.gpu_max_flare23_mib = maximum(&gpu);
    let sampled = record.peaks.get(&Curve::TreeRss).copied();
    let peaks: Vec<f64> = sampled.into_iter().chain(record.usage.max_rss_mib).collect();
    record.peak_rss_mib = maximum(&peaks);
}

#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_status: ExitStatus) -> Option<i32> {
    None
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + signal(status).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn readings_start_dense_and_stay_on_the_grid() {
        let mut schedule = Schedule::new(ms(160));
        let mut now = Duration::ZERO;
        let mut times = Vec::new();
        for _ in 0..7 {
            let (time, extra) = schedule.next(now);
            times.push((time, extra));
            now = time + ms(1);
        }
        let expected = [
            (5, true),
            (10, true),
            (20, true),
            (40, true),
            (80, true),
            (160, false),
            (320, false),
        ];
        assert_eq!(times, expected.map(|(t, extra)| (ms(t), extra)));
        // After a stall of the machine the grid goes on where it is; nothing is read twice to catch up.
        assert_eq!(schedule.next(ms(1000)), (ms(1120), false));
    }

    #[test]
    fn intervals_have_bounds() {
        let options = MonitorOptions {
            interval: ms(1),
            ..MonitorOptions::default()
        };
        assert!(matches!(Monitor::new(&options), Err(MonitorError::Interval { .. })));
    }
}
