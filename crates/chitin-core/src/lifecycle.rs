//! The lifecycle of a task: one total function, [`next`], that everything goes through, recovery included.
//!
//! ```text
//!              Due                  Leased                     Succeeded
//!  scheduled ───────▶ queued ───────────────────▶ running ───────────────▶ succeeded
//!   │  ▲               │  ▲  ▲                    │ │ │ ▲
//!   │  │               │  │  └──── PutBack ───────┘ │ │ └─ Voided (same attempt, new token)
//!   │  └───────────────┼──┼─────── Backoff ─────────┘ ├─── GaveUp(reason) ─▶ dead
//!   │                  │  └─ Retried (by hand) ◀──────┼───────────────────── dead, cancelled, expired
//!   ├─ Cancelled ──────┴──────────────────────────────┴────────────────────▶ cancelled
//!   └─ Expired ────────┴───────────────────────────────────────────────────▶ expired
//!
//!               Paused                                        Paused
//!  scheduled, ─────────▶ paused (held) ◀── PutBack, ── paused ◀────────── running
//!  queued     ◀─────────  │                Backoff    (frozen) ──────────▶
//!               Resumed,  └─ Cancelled                  │       Resumed
//!               WaitsOn                                 └─ every end of an attempt, as for running
//! ```
//!
//! What a person holds does not start by itself, and does not expire: an attempt that ends while it is frozen leaves its
//! task held. `SetAside` ends every open task as `dead (poison)`; it is left out of the picture.
//!
//! Who moves it, and what a crash leaves: every move is one row written in one transaction, so a crash leaves the
//! state before or the state after. `running` is left as it is by a gateway's end: the shim goes on, and recovery
//! asks it.

use std::fmt;

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// Waits for a time; moved by the timer.
    Scheduled(ScheduledReason),
    /// Waits for a free slot; moved by dispatch.
    Queued,
    /// An attempt is under way; moved by its end alone.
    Running,
    /// Kept from going on by a person; moved by a person, or by its attempt's end.
    Paused(PausedReason),
    /// An attempt ended well. Final.
    Succeeded,
    /// Ended because somebody asked. Final, but for a retry by hand.
    Cancelled,
    /// Never started in time. Final, but for a retry by hand.
    Expired,
    /// Given up. Final, but for a retry by hand.
    Dead(DeadReason),
}

/// Why a task waits for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScheduledReason {
    /// The client asked for it.
    Delay,
    /// An attempt failed and another will follow.
    Backoff,
}

/// What a paused task was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PausedReason {
    /// It waited: nothing of it runs, and it counts against the queue's bound.
    Held,
    /// It ran: its tree is stopped where it was, and keeps its slot.
    Frozen,
}

/// Why a task was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// The last retry failed too (R6.3).
    RetriesExhausted,
    /// Another attempt could only fail the same way: the command cannot be started.
    NonRetryable,
    /// It ended its workers too often (R6.4).
    Poison,
}

/// How an attempt ended (R3.4). "Failed" is a word for attempts, never for tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Exit code 0.
    Succeeded,
    /// Another exit code, or it could not be started.
    Failed,
    /// Its time was up.
    TimedOut,
    /// It made no progress for the time it had set itself.
    Stalled,
    /// Its tree reached its memory limit.
    OomKilled,
    /// A signal that was not ours.
    Signalled,
    /// Its shim is gone without a record.
    WorkerLost,
    /// The machine started anew while it ran.
    HostLost,
    /// Somebody asked for its end.
    Cancelled,
}

/// What can happen to a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Its time has come.
    Due,
    /// An attempt was given out.
    Leased,
    /// The attempt turned out never to have started: the same attempt again, under a new token.
    Voided,
    /// The attempt was taken from it by us; it may run again at once, nothing consumed.
    PutBack,
    /// The attempt failed and another follows later.
    Backoff,
    /// The attempt ended well.
    Succeeded,
    /// The attempt failed and no other follows.
    GaveUp(DeadReason),
    /// Somebody asked for its end and nothing runs (any more).
    Cancelled,
    /// Its time to live is over.
    Expired,
    /// A person holds it.
    Paused,
    /// A person lets it go on.
    Resumed,
    /// A person lets it go on, and its time has not come yet.
    WaitsOn(ScheduledReason),
    /// A person runs it again: a new round.
    Retried,
    /// Taking it up again ended the gateway, more than once.
    SetAside,
}

/// An event that has no meaning in a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} cannot happen to a task that is {state}")]
pub struct Illegal {
    /// Where the task was.
    pub state: TaskState,
    /// What was to happen.
    pub event: Event,
}

