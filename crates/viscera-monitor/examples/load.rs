//! A program of known cost, to measure the measurement with:
//!
//! ```text
//! load ACTION [, ACTION]…
//! hold MIB SECONDS     touch so much memory, keep it for so long, give it back
//! spin SECONDS         compute until so much processor time is used
//! sleep SECONDS
//! spawn N ACTION…      do the rest in N processes at once, and wait for them
//! orphan ACTION…       do the rest in a process whose parent ends at once; wait for it, though not as a parent
//! exit CODE
//! ```
//!
//! On its output it says in plain words and seconds what each action truly took, and at its end how long it lived and
//! how much memory it has of its own.
#![allow(clippy::print_stdout, clippy::exit, reason = "a program")]

#[cfg(target_os = "linux")]
fn main() {
    linux::run();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("this needs Linux");
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    pub(super) fn run() {
        let start = Instant::now();
        let own_mib = resident_mib();
        let words: Vec<String> = std::env::args().skip(1).collect();
        for action in words.split(|word| word == ",") {
            let (verb, rest) = action.split_first().expect("an action");
            act(verb, rest, &words);
        }
        println!("life {:.6} {own_mib:.3}", start.elapsed().as_secs_f64());
    }

    fn act(verb: &str, rest: &[String], all: &[String]) {
        let number = |index: usize| rest[index].parse::<f64>().expect("a number");
        let program = std::env::current_exe().expect("a program");
        // These take the rest of the line with all its commas.
        let tail = |skip: usize| {
            let at = all.iter().position(|word| word == verb).expect("the verb");
            &all[at + 1 + skip..]
        };
        match verb {
            "hold" => {
                let begin = Instant::now();
                let memory = vec![1u8; (number(0) * 1_048_576.0) as usize];
                let touched = Instant::now();
                std::thread::sleep(Duration::from_secs_f64(number(1)));
                let held = touched.elapsed();
                assert_eq!(std::hint::black_box(&memory).first(), Some(&1));
                drop(memory);
                let touch = touched.duration_since(begin).as_secs_f64();
                let (held, free) = (held.as_secs_f64(), (touched.elapsed() - held).as_secs_f64());
                println!("hold {} {touch:.6} {held:.6} {free:.6}", rest[0]);
            }
            "spin" => {
                while used() < number(0) {
                    for i in 0..10_000u32 {
                        std::hint::black_box(i);
                    }
                }
                println!("spin {:.6}", used());
            }
            "sleep" => std::thread::sleep(Duration::from_secs_f64(number(0))),
            "spawn" => {
                let child = || Command::new(&program).args(tail(1)).spawn().expect("a child");
                let children: Vec<_> = (0..number(0) as usize).map(|_| child()).collect();
                for mut child in children {
                    child.wait().expect("its end");
                }
                std::process::exit(0);
            }
            "orphan" => {
                let mut command = Command::new(&program);
                let mut child = command
                    .arg("abandon")
                    .args(tail(0))
                    .stdout(Stdio::piped())
                    .spawn()
                    .expect("a child");
                let mut output = child.stdout.take().expect("its output");
                child.wait().expect("its end");
                // The orphan has the other end of the pipe.
                let mut text = String::new();
                output.read_to_string(&mut text).expect("its words");
                print!("{text}");
                // Its reaper may need a moment.
                std::thread::sleep(Duration::from_millis(300));
                std::process::exit(0);
            }
            "abandon" => {
                Command::new(&program).args(tail(0)).spawn().expect("a child");
                std::process::exit(0);
            }
            "exit" => std::process::exit(number(0) as i32),
            _ => panic!("\"{verb}\" is no action"),
        }
    }

    fn used() -> f64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::try_from(time).expect("a time").as_secs_f64()
    }

    fn resident_mib() -> f64 {
        let text = std::fs::read_to_string("/proc/self/statm").expect("statm");
        let pages: f64 = text.split(' ').nth(1).expect("pages").parse().expect("a number");
        pages * rustix::param::page_size() as f64 / 1_048_576.0
    }
}
