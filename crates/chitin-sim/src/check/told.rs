//! Every change of a task's state is told by an event of the same transaction, and nothing is told that did not happen.
//! The order of events is that of what they tell.

use chitin_core::{EventName, EventRow, Seq, TaskId};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// The moves of the open transaction that are still to be told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    owed: Vec<(TaskId, &'static str)>,
    /// The admission that the newest event came after.
    newest: i64,
}

/// Where a task may be after what an event tells, in the contract's words; nowhere: it is where it was. What is paused
/// stays so when its attempt ends.
fn leads_to(name: EventName) -> &'static [&'static str] {
    match name {
        EventName::TaskDue | EventName::TaskRetried => &["queued"],
        EventName::TaskPutBack => &["queued", "paused"],
        EventName::TaskResumed => &["queued", "scheduled", "running"],
        EventName::TaskStarted => &["running"],
        EventName::TaskRetrying => &["scheduled", "paused"],
        EventName::TaskSucceeded => &["succeeded"],
        EventName::TaskDead => &["dead"],
        EventName::TaskCancelled => &["cancelled"],
        EventName::TaskExpired => &["expired"],
        EventName::TaskPaused => &["paused"],
        _ => &[],
    }
}

impl Told {
    fn event(&mut self, event: &EventRow, scene: &Scene<'_>) -> Held {
        let Seq(after) = event.after;
        ensure(after >= self.newest, || format!("the order of events went back: {event:?}"))?;
        self.newest = after;
        let admitted = scene.view.tasks.keys().next_back().map_or(0, |seq| seq.0);
        ensure(after >= admitted, || format!("told as if {admitted:?} were not there: {event:?}"))?;
        let states = leads_to(event.name);
        let Some(task) = event.task.filter(|_| !states.is_empty()) else { return Ok(()) };
        let at = self.owed.iter().position(|(owed, state)| *owed == task && states.contains(state));
        let at = at.ok_or_else(|| format!("it did not happen: {event:?}"))?;
        self.owed.remove(at);
        Ok(())
    }
}

impl Checker for Told {
    fn name(&self) -> &'static str {
        "every change is told, and nothing else"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Change(Change::UpdateTask(row) | Change::SetAside(row, _)) => {
                let before = scene.view.tasks.get(&row.seq).map(|row| row.state);
                if before.is_some_and(|before| before != row.state) {
                    self.owed.push((row.id, row.state.as_str()));
                }
                Ok(())
            }
            Seen::Change(Change::InsertEvent(event)) => self.event(event, scene),
            Seen::Committed(_) => {
                let owed = std::mem::take(&mut self.owed);
                ensure(owed.is_empty(), || format!("nobody was told: {owed:?}"))
            }
            _ => Ok(()),
        }
    }
}
