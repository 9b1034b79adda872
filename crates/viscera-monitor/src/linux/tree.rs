//! The processes that descend from a command.
//!
//! The measuring program makes itself the reaper of orphans among its descendants (`PR_SET_CHILD_SUBREAPER`), so that a
//! process stays below it however its parents end, in new sessions and groups too. A process is then of the tree if the
//! chain of its parents leads to the measuring program without passing a process that was there before.

use super::stat::{Stat, proportional_bytes, resident_bytes};
use crate::MonitorError;
use crate::machine::{Times, TreeReading};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Of the time that passes, PSS may take one part in so many: it is read the less often the larger the processes are.
const PSS_SHARE: u32 = 100;

/// Where a process belongs. For as long as a process lives, this does not change: orphans move up to a reaper, which is
/// of the same side.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Side {
    Outside,
    Inside { started: u64 },
}

/// Follows the descendants of one command.
#[derive(Debug)]
pub(crate) struct Tree {
    own: i32,
    /// The command itself; 0 before it starts.
    root: i32,
    known: HashMap<i32, Side>,
    /// Time of orphans that were buried here.
    buried: Times,
    /// Time of the command and of all that it waited for, once it has ended.
    root_times: Option<Times>,
    cpu_s: f64,
    seen: u32,
    next_pss: Instant,
}

impl Tree {
    /// Before the command starts: all processes that are there are not of its tree.
    pub(crate) fn before_start() -> Result<Self, MonitorError> {
        let what = "to follow orphaned processes (PR_SET_CHILD_SUBREAPER)";
        let own = getpid();
        set_child_subreaper(Some(own)).map_err(|error| MonitorError::Watch {
            what,
            source: error.into(),
        })?;
        let known = pids().into_iter().map(|pid| (pid, Side::Outside)).collect();
        Ok(Self {
            own: own.as_raw_nonzero().get(),
            root: 0,
            known,
            buried: Times::default(),
            root_times: None,
            cpu_s: 0.0,
            seen: 0,
            next_pss: Instant::now(),
        })
    }

    /// The command has started.
    pub(crate) fn started(&mut self, pid: u32) {
        self.root = i32::try_from(pid).unwrap_or(0);
        self.known.remove(&self.root);
        // It counts even if it ends before anybody looks.
        self.seen = 1;
    }

    /// The command has ended, and has been waited for.
    pub(crate) fn ended(&mut self, times: Times) {
        self.root_times = Some(times);
        self.known.remove(&self.root);
    }

    /// Reads the tree; PSS only if asked for, and if it is not too dear.
    pub(crate) fn read(&mut self, with_pss: bool) -> Option<TreeReading> {
        let members = self.members();
        // Between the death of a process and its parent's wait, its time may be in neither account.
        self.cpu_s = self.cpu_s.max(self.times_of(&members).total());
        let alive = || {
            members
                .iter()
                .filter(|(_, stat)| !stat.is_zombie())
                .map(|&(pid, _)| pid)
        };
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        let now = Instant::now();
        let pss_mib = (with_pss && now >= self.next_pss).then(|| {
            let before = thread_cpu();
            let pss: Option<u64> = alive().map(proportional_bytes).sum();
            self.next_pss = now + thread_cpu().saturating_sub(before) * PSS_SHARE;
            pss.map(mib)
        });
        Some(TreeReading {
            cpu_s: self.cpu_s,
            processes: u32::try_from(alive().count()).unwrap_or(u32::MAX),
            rss_mib: mib(alive().filter_map(resident_bytes).sum()),
            pss_mib: pss_mib.flatten(),
        })
    }

    /// User and system time of the tree so far.
    pub(crate) fn times(&mut self) -> Times {
        let members = self.members();
        self.times_of(&members)
    }

    /// Processes seen so far.
    pub(crate) fn seen(&self) -> u32 {
        self.seen
    }

