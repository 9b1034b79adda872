//! Panics of Burn and of GPU drivers as errors.

use crate::EXECUTOR;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;
use viscera_net::NetError;

thread_local! {
    /// Whether a panic on this thread will be told as an error.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs something that panics where a library should give an error: GPU backends do so when there is no driver, no device or
/// no memory left. What it was at work on is not to be used again.
///
/// The message does not go to the terminal; it is the reason of the error. (For this the first call puts a hook before the
/// program's own, which still gets every other panic.)
pub(crate) fn guard<T>(work: impl FnOnce() -> Result<T, NetError>) -> Result<T, NetError> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                before(info);
            }
        }));
    });
    let outer = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(outer);
    result.unwrap_or_else(|panic| {
        Err(NetError::Executor {
            executor: EXECUTOR,
            reason: reason(panic.as_ref()),
        })
    })
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("the device failed").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_that_says_why() {
        let error = guard::<()>(|| panic!("no adapter {}", 7)).unwrap_err();
        assert!(error.to_string().contains("no adapter 7"), "{error}");
        assert!(!GUARDED.get());
        assert_eq!(guard(|| Ok(3)).unwrap(), 3);
    }
}
