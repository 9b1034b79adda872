//! A signal to the measuring program ends the whole tree. Alone in its file, as signals are for a whole process.
#![cfg(target_os = "linux")]

use std::process::{Command, Stdio};
use std::time::Duration;
use viscera_monitor::{Monitor, MonitorOptions};

#[test]
fn the_whole_tree_ends() {
    let test = std::env::current_exe().unwrap();
    let load = test.parent().unwrap().with_file_name("examples").join("load");
    let options = MonitorOptions {
        baseline: Duration::ZERO,
        ..MonitorOptions::default()
    };
    let monitor = Monitor::new(&options).unwrap();
    // One in a session of its own, and one that takes no SIGTERM; then this process gets one.
    let script = format!(
        "setsid sleep 60 & (trap '' TERM; sleep 60; sleep 60) & sleep 0.5; kill -TERM {}; sleep 60",
        std::process::id()
    );
    let record = monitor
        .run(Command::new("sh").args(["-c", &script]).stdout(Stdio::null()))
        .unwrap();
    assert!(record.interrupted);
    assert_eq!((record.exit_code, record.signal), (143, Some(15)));
    assert_eq!(record.left_running, 0);
    assert!(record.wall_s < 30.0, "{}", record.wall_s);
    assert!(record.processes_seen >= 4, "{}", record.processes_seen);

    // The next command is none the worse for it.
    let record = monitor
        .run(Command::new(&load).args(["sleep", "0.1"]).stdout(Stdio::null()))
        .unwrap();
    assert!(!record.interrupted && record.exit_code == 0);
}
