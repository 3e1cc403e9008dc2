//! What is taken away from an attempt because memory runs out costs its task nothing: it is called lost, says why, and the
//! task has its turn again with the counts it had. Only whom the monitor named is evicted, and only what ends badly lost
//! anything by it.

use std::collections::BTreeSet;

use chitin_core::{
    AttemptNo, AttemptRow, Input, Outcome, Output, PausedReason, Seq, TaskRow, TaskState, Token,
};

use super::{Checker, EVICTED, Held, Scene, Seen, ensure};
use crate::view::Change;

/// Who was named, and whose end is being committed.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    named: BTreeSet<Token>,
    /// Evicted and ended in this transaction; the task's row comes next.
    ended: BTreeSet<(Seq, AttemptNo)>,
}

impl Evicted {
    fn attempt(&mut self, row: &AttemptRow, scene: &Scene<'_>) -> Held {
        let before = scene.view.attempts.get(&(row.seq, row.attempt)).filter(|it| it.token == row.token);
        let was_evicted = before.is_some_and(|before| before.evicted);
        ensure(!row.evicted || self.named.contains(&row.token), || format!("nobody named {row:?}"))?;
        ensure(row.evicted || !was_evicted, || format!("its eviction was forgotten: {row:?}"))?;
        let Some(outcome) = row.outcome.filter(|_| row.evicted) else { return Ok(()) };
        let wished = scene.view.tasks.get(&row.seq).is_some_and(|task| task.cancel_requested);
        if wished || outcome == Outcome::Succeeded {
            return Ok(());
        }
        self.ended.insert((row.seq, row.attempt));
        let so = outcome == Outcome::WorkerLost && row.error.as_deref() == Some(EVICTED);
        ensure(so, || format!("evicted, and called {row:?}"))
    }

    fn task(&mut self, row: &TaskRow, scene: &Scene<'_>) -> Held {
        let Some(before) = scene.view.tasks.get(&row.seq) else { return Ok(()) };
        if !self.ended.remove(&(row.seq, before.attempt)) {
            return Ok(());
        }
        let frozen = before.state == TaskState::Paused(PausedReason::Frozen);
        let again = if frozen { TaskState::Paused(PausedReason::Held) } else { TaskState::Queued };
        let cost_nothing = (row.retries, row.poison) == (before.retries, before.poison);
        ensure(row.state == again && cost_nothing, || format!("an eviction made of {before:?} {row:?}"))
    }
}

impl Checker for Evicted {
    fn name(&self) -> &'static str {
        "an eviction costs nothing"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Asked(Input::Evict { attempt, .. }) => {
                self.named.insert(attempt.token);
                Ok(())
            }
            Seen::Output(Output::Evict { attempt }) => {
                let row = scene.view.attempts.get(&(attempt.seq, attempt.attempt));
                let meant = row.is_none_or(|row| row.token != attempt.token || row.evicted);
                ensure(meant, || format!("told to end, and its row does not say why: {row:?}"))
            }
            Seen::Change(Change::UpdateAttempt(row)) => self.attempt(row, scene),
            Seen::Change(Change::UpdateTask(row)) => self.task(row, scene),
            Seen::Committed(_) => {
                let owed = std::mem::take(&mut self.ended);
                ensure(owed.is_empty(), || format!("evicted, and its task knows nothing of it: {owed:?}"))
            }
            _ => Ok(()),
        }
    }
}
