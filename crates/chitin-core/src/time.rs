//! Time as an argument. Nothing here reads a clock.
//!
//! Wall clocks step, and the clock that does not step (time since boot, suspend included) begins anew with each boot.
//! So a deadline stores both, the boot it was made in, and its whole delay: in the same boot the steady clock decides;
//! in another boot the wall clock does, and the rest of the wait is clamped to between nothing and the whole delay, so
//! that no clock, however wrong, starts a task early by more than its wait or makes it wait longer than asked.

/// A boot of the machine, as the store numbers the boot ids it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootNo(pub i64);

/// One reading of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The boot this reading was taken in.
    pub boot: BootNo,
    /// Milliseconds since that boot, suspend included; never steps.
    pub boottime_ms: i64,
    /// Milliseconds since the Unix epoch; may step.
    pub wall_ms: i64,
}

/// A moment to come, `delay_ms` after the moment it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The boot it was made in.
    pub boot: BootNo,
    /// When, on that boot's steady clock.
    pub boottime_ms: i64,
    /// When, on the wall clock as it was read then.
    pub wall_ms: i64,
    /// The whole wait.
    pub delay_ms: i64,
}

impl Deadline {
    /// `delay_ms` from now. A negative delay is none.
    #[must_use]
    pub fn after(now: &Now, delay_ms: i64) -> Self {
        let delay_ms = delay_ms.max(0);
        Self {
            boot: now.boot,
            boottime_ms: now.boottime_ms.saturating_add(delay_ms),
            wall_ms: now.wall_ms.saturating_add(delay_ms),
            delay_ms,
        }
    }

    /// What is left of the wait; 0 once it is over.
    #[must_use]
    pub fn remaining_ms(&self, now: &Now) -> i64 {
        let left = if self.boot == now.boot {
            self.boottime_ms.saturating_sub(now.boottime_ms)
        } else {
            self.wall_ms.saturating_sub(now.wall_ms)
        };
        left.clamp(0, self.delay_ms)
    }

    /// Stands still: its whole delay is what is left now.
    #[must_use]
    pub fn stopped(&self, now: &Now) -> Self {
        Self::after(now, self.remaining_ms(now))
    }

    /// Goes on after it stood still ([`Self::stopped`]): later by as long as that was.
    #[must_use]
    pub fn going_on(&self, now: &Now) -> Self {
        Self::after(now, self.delay_ms)
    }

    /// The same moment on the clock of the running boot, for the timers in memory. What is stored stays as it was:
    /// its delay is still the whole one.
    #[must_use]
    pub fn on_this_boot_ms(&self, now: &Now) -> i64 {
        now.boottime_ms.saturating_add(self.remaining_ms(now))
    }
}

/// When a scheduled task may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// After a delay or a backoff.
    After(Deadline),
    /// At a wall time the client named, milliseconds since the Unix epoch: the one time that follows the wall clock.
    At(i64),
}

impl Due {
    /// The wall time to show.
    #[must_use]
    pub fn wall_ms(&self) -> i64 {
        match self {
            Self::After(deadline) => deadline.wall_ms,
            Self::At(wall_ms) => *wall_ms,
        }
    }

    /// What is left of the wait.
    #[must_use]
    pub fn remaining_ms(&self, now: &Now) -> i64 {
        match self {
            Self::After(deadline) => deadline.remaining_ms(now),
            Self::At(wall_ms) => wall_ms.saturating_sub(now.wall_ms).max(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(boot: i64, boottime_ms: i64, wall_ms: i64) -> Now {
        Now { boot: BootNo(boot), boottime_ms, wall_ms }
    }

    #[test]
    fn a_stepping_wall_clock_changes_nothing_within_a_boot() {
        let deadline = Deadline::after(&now(1, 1_000, 50_000), 10_000);
        for wall_ms in [0, 50_000, 10_000_000] {
            assert_eq!(deadline.remaining_ms(&now(1, 4_000, wall_ms)), 7_000);
        }
    }

    #[test]
    fn after_a_reboot_the_wall_clock_decides_within_the_whole_delay() {
        let deadline = Deadline::after(&now(1, 900_000, 50_000), 10_000);
        assert_eq!(deadline.remaining_ms(&now(2, 5, 53_000)), 7_000);
        assert_eq!(deadline.remaining_ms(&now(2, 5, 10_000_000)), 0, "a clock far ahead ends the wait");
        assert_eq!(deadline.remaining_ms(&now(2, 5, 0)), 10_000, "a clock far behind cannot stretch it");
        assert_eq!(deadline.on_this_boot_ms(&now(2, 5, 53_000)), 7_005);
    }

    #[test]
    fn a_wait_that_stood_still_has_as_much_left_whatever_the_clocks_did() {
        let deadline = Deadline::after(&now(1, 1_000, 50_000), 10_000);
        let stopped = deadline.stopped(&now(1, 4_000, 53_000));
        for later in [now(1, 4_000, 53_000), now(1, 900_000, 0), now(2, 5, 10_000_000)] {
            assert_eq!(stopped.going_on(&later).remaining_ms(&later), 7_000);
        }
        let over = deadline.stopped(&now(1, 20_000, 70_000));
        assert_eq!(over.going_on(&now(1, 30_000, 80_000)).remaining_ms(&now(1, 30_000, 80_000)), 0);
    }

    #[test]
    fn a_named_wall_time_follows_the_wall_clock() {
        assert_eq!(Due::At(60_000).remaining_ms(&now(1, 0, 50_000)), 10_000);
        assert_eq!(Due::At(60_000).remaining_ms(&now(1, 0, 70_000)), 0);
    }
}
