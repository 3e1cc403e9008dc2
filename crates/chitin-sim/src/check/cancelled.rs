//! A wish is kept: what was cancelled does not go on, and what nobody cancelled is not.

use std::collections::BTreeSet;

use chitin_core::{Input, TaskId, TaskState};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// Whose end was asked for.
#[derive(Debug, Default)]
pub(crate) struct Cancelled {
    asked: BTreeSet<TaskId>,
}

impl Checker for Cancelled {
    fn name(&self) -> &'static str {
        "a cancel is kept, and nobody else's"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Asked(Input::Cancel { id, .. }) => {
                self.asked.insert(*id);
                Ok(())
            }
            Seen::Change(Change::UpdateTask(row)) => {
                let (cancelled, wished) = (row.state == TaskState::Cancelled, row.cancel_requested);
                let own = !(cancelled || wished) || self.asked.contains(&row.id);
                ensure(own, || format!("nobody asked for the end of {row:?}"))?;
                let before = scene.view.tasks.get(&row.seq);
                let kept = before.is_none_or(|before| {
                    before.round != row.round || !before.cancel_requested || row.cancel_requested
                });
                ensure(kept, || format!("the wish was forgotten: {row:?}"))?;
                let goes_on =
                    !matches!(row.state, TaskState::Running | TaskState::Cancelled | TaskState::Succeeded);
                ensure(!(wished && goes_on), || format!("it goes on after it was cancelled: {row:?}"))
            }
            Seen::Change(Change::InsertAttempt(row)) => {
                let task = scene.view.tasks.get(&row.seq);
                let wished = task.is_some_and(|task| task.cancel_requested);
                ensure(!wished, || format!("given out after it was cancelled: {row:?}"))
            }
            _ => Ok(()),
        }
    }
}
