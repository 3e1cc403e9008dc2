//! Events: what happened, one after the other, under names that do not change.
//!
//! Every change of a task's state is one, written in the transaction that makes it true, by the one place that changes
//! states; what concerns the gateway as a whole is handed in by whoever saw it. Submissions alone have no row: their
//! task's own row says when it was admitted, and each event's row says which admission it came after. So submissions cost
//! nothing more, and there is one order of all, by what was admitted and what happened, that no restart changes.

use crate::{AttemptNo, Core, DeadReason, Event, Now, Seq, TaskId, TaskRow, TaskState, Tx};

macro_rules! names {
    ($($name:ident = $text:literal: $what:literal;)*) => {
        /// What an event is called. A name keeps its meaning for ever.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventName {
            $(#[doc = $what] $name,)*
        }

        impl EventName {
            /// All names, with what each means: for documents.
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$name, $what),)*];

            /// The contract's word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

names! {
    TaskSubmitted = "task.submitted": "A task was accepted.";
    TaskDue = "task.due": "The time that a task waited for has come; it is queued.";
    TaskStarted = "task.started": "An attempt was given out.";
    TaskVoided = "task.start_voided": "An attempt turned out never to have started; the same one begins again.";
    TaskPutBack = "task.put_back": "The gateway took the attempt away; it runs again at no cost.";
    TaskRetrying = "task.retrying": "An attempt failed; another follows after a wait.";
    TaskSucceeded = "task.succeeded": "A task has its result.";
    TaskDead = "task.dead": "A task was given up; `reason` says why.";
    TaskCancelRequested = "task.cancel_requested": "Somebody asked for the end of a task that runs.";
    TaskCancelled = "task.cancelled": "A task ended because somebody asked.";
    TaskExpired = "task.expired": "A task never started in time.";
    TaskPaused = "task.paused": "A person holds a task, or has frozen what runs of it.";
    TaskResumed = "task.resumed": "A paused task goes on.";
    TaskRetried = "task.retried": "A person has an ended task run again.";
    TaskDeleted = "task.deleted": "A person removed an ended task.";
    TaskEvicted = "task.evicted": "The largest attempt is being ended, because memory runs out for all; it runs again at no cost.";
    QueuePaused = "queue.paused": "A person paused a queue.";
    QueueResumed = "queue.resumed": "A person resumed a queue.";
    GatewayStarted = "gateway.started": "A gateway serves; how the one before ended, if it did.";
    GatewayStopping = "gateway.stopping": "The gateway stops because it was told to.";
    SafeMode = "gateway.safe_mode": "Lives before this one ended early: tasks are taken up one by one.";
    ShedBegan = "shed.began": "New work is refused from now on, for `reason`.";
    ShedEnded = "shed.ended": "New work is accepted again.";
    DispatchPaused = "dispatch.paused": "No attempt is started for now, because memory runs short.";
    DispatchResumed = "dispatch.resumed": "Attempts are started again.";
    BreakerOpened = "breaker.opened": "A dependency failed too often in a row and is left alone.";
    BreakerHalfOpen = "breaker.half_open": "A dependency that was left alone is tried.";
    BreakerClosed = "breaker.closed": "A dependency works again.";
    StoreRefused = "store.refused": "The store takes nothing: `reason`.";
    StoreRecovered = "store.recovered": "The store takes commits again.";
    DiskLow = "disk.low": "Little room, or few inodes, are left beside the database.";
    DiskRecovered = "disk.recovered": "There is room again.";
    CpuHigh = "cpu.high": "The processors are busier than the limit.";
    CpuRecovered = "cpu.recovered": "They are not any more.";
    Cleaned = "cleaned": "Room runs out: `tasks` that ended first, an hour ago at least, were removed before their time.";
    Swept = "swept": "Ended tasks whose retention was over were removed: `tasks`.";
    BackupTaken = "backup.taken": "A backup was written.";
}

/// One event, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRow {
    /// The admission that was the last one when it happened.
    pub after: Seq,
    /// When, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What.
    pub name: EventName,
    /// To which task; it may be gone by now.
    pub task: Option<TaskId>,
    /// To which of its attempts.
    pub attempt: Option<AttemptNo>,
    /// More about it: a JSON object.
    pub detail: Option<String>,
}

impl EventName {
    /// The name of what happened to a task.
    #[must_use]
    pub fn of(event: Event) -> Self {
        match event {
            Event::Due => Self::TaskDue,
            Event::Leased => Self::TaskStarted,
            Event::Voided => Self::TaskVoided,
            Event::PutBack => Self::TaskPutBack,
            Event::Backoff => Self::TaskRetrying,
            Event::Succeeded => Self::TaskSucceeded,
            Event::GaveUp(_) | Event::SetAside => Self::TaskDead,
            Event::Cancelled => Self::TaskCancelled,
            Event::Expired => Self::TaskExpired,
            Event::Paused => Self::TaskPaused,
            Event::Resumed | Event::WaitsOn(_) => Self::TaskResumed,
            Event::Retried => Self::TaskRetried,
        }
    }

    /// It tells how an attempt ended: the attempt's row says the rest.
    #[must_use]
    pub fn ends_an_attempt(self) -> bool {
        matches!(
            self,
            Self::TaskPutBack
                | Self::TaskRetrying
                | Self::TaskSucceeded
                | Self::TaskDead
                | Self::TaskCancelled
        )
    }
}

impl Core {
    /// Writes an event down, in the open transaction.
    pub(crate) fn happened<T: Tx>(
        &mut self,
        now: &Now,
        name: EventName,
        task: Option<(TaskId, Option<AttemptNo>)>,
        detail: Option<String>,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let after = Seq(self.next_seq.get().0.saturating_sub(1));
        let (task, attempt) = task.unzip();
        tx.insert_event(&EventRow {
            after,
            at_ms: now.wall_ms,
            name,
            task,
            attempt: attempt.flatten(),
            detail,
        })
    }

    /// A task has moved from `before` to where its row says.
    pub(crate) fn moved<T: Tx>(
        &mut self,
        now: &Now,
        before: TaskState,
        row: &TaskRow,
        event: Event,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let runs = before.is_under_way() || row.state.is_under_way();
        let detail = row.state.has_ended().then(|| row.state.reason()).flatten().map(because);
        self.happened(now, EventName::of(event), Some((row.id, runs.then_some(row.attempt))), detail, tx)
    }
}

fn because(reason: &str) -> String {
    format!("{{\"reason\":\"{reason}\"}}")
}

/// What an event says of a task that was set aside unread.
pub(crate) fn set_aside_detail() -> Option<String> {
    TaskState::Dead(DeadReason::Poison).reason().map(because)
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
