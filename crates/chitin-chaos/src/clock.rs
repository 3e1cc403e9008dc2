//! The suite's one clock, and waiting for what must come.

use std::thread;
use std::time::{Duration, Instant};

use crate::{Broken, Held, interrupt};

/// What must happen, happens in this time even on a busy machine; else it is a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

#[expect(clippy::disallowed_methods, reason = "the suite's one clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Looks until there is something to see.
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Held<Option<T>>) -> Held<T> {
    until_within(PATIENCE, what, look)
}

pub(crate) fn until_within<T>(
    patience: Duration,
    what: &str,
    mut look: impl FnMut() -> Held<Option<T>>,
) -> Held<T> {
    let begin = now();
    loop {
        interrupt::check()?;
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if begin.elapsed() > patience {
            return Err(Broken::new(format!("this did not come within {patience:?}: {what}")));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}
