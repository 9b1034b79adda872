//! One process, from `/proc/PID`.

use crate::machine::Times;
use std::fs;

/// What is needed of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) group: i32,
    /// Group in the foreground of the process's terminal; −1 without a terminal.
    pub(super) foreground: i32,
    /// Own time and that of children that ended and were waited for.
    pub(super) times: Times,
    /// Ticks since boot at its start, which tell two processes with the same id apart.
    pub(super) started: u64,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?, tick_s())
    }

    /// The name in parentheses may hold anything, parentheses and line ends too; nothing after it can.
    fn parse(text: &str, tick_s: f64) -> Option<Self> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
        // Counted as in proc_pid_stat(5), where the state is field 3.
        let field = |number: usize| fields.get(number.checked_sub(3)?).copied();
        let whole = |number: usize| field(number)?.parse::<i32>().ok();
        let ticks = |number: usize| field(number)?.parse::<u64>().ok();
        let seconds = |own: usize, waited: usize| Some((ticks(own)? + ticks(waited)?) as f64 * tick_s);
        Some(Self {
            state: field(3)?.chars().next()?,
            parent: whole(4)?,
            group: whole(5)?,
            foreground: whole(8)?,
            times: Times {
                user_s: seconds(14, 16)?,
                system_s: seconds(15, 17)?,
            },
            started: ticks(22)?,
        })
    }

    /// Ended, but not yet waited for.
    pub(super) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn tick_s() -> f64 {
    1.0 / (rustix::param::clock_ticks_per_second().max(1) as f64)
}

/// Resident bytes. `statm` is exact in newer kernels, where `stat` may lag by some pages per core.
pub(super) fn resident_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Proportional resident bytes. The kernel walks the page tables for it: dear for large processes.
pub(super) fn proportional_bytes(pid: i32) -> Option<u64> {
    kib_of("Pss:", &fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

/// Bytes of a line such as `MemFree:   12 kB`.
pub(super) fn kib_of(key: &str, text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(key))?;
    Some(rest.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything() {
        let text = "77 (a) S 1 (b)\n R) S 12 34 34 0 56 4194304 1 2 3 4 100 20 30 4 20 0 1 0 987 5000 200 0";
        let stat = Stat::parse(text, 0.01).unwrap();
        assert_eq!(
            (stat.state, stat.parent, stat.group, stat.foreground),
            ('S', 12, 34, 56)
        );
        assert!((stat.times.user_s - 1.3).abs() < 1e-12 && (stat.times.system_s - 0.24).abs() < 1e-12);
        assert_eq!(stat.started, 987);
        assert_eq!(Stat::parse("77 (a) S 12", 0.01), None);
        assert_eq!(Stat::parse("", 0.01), None);
    }

    #[test]
    fn this_process_is_there() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let stat = Stat::read(pid).unwrap();
        assert_eq!(stat.parent, i32::try_from(std::os::unix::process::parent_id()).unwrap());
        assert!(!stat.is_zombie());
        let resident = resident_bytes(pid).unwrap();
        assert!(resident > 100 << 10);
        assert!(proportional_bytes(pid).is_none_or(|pss| pss <= resident + (4 << 20)));
    }
}