/// The whole lifecycle. Total: every pair of state and event has an answer, and the tests hold the whole matrix.
///
/// # Errors
/// [`Illegal`], for every pair that has no arrow in the diagram above.
pub fn next(state: TaskState, event: Event) -> Result<TaskState, Illegal> {
    use PausedReason::{Frozen, Held};
    use TaskState::{Cancelled, Dead, Expired, Paused, Queued, Running, Scheduled, Succeeded};
    match (state, event) {
        (Scheduled(_), Event::Due) => Ok(Queued),
        (Queued, Event::Leased) => Ok(Running),
        (Running, Event::Voided) => Ok(Running),
        (Paused(Frozen), Event::Voided) => Ok(Paused(Frozen)),
        (Running, Event::PutBack) => Ok(Queued),
        (Running, Event::Backoff) => Ok(Scheduled(ScheduledReason::Backoff)),
        (Paused(Frozen), Event::PutBack | Event::Backoff) => Ok(Paused(Held)),
        (Running | Paused(Frozen), Event::Succeeded) => Ok(Succeeded),
        (Running | Paused(Frozen), Event::GaveUp(reason)) => Ok(Dead(reason)),
        (Scheduled(_) | Queued | Paused(_) | Running, Event::Cancelled) => Ok(Cancelled),
        (Scheduled(_) | Queued, Event::Expired) => Ok(Expired),
        (Scheduled(_) | Queued, Event::Paused) => Ok(Paused(Held)),
        (Running, Event::Paused) => Ok(Paused(Frozen)),
        (Paused(Held), Event::Resumed) => Ok(Queued),
        (Paused(Held), Event::WaitsOn(reason)) => Ok(Scheduled(reason)),
        (Paused(Frozen), Event::Resumed) => Ok(Running),
        (Cancelled | Expired | Dead(_), Event::Retried) => Ok(Queued),
        (Scheduled(_) | Queued | Paused(_) | Running, Event::SetAside) => Ok(Dead(DeadReason::Poison)),
        (
            Scheduled(_) | Queued | Running | Paused(_) | Succeeded | Cancelled | Expired | Dead(_),
            Event::Due
            | Event::Leased
            | Event::Voided
            | Event::PutBack
            | Event::Backoff
            | Event::Succeeded
            | Event::GaveUp(_)
            | Event::Cancelled
            | Event::Expired
            | Event::Paused
            | Event::Resumed
            | Event::WaitsOn(_)
            | Event::Retried
            | Event::SetAside,
        ) => Err(Illegal { state, event }),
    }
}

impl TaskState {
    /// All states, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Scheduled(ScheduledReason::Delay),
        Self::Scheduled(ScheduledReason::Backoff),
        Self::Queued,
        Self::Running,
        Self::Paused(PausedReason::Held),
        Self::Succeeded,
        Self::Cancelled,
        Self::Expired,
        Self::Dead(DeadReason::RetriesExhausted),
        Self::Dead(DeadReason::NonRetryable),
        Self::Dead(DeadReason::Poison),
        Self::Paused(PausedReason::Frozen),
    ];

    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled(_) => "scheduled",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Succeeded => "succeeded",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Dead(_) => "dead",
        }
    }

    /// The contract's word for the reason, where there is one.
    #[must_use]
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Scheduled(ScheduledReason::Delay) => Some("delay"),
            Self::Scheduled(ScheduledReason::Backoff) => Some("backoff"),
            Self::Paused(PausedReason::Held) => Some("held"),
            Self::Paused(PausedReason::Frozen) => Some("frozen"),
            Self::Dead(DeadReason::RetriesExhausted) => Some("retries_exhausted"),
            Self::Dead(DeadReason::NonRetryable) => Some("non_retryable"),
            Self::Dead(DeadReason::Poison) => Some("poison"),
            Self::Queued | Self::Running | Self::Succeeded | Self::Cancelled | Self::Expired => None,
        }
    }

    /// Nothing happens to it any more by itself.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Cancelled | Self::Expired | Self::Dead(_))
    }

    /// It counts against the queue's bound (R2.1).
    #[must_use]
    pub fn is_waiting(self) -> bool {
        matches!(self, Self::Scheduled(_) | Self::Queued | Self::Paused(PausedReason::Held))
    }

    /// It has an attempt that was given out and has not ended: it takes a slot (R3.1).
    #[must_use]
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Running | Self::Paused(PausedReason::Frozen))
    }
}

impl Outcome {
    /// All outcomes, for tables and tests.
    pub const ALL: [Self; 9] = [
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Stalled,
        Self::OomKilled,
        Self::Signalled,
        Self::WorkerLost,
        Self::HostLost,
        Self::Cancelled,
    ];

    /// The contract's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::OomKilled => "oom_killed",
            Self::Signalled => "signalled",
            Self::WorkerLost => "worker_lost",
            Self::HostLost => "host_lost",
            Self::Cancelled => "cancelled",
        }
    }

    /// Counts towards poison (R6.4): the attempt took its worker down.
    #[must_use]
    pub fn is_poisonous(self) -> bool {
        matches!(self, Self::OomKilled | Self::WorkerLost | Self::Signalled)
    }
}

impl fmt::Display for TaskState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())?;
        self.reason().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
