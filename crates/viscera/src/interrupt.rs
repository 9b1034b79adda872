//! Ctrl-C and `kill`.

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// From now on, the first SIGINT or SIGTERM only sets the flag that is returned. The second ends the program at once.
pub(crate) fn watch() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        register_conditional_shutdown(signal, i32::from(crate::exit::INTERRUPTED), Arc::clone(&stop))
            .and_then(|_| register(signal, Arc::clone(&stop)))
            .context("Ctrl-C cannot be watched")?;
    }
    Ok(stop)
}
