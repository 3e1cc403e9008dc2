//! The clocks: one that is true and that nobody in the world can read, the steady one of each boot, and a wall clock
//! that steps.

use chitin_core::{BootNo, Now};

use crate::check::Moment;
use crate::rng::Rng;

/// The wall clock is wrong by this much at most, either way.
const MOST_WRONG_MS: i64 = 600_000;
/// 2023, about.
const WALL_BEGAN_MS: i64 = 1_700_000_000_000;

#[derive(Debug)]
pub(super) struct Clock {
    true_ms: i64,
    boot: u32,
    boot_began_ms: i64,
    wrong_ms: i64,
    steps: u32,
}

impl Clock {
    pub(super) fn new(rng: &mut Rng) -> Self {
        Self { true_ms: 0, boot: 1, boot_began_ms: -rng.between(0, 1_000_000), wrong_ms: 0, steps: 0 }
    }

    pub(super) fn true_ms(&self) -> i64 {
        self.true_ms
    }

    pub(super) fn advance_to(&mut self, at: i64) {
        self.true_ms = self.true_ms.max(at);
    }

    pub(super) fn boottime_ms(&self) -> i64 {
        self.true_ms.saturating_sub(self.boot_began_ms)
    }

    pub(super) fn wall_ms(&self) -> i64 {
        WALL_BEGAN_MS.saturating_add(self.true_ms).saturating_add(self.wrong_ms)
    }

    pub(super) fn boot(&self) -> u32 {
        self.boot
    }

    pub(super) fn boot_id(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// As a gateway reads them, who knows its boot by a number.
    pub(super) fn now(&self, boot: BootNo) -> Now {
        Now { boot, boottime_ms: self.boottime_ms(), wall_ms: self.wall_ms() }
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { true_ms: self.true_ms, wall_ms: self.wall_ms(), boot: self.boot, steps: self.steps }
    }

    pub(super) fn step_wall(&mut self, ms: i64) {
        self.wrong_ms = self.wrong_ms.saturating_add(ms).clamp(-MOST_WRONG_MS, MOST_WRONG_MS);
        self.steps += 1;
    }

    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.boot_began_ms = self.true_ms;
    }
}
