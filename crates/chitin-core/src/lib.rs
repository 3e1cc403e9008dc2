//! The pure heart of chitin: what a task is, what may happen to it, and what the gateway does next.
//!
//! No files, no sockets, no clock and no randomness of its own: time and dice are arguments, storage is the
//! synchronous trait [`Tx`], and everything the world is asked to do is an [`Output`], released only after the commit
//! that made it true. So the loop that runs in production is the loop that `chitin-sim` runs through random worlds: those are
//! this crate's tests of everything at once, and beside the code stand those of each part.
//!
//! The way of a task, in seven verbs: submit → admit → enqueue → lease → run → settle → publish. [`Core::step`] is
//! where they meet.

mod breaker;
mod core;
mod events;
mod fair;
mod heartbeat;
mod hot;
mod ids;
mod io;
mod lifecycle;
mod limits;
pub mod monitor;
mod numbered;
mod retry;
mod rows;
mod shares;
#[cfg(test)]
mod testing;
mod time;
mod tx;
mod valid;
mod verbs;

#[cfg(any(test, feature = "model"))]
pub mod model;

pub use crate::breaker::{Breaker, BreakerPolicy, BreakerView, Called, Change, Ticket};
pub use crate::core::{CommitOutcome, Core, Dispatch, Figures};
pub use events::{EventName, EventRow};
pub use fair::AGING_STEP;
pub use heartbeat::{Beat, Heartbeat};
pub use ids::{AttemptNo, CommandId, Epoch, IdError, PrincipalId, QueueId, Seq, TaskId, Token};
pub use io::{
    Answer, AttemptEnd, AttemptKey, Conflict, Input, KeptLogs, Output, Pace, Produced, Refusal, StartOrder,
    StoredOutput, StoredResult, Submission, SubmissionKey,
};
pub use lifecycle::{DeadReason, Event, Illegal, Outcome, PausedReason, ScheduledReason, TaskState, next};
pub use limits::{Bound, Limits, LimitsError, bounds};
pub use retry::{Jitter, RetryPolicy};
pub use rows::{
    AttemptRow, NewTask, OpenRow, Payload, Policy, PriorSubmission, QueueRow, SubmissionRow, Suspect, TaskRow,
};
pub use time::{BootNo, Deadline, Due, Now};
pub use tx::Tx;
pub use valid::{
    Invalid, Priority, QueueName, Start, TaskSpec, check_command, check_cwd, check_env, check_tags,
};

/// Where a step gets its dice from; a simulator hands in a seeded one.
pub trait Dice {
    /// 64 bits nobody can foretell.
    fn roll(&mut self) -> u64;
}
