//! Ctrl-C and `kill` while a command is measured: the whole tree ends, and what was measured is kept.

use super::tree::Tree;
use crate::MonitorError;
use rustix::process::Signal;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After so long, those that still live are asked to end (SIGTERM), after twice as long they are ended (SIGKILL).
const PATIENCE: Duration = Duration::from_secs(2);

/// Flags of this process's signal handlers, which are set up once and stay.
#[derive(Debug)]
struct Handlers {
    /// No command runs: signals do what they do to any program.
    idle: Arc<AtomicBool>,
    int: Arc<AtomicBool>,
    term: Arc<AtomicBool>,
}

fn handlers() -> Result<&'static Handlers, MonitorError> {
    static HANDLERS: OnceLock<Handlers> = OnceLock::new();
    if let Some(handlers) = HANDLERS.get() {
        return Ok(handlers);
    }
    let new = Handlers {
        idle: Arc::new(AtomicBool::new(true)),
        int: Arc::default(),
        term: Arc::default(),
    };
    let register = || {
        for (signal, flag) in [(SIGINT, &new.int), (SIGTERM, &new.term)] {
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&new.idle))?;
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        Ok(())
    };
    register().map_err(|source| MonitorError::Watch {
        what: "to take signals",
        source,
    })?;
    Ok(HANDLERS.get_or_init(|| new))
}

/// Takes SIGINT and SIGTERM for as long as it lives.
#[derive(Debug)]
pub(crate) struct Interrupts {
    handlers: &'static Handlers,
    first: Option<Instant>,
    /// How hard the tree has been asked: 0 not, 1 with the signal that came, 2 SIGTERM, 3 SIGKILL.
    step: u8,
}

impl Interrupts {
    pub(crate) fn take() -> Result<Self, MonitorError> {
        let handlers = handlers()?;
        handlers.int.store(false, Ordering::SeqCst);
        handlers.term.store(false, Ordering::SeqCst);
        handlers.idle.store(false, Ordering::SeqCst);
        Ok(Self {
            handlers,
            first: None,
            step: 0,
        })
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.first.is_some()
    }

    /// Passes on what came since the last call, and presses harder as time goes by; a second signal ends the tree.
    pub(crate) fn pass_on(&mut self, tree: &mut Tree) {
        let int = self.handlers.int.swap(false, Ordering::SeqCst);
        let term = self.handlers.term.swap(false, Ordering::SeqCst);
        let again = self.first.is_some() && (int || term);
        if int || term {
            self.first.get_or_insert_with(Instant::now);
        }
        let Some(first) = self.first else { return };
        let waited = first.elapsed();
        let wanted = match () {
            () if again || waited > 2 * PATIENCE => 3,
            () if waited > PATIENCE => 2,
            () => 1,
        };
        if wanted > self.step {
            self.step = wanted;
            match wanted {
                1 if int => tree.signal(Signal::INT, true),
                1 | 2 => tree.signal(Signal::TERM, false),
                _ => tree.signal(Signal::KILL, false),
            }
        }
    }

    /// After the command has ended by a signal: ends what is left of its tree.
    pub(crate) fn finish(&mut self, tree: &mut Tree) {
        let deadline = self.first.map(|first| first + 3 * PATIENCE);
        while deadline.is_some_and(|deadline| Instant::now() < deadline) && tree.alive() > 0 {
            self.pass_on(tree);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.handlers.idle.store(true, Ordering::SeqCst);
    }
}
