//! Whether a call that went wrong is made again, and when. Pure. Every kind of command has its patience: looking must
//! not hang, a submission must not be lost to a restart, and whoever follows a task for days outlasts any restart.

use std::time::Duration;

use super::error::CallError;
use crate::paths::Lock;

/// How long what is tried again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the gateway to be reached, or to answer.
    reach: Duration,
    /// For it to accept what it refused for now.
    refused: Duration,
}

/// Reading commands: a restart is waited for.
pub(crate) const LOOK: Patience = Patience { reach: Duration::from_secs(10), refused: Duration::ZERO };
/// Stopping: a gateway that does not even come back within this is stopped in another way.
pub(crate) const STOP: Patience = Patience { reach: Duration::from_secs(2), refused: Duration::ZERO };
/// A new task: also a full queue is waited for.
pub(crate) const SUBMIT: Patience =
    Patience { reach: Duration::from_secs(60), refused: Duration::from_secs(30) };
/// Following a task that goes on without us: a stop and a start of the gateway are waited for.
pub(crate) const FOLLOW: Patience =
    Patience { reach: Duration::from_secs(60), refused: Duration::from_secs(60) };

/// What to do about a failed try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The same again, after this.
    Again(Duration),
    /// It is over.
    GiveUp,
}

/// The first wait between two tries; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(20);
/// The longest wait between two tries: a restart takes less than a second (R6.5).
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The longest that a `Retry-After` is obeyed; past it our own bound would be over anyway.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(10);

impl Patience {
    /// How long in a row the gateway may be out of reach.
    pub(crate) fn reach(&self) -> Duration {
        self.reach
    }

    /// After `tries` failed ones (at least 1), `elapsed` after the first of them failed. `heard`: the gateway was there
    /// before, so it may come back; one that never was does not.
    pub(crate) fn after(
        &self,
        error: &CallError,
        tries: u32,
        elapsed: Duration,
        heard: bool,
        lock: Lock,
    ) -> Step {
        let (bound, wait) = match error {
            CallError::Absent { .. } if lock == Lock::Free && !heard => {
                return Step::GiveUp;
            }
            CallError::Absent { .. }
            | CallError::Busy { .. }
            | CallError::Lost { .. }
            | CallError::Late { .. } => (self.reach, backoff(tries)),
            CallError::Refused { problem, retry_after: Some(after) }
                if matches!(problem.status, 429 | 503) =>
            {
                (self.refused, (*after).clamp(FIRST_WAIT, LONGEST_RETRY_AFTER))
            }
            CallError::Refused { .. } | CallError::Denied { .. } | CallError::Garbled { .. } => {
                return Step::GiveUp;
            }
        };
        if elapsed.saturating_add(wait) > bound { Step::GiveUp } else { Step::Again(wait) }
    }
}

/// The wait before the next of some tries.
pub(crate) fn backoff(tries: u32) -> Duration {
    let doublings = tries.saturating_sub(1).min(16);
    FIRST_WAIT.saturating_mul(1 << doublings).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::super::error::tests::refusal;
    use super::*;

    fn absent() -> CallError {
        CallError::Absent { socket: "/s".into(), source: std::io::ErrorKind::NotFound.into() }
    }

    fn late() -> CallError {
        CallError::Late { after: Duration::from_secs(10) }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_a_second() {
        let waits: Vec<u128> = (1..=8).map(|tries| backoff(tries).as_millis()).collect();
        assert_eq!(waits, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert_eq!(backoff(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn an_absent_gateway_is_waited_for_only_where_it_may_come_back() {
        let zero = Duration::ZERO;
        assert_eq!(LOOK.after(&absent(), 1, zero, false, Lock::Free), Step::GiveUp);
        assert_eq!(LOOK.after(&absent(), 1, zero, false, Lock::Held), Step::Again(FIRST_WAIT));
        assert_eq!(SUBMIT.after(&absent(), 1, zero, false, Lock::Free), Step::GiveUp);
        assert_eq!(SUBMIT.after(&absent(), 1, zero, true, Lock::Free), Step::Again(FIRST_WAIT));
        assert_eq!(FOLLOW.after(&absent(), 1, zero, false, Lock::Free), Step::GiveUp);
        assert_eq!(FOLLOW.after(&absent(), 1, zero, true, Lock::Free), Step::Again(FIRST_WAIT));
    }

    #[test]
    fn every_patience_ends() {
        assert_eq!(LOOK.after(&late(), 9, SECOND * 10, true, Lock::Held), Step::GiveUp);
        assert_eq!(SUBMIT.after(&late(), 9, SECOND * 58, true, Lock::Held), Step::Again(LONGEST_WAIT));
        assert_eq!(SUBMIT.after(&late(), 9, SECOND * 60, true, Lock::Held), Step::GiveUp);
        assert_eq!(FOLLOW.after(&absent(), 9, SECOND * 60, true, Lock::Free), Step::GiveUp);
    }

    #[test]
    fn a_refusal_for_now_is_obeyed_by_who_has_time() {
        let full = refusal(429, None, Some(2));
        assert_eq!(LOOK.after(&full, 1, Duration::ZERO, true, Lock::Held), Step::GiveUp);
        assert_eq!(SUBMIT.after(&full, 1, Duration::ZERO, true, Lock::Held), Step::Again(SECOND * 2));
        assert_eq!(SUBMIT.after(&full, 1, SECOND * 29, true, Lock::Held), Step::GiveUp);
        let soon = refusal(503, None, Some(0));
        assert_eq!(SUBMIT.after(&soon, 1, Duration::ZERO, true, Lock::Held), Step::Again(FIRST_WAIT));
        for never in [refusal(400, None, Some(1)), refusal(507, None, Some(1)), refusal(503, None, None)] {
            assert_eq!(SUBMIT.after(&never, 1, Duration::ZERO, true, Lock::Held), Step::GiveUp);
        }
    }
}
