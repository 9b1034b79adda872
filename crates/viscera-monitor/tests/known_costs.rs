//! Programs of known cost. What is expected is what the program itself says it took, and the room left is what the
//! readings' own gaps explain, so that a busy machine does not fail the tests and an idle one holds them to 3 %.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stdout, reason = "shown with --nocapture: how exact it is")]

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use viscera_monitor::{Bench, Curve, Monitor, MonitorError, MonitorOptions, Record};

fn load() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join("load");
    assert!(program.exists(), "build the example first: cargo build --example load");
    program
}

fn options() -> MonitorOptions {
    MonitorOptions {
        baseline: Duration::from_millis(200),
        ..MonitorOptions::default()
    }
}

/// Runs `load`, gives what was measured and what it said.
fn measure(options: &MonitorOptions, actions: &str) -> (Record, Vec<Vec<String>>) {
    let (mut read, write) = std::io::pipe().unwrap();
    let mut command = Command::new(load());
    command.args(actions.split(' ')).stdout(write);
    let record = Monitor::new(options).unwrap().run(&mut command).unwrap();
    drop(command);
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    (record, text.lines().map(words).collect())
}

/// Numbers of all lines that start with this word.
fn said(lines: &[Vec<String>], word: &str) -> Vec<Vec<f64>> {
    let lines = lines.iter().filter(|line| line[0] == word);
    lines
        .map(|line| line[1..].iter().map(|w| w.parse().unwrap()).collect())
        .collect()
}

/// Area of the memory that the processes say they had, in MiB·s, and the room that its edges leave: while memory is
/// touched or given back, how much is there is not known.
fn expected_area(record: &Record, lines: &[Vec<String>]) -> (f64, f64) {
    let mut area: f64 = said(lines, "life").iter().map(|life| life[0] * life[1]).sum();
    let mut room = 0.0;
    for hold in said(lines, "hold") {
        let [mib, touch, held, free] = hold[..] else {
            panic!("{hold:?}")
        };
        area += mib * (touch / 2.0 + held + free / 2.0);
        room += mib * ((touch + free) / 2.0 + (gap(record) - record.interval_s).max(0.0));
    }
    (area, room)
}

/// Longest time between two readings of the tree.
fn gap(record: &Record) -> f64 {
    let times = Curve::TreeRss.points(&record.samples);
    let gaps = times.windows(2).map(|pair| pair[1].0 - pair[0].0);
    gaps.fold(record.wall_s - times.last().unwrap().0, f64::max)
}

/// Within 3 %, and what longer gaps than asked for may hide.
fn assert_area(record: &Record, lines: &[Vec<String>]) {
    let (expected, edges) = expected_area(record, lines);
    let area = record.areas[&Curve::TreeRss].integral;
    let room = 0.03 * expected + edges;
    println!(
        "area {area:.1} MiB·s, expected {expected:.1}: {:+.2} %",
        100.0 * (area / expected - 1.0)
    );
    assert!(
        (area - expected).abs() <= room,
        "area {area}, expected {expected} ± {room}"
    );
}

#[test]
fn sleeping_costs_time_only() {
    let (record, lines) = measure(&options(), "sleep 1");
    let life = said(&lines, "life")[0][0];
    assert!(
        record.wall_s >= life && record.wall_s <= 1.03 * life + 0.25,
        "{} of {life}",
        record.wall_s
    );
    assert!(record.usage.cpu_s() < 0.1, "{:?}", record.usage);
    assert_eq!((record.exit_code, record.signal, record.interrupted), (0, None, false));
    assert_eq!((record.processes_seen, record.left_running), (1, 0));
    let regular = record.samples.iter().filter(|s| !s.extra).count();
    assert!(
        (1..=12 + (10.0 * (record.wall_s - 1.0)) as usize).contains(&regular),
        "{regular} regular readings"
    );
    assert!(
        record.monitor_cpu_s < 0.05 * record.wall_s + 0.02,
        "{} s",
        record.monitor_cpu_s
    );
    let cpu = record.peaks[&Curve::Cpu];
    assert!((0.0..=100.0).contains(&cpu), "{cpu}");
    let ram = record.areas[&Curve::Ram];
    assert!(ram.integral > 0.0 && ram.integral_above_idle.unwrap().abs() < ram.integral);
}

#[test]
fn held_memory() {
    let (record, lines) = measure(&options(), "sleep 0.2 , hold 200 1.5 , sleep 0.2");
    assert_area(&record, &lines);
    let peak = record.peak_rss_mib.unwrap();
    assert!((200.0..210.0).contains(&peak), "{peak}");
    assert!(
        record
            .usage
            .max_rss_mib
            .is_some_and(|max| (200.0..210.0).contains(&max)),
        "{:?}",
        record.usage
    );
    // Nothing much is shared here, so that PSS is nearly RSS.
    if let Some(pss) = record.peaks.get(&Curve::TreePss) {
        assert!((195.0..=peak + 1.0).contains(pss), "{pss} of {peak}");
    }
}

