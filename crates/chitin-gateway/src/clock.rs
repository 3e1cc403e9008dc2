//! The one place that reads clocks. Everything else is handed a [`Now`].

use std::fs;
use std::io;
use std::time::Duration;

use chitin_core::{BootNo, Now};
use nix::time::{ClockId, clock_gettime};

/// The machine's clocks, within one boot.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    boot_id: String,
    started_ms: i64,
}

impl Clock {
    /// # Errors
    /// The kernel does not tell its boot id.
    pub(crate) fn new() -> io::Result<Self> {
        let boot_id = match chitin_failpoints::value!("boot_id") {
            Some(forged) => forged,
            None => fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
        };
        Ok(Self { boot_id, started_ms: boottime_ms() })
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn now(&self, boot: BootNo) -> Now {
        Now { boot, boottime_ms: boottime_ms(), wall_ms: wall_ms() }
    }

    /// Milliseconds this clock, and so its gateway, has lived.
    pub(crate) fn uptime_ms(&self) -> i64 {
        boottime_ms() - self.started_ms
    }
}

/// Milliseconds since boot, suspend included; never steps.
pub(crate) fn boottime_ms() -> i64 {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Milliseconds since the Unix epoch; may step.
pub(crate) fn wall_ms() -> i64 {
    let step_ms = chitin_failpoints::value!("wall_step_ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    read(ClockId::CLOCK_REALTIME).saturating_add(step_ms)
}

/// A reading of the steady clock, for spans shorter than a millisecond.
pub(crate) fn steady() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

/// A clock that Linux has had since 2.6.39 cannot fail to be read; 0 stands for the impossible.
fn read(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000 + time.tv_nsec() / 1_000_000)
}
