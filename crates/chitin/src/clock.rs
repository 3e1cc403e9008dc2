//! The only file of the command line that reads a clock: waits are measured on the monotonic one, ages on the wall.

use std::time::Instant;

/// Now, for measuring waits.
#[expect(clippy::disallowed_methods, reason = "the one place")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Now, for ages of what the gateway dated.
pub(crate) fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
