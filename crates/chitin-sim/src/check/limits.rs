//! Bounds: what waits, its bytes, what runs. Nothing passes them but what comes back from running; and nobody is refused
//! below them.

use chitin_core::{Answer, Output, Refusal, TaskRow};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// Looks at every row as it comes.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    /// In safe mode the core counts only what it has taken up. Nothing new comes in then, but what is run again by hand may
    /// pass the bounds on waiting.
    knows_not_all: bool,
    is_held: bool,
}

impl Bounds {
    /// A task that begins to wait and did not run before.
    fn admitted(row: &TaskRow, scene: &Scene<'_>) -> Held {
        let others = || scene.view.waiting().filter(|other| other.seq != row.seq);
        let waiting = u64::try_from(others().count()).unwrap_or(u64::MAX).saturating_add(1);
        ensure(waiting <= scene.limits.waiting_tasks, || format!("{waiting} wait with {row:?}"))?;
        let bytes = others().map(|other| other.payload_bytes).sum::<i64>().saturating_add(row.payload_bytes);
        let most = scene.limits.waiting_bytes;
        ensure(bytes.unsigned_abs() <= most, || format!("{bytes} bytes wait with {row:?}"))
    }
}

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "limits are kept"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Boot { is_careful } => {
                (self.knows_not_all, self.is_held) = (*is_careful, false);
                Ok(())
            }
            Seen::Dispatch { is_held } => {
                self.is_held = *is_held;
                Ok(())
            }
            Seen::Change(Change::InsertAttempt(row)) => {
                ensure(!self.is_held, || format!("given out while nothing was to be: {row:?}"))
            }
            // What this commit took back was decided before it.
            Seen::Committed(Some(_)) => {
                self.knows_not_all = false;
                Ok(())
            }
            Seen::Change(Change::InsertTask(row)) => {
                ensure(!self.knows_not_all, || format!("taken in before all was taken up: {row:?}"))?;
                Self::admitted(row, scene)
            }
            Seen::Change(Change::UpdateTask(row)) => {
                let before = scene.view.tasks.get(&row.seq);
                if row.state.is_waiting() && before.is_some_and(|before| before.state.has_ended()) {
                    if self.knows_not_all {
                        return Ok(());
                    }
                    return Self::admitted(row, scene);
                }
                if row.state.is_under_way() && before.is_some_and(|it| !it.state.is_under_way()) {
                    let running = u64::try_from(scene.view.running().count()).unwrap_or(u64::MAX);
                    return ensure(running < scene.limits.running_tasks, || {
                        format!("{running} ran before {row:?}")
                    });
                }
                Ok(())
            }
            Seen::Change(Change::InsertQueue(row)) => {
                let queues = u64::try_from(scene.view.queues.len()).unwrap_or(u64::MAX);
                ensure(queues < scene.limits.queues, || format!("one queue too many: {row:?}"))
            }
            Seen::Output(Output::Reply { answer: Answer::Refused(refusal), .. }) => {
                let full = match refusal {
                    // A submission has at most so many tasks, each of at most so many bytes.
                    Refusal::QueueFull { waiting, limit } => waiting + 4 > *limit,
                    Refusal::BytesFull { waiting, limit } => waiting + 4 * 70 > *limit,
                    // At most three clients: nobody's share is below a third.
                    Refusal::OverShare { waiting, share } => {
                        waiting + 4 > *share && *share >= scene.limits.waiting_tasks / 3
                    }
                    Refusal::OverQueueShare { waiting, share, .. } => waiting + 4 > *share,
                    Refusal::TooManyQueues { .. }
                    | Refusal::TooLate
                    | Refusal::KeyMismatch
                    | Refusal::Recovering => true,
                };
                ensure(full, || format!("refused below the bound: {refusal:?}"))
            }
            _ => Ok(()),
        }
    }
}
