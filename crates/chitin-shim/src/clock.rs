//! The clocks, and the only place that reads them. Deadlines stand on the clock that never steps, the one `poll` waits
//! by; it stands still while the machine sleeps, as the command does. Wall time is only told, never compared.

use nix::time::{ClockId, clock_gettime};

fn milliseconds(clock: ClockId) -> i64 {
    // Neither clock can fail on Linux; zero keeps the shim going if one ever did.
    clock_gettime(clock)
        .map_or(0, |t| t.tv_sec().saturating_mul(1_000).saturating_add(t.tv_nsec() / 1_000_000))
}

/// Milliseconds since boot, sleep left out.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(milliseconds(ClockId::CLOCK_MONOTONIC)).unwrap_or(0)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> i64 {
    milliseconds(ClockId::CLOCK_REALTIME)
}