    /// Processes that live.
    pub(crate) fn alive(&mut self) -> u32 {
        let members = self.members();
        u32::try_from(members.iter().filter(|(_, stat)| !stat.is_zombie()).count()).unwrap_or(u32::MAX)
    }

    /// Sends a signal to the living. Where the terminal has already given it to the foreground group, which this
    /// program is of, only those outside this group get it.
    pub(crate) fn signal(&mut self, signal: Signal, terminal_did: bool) {
        let own = Stat::read(self.own);
        let group = own
            .filter(|own| terminal_did && own.foreground == own.group)
            .map(|own| own.group);
        for (pid, stat) in self.members() {
            if let Some(pid) = Pid::from_raw(pid)
                && Some(stat.group) != group
                && !stat.is_zombie()
            {
                // It may have ended meanwhile.
                let _ = kill_process(pid, signal);
            }
        }
    }

    fn times_of(&self, members: &[(i32, Stat)]) -> Times {
        let mut sum = self.buried;
        sum.add(self.root_times.unwrap_or_default());
        for (_, stat) in members {
            sum.add(stat.times);
        }
        sum
    }

    /// The tree's processes now. Buries orphans that have ended: nobody else would.
    fn members(&mut self) -> Vec<(i32, Stat)> {
        let present = pids();
        let mut fresh: Vec<(i32, Stat)> = Vec::new();
        let mut members: Vec<(i32, Stat)> = Vec::new();
        let mut known = HashMap::with_capacity(present.len());
        for pid in present {
            match self.known.get(&pid) {
                Some(Side::Outside) => {
                    known.insert(pid, Side::Outside);
                }
                // Only what is new or of the tree is read: a few files, however many processes the machine has.
                side => {
                    let Some(stat) = Stat::read(pid) else { continue };
                    if side == Some(&(Side::Inside { started: stat.started })) {
                        known.insert(pid, Side::Inside { started: stat.started });
                        members.push((pid, stat));
                    } else {
                        fresh.push((pid, stat));
                    }
                }
            }
        }
        // A parent may stand after its child in the list, as ids start again from below at some time.
        loop {
            let before = fresh.len();
            fresh.retain(|&(pid, stat)| {
                let inside = match known.get(&stat.parent) {
                    _ if stat.parent == self.own => true,
                    Some(Side::Inside { .. }) => true,
                    Some(Side::Outside) => false,
                    // Orphans of other programs' trees, or below a process that is only now being sorted.
                    None => return true,
                };
                if inside {
                    known.insert(pid, Side::Inside { started: stat.started });
                    self.seen = self.seen.saturating_add(u32::from(pid != self.root));
                    members.push((pid, stat));
                } else {
                    known.insert(pid, Side::Outside);
                }
                false
            });
            if fresh.len() == before {
                break;
            }
        }
        self.known = known;
        members.retain(|&(pid, stat)| !self.bury(pid, &stat));
        // Once the command has been waited for, its account is complete.
        members.retain(|&(pid, _)| self.root_times.is_none() || pid != self.root);
        members
    }

    fn bury(&mut self, pid: i32, stat: &Stat) -> bool {
        let orphan = stat.is_zombie() && stat.parent == self.own && pid != self.root;
        let buried = orphan && matches!(waitpid(Pid::from_raw(pid), WaitOptions::NOHANG), Ok(Some(_)));
        if buried {
            self.buried.add(stat.times);
            self.known.remove(&pid);
        }
        buried
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // Orphans that come later go to whom they would have gone without a measurement.
        let _ = set_child_subreaper(None);
    }
}

/// Ids of all processes that can be seen.
fn pids() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pid = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(pid).collect()
}

/// Largest resident memory that this process has had, in bytes.
#[must_use]
pub fn own_peak_bytes() -> Option<u64> {
    super::stat::kib_of("VmHWM:", &std::fs::read_to_string("/proc/self/status").ok()?)
}

/// Processor time that the calling thread has used.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