#[test]
fn memory_of_children_is_summed() {
    let (record, mut lines) = measure(&options(), "spawn 3 hold 60 1.5");
    let parent = Curve::TreeRss.points(&record.samples)[0].1.min(5.0);
    assert_eq!(said(&lines, "hold").len(), 3);
    // The parent says nothing; it has its own few MiB for as long as the command takes.
    lines.push(["life".to_owned(), record.wall_s.to_string(), parent.to_string()].to_vec());
    assert_area(&record, &lines);
    assert_eq!(record.processes_seen, 4);
    let peak = record.peak_rss_mib.unwrap();
    assert!((175.0..200.0).contains(&peak), "{peak}");
    assert!(record.usage.max_rss_mib.unwrap() < 70.0, "{:?}", record.usage);
}

#[test]
fn processor_time_of_children_orphans_and_the_short_lived() {
    let long = MonitorOptions {
        interval: Duration::from_secs(20),
        ..options()
    };
    for (options, actions, spins) in [
        (options(), "spin 0.5", 1),
        (options(), "spawn 2 spin 0.3", 2),
        (options(), "orphan spin 0.4", 1),
        // Nobody looks while it runs, bar the first moments.
        (
            MonitorOptions {
                baseline: Duration::ZERO,
                ..long
            },
            "spawn 2 spawn 2 spin 0.03",
            4,
        ),
    ] {
        let (record, lines) = measure(&options, actions);
        let spins_said = said(&lines, "spin");
        assert_eq!(spins_said.len(), spins, "{actions}: {lines:?}");
        let expected: f64 = spins_said.iter().map(|s| s[0]).sum();
        let cpu = record.usage.cpu_s();
        println!(
            "{actions}: {cpu:.3} s, expected {expected:.3}: {:+.2} %",
            100.0 * (cpu / expected - 1.0)
        );
        // Starting a process costs some milliseconds, and orphans are counted in hundredths.
        let room = 0.03 * expected + 0.02 * f64::from(record.processes_seen.max(4));
        assert!(
            cpu > 0.97 * expected - 0.02 && cpu < expected + room,
            "{actions}: {cpu}, expected {expected}"
        );
        let last = record.samples.last().unwrap();
        assert!((last.tree_cpu_s.unwrap() - cpu).abs() < 0.05, "{actions}: {last:?}");
        assert!(
            record
                .samples
                .windows(2)
                .all(|pair| pair[0].tree_cpu_s <= pair[1].tree_cpu_s)
        );
        assert_eq!(record.left_running, 0, "{actions}");
    }
}

#[test]
fn ends_are_told() {
    let monitor = Monitor::new(&options()).unwrap();
    let (record, _) = measure(&options(), "exit 7");
    assert_eq!((record.exit_code, record.signal), (7, None));
    let record = monitor.run(Command::new("sh").args(["-c", "kill -9 $$"])).unwrap();
    assert_eq!((record.exit_code, record.signal), (137, Some(9)));
    let record = monitor.run(
        Command::new("sh")
            .args(["-c", "sleep 3 >/dev/null & exit 0"])
            .stdin(Stdio::null()),
    );
    let record = record.unwrap();
    assert_eq!(record.left_running, 1);
    assert!(record.wall_s < 2.9, "{}", record.wall_s);
    // What was left is not of the next command's tree.
    let (record, _) = measure(&options(), "exit 0");
    assert_eq!((record.processes_seen, record.left_running), (1, 0));
    match monitor.run(&mut Command::new("no-such-program-anywhere")) {
        Err(error @ MonitorError::Start { .. }) => assert!(error.to_string().contains("no-such-program-anywhere")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_hold_everything() {
    let runs: Vec<Record> = (0..3).map(|_| measure(&options(), "hold 20 0.2").0).collect();
    let bench = Bench::new(Some("case".to_owned()), runs).unwrap();
    assert!(bench.wall_s.min <= bench.wall_s.median && bench.wall_s.median <= bench.wall_s.max);
    assert_eq!(bench.typical().unwrap().wall_s, bench.wall_s.median);
    let text = serde_json::to_string(&bench).unwrap();
    let back: Bench = serde_json::from_str(&text).unwrap();
    assert_eq!(back.runs.len(), 3);
    assert_eq!(back.runs[1].samples.len(), bench.runs[1].samples.len());
    assert!(back.runs[0].areas.contains_key(&Curve::TreeRss) && text.contains("\"tree_rss\""));
    assert_eq!(Bench::new(None, Vec::new()), None);
}
