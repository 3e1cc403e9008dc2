//! A pause is kept: what is paused is not given out, does not expire and goes on by nobody's wish but a person's; whoever
//! runs an attempt is told whether it is to stand still; and the time its tree does is no part of its timeout.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{AttemptKey, Input, Outcome, Output, PausedReason, Seq, TaskId, TaskRow, TaskState, Token};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// How long a command has run by a clock that knows when its tree stood still.
#[derive(Debug, Clone, Copy)]
struct Running {
    ran_ms: i64,
    /// It moves, since then.
    since: Option<i64>,
}

/// What was asked for, and what runs.
#[derive(Debug, Default)]
pub(crate) struct Paused {
    asked: BTreeSet<(TaskId, bool)>,
    cancelled: BTreeSet<TaskId>,
    running: BTreeMap<(Seq, Token), Running>,
    /// What this life last said of each attempt.
    told: BTreeMap<Token, bool>,
}

impl Paused {
    fn row(&self, row: &TaskRow, scene: &Scene<'_>) -> Held {
        let Some(before) = scene.view.tasks.get(&row.seq) else { return Ok(()) };
        let is_paused = |row: &TaskRow| matches!(row.state, TaskState::Paused(_));
        if !is_paused(before) && is_paused(row) {
            let asked = self.asked.contains(&(row.id, true));
            return ensure(asked, || format!("nobody asked for a pause: {row:?}"));
        }
        if is_paused(before) && !is_paused(row) {
            ensure(row.state != TaskState::Expired, || {
                format!("it expired while it was paused: {before:?}")
            })?;
            let asked = self.asked.contains(&(row.id, false)) || self.cancelled.contains(&row.id);
            return ensure(asked || row.state.has_ended(), || {
                format!("it went on by itself: {before:?} became {row:?}")
            });
        }
        Ok(())
    }

    fn tells(&mut self, attempt: &AttemptKey, paused: bool) {
        self.told.insert(attempt.token, paused);
    }

    /// Nothing more will be said of what is committed by now. Of what was not taken up yet, nothing was.
    fn all_is_said(&self, scene: &Scene<'_>) -> Held {
        scene.view.running().try_for_each(|row| {
            let is_frozen = row.state == TaskState::Paused(PausedReason::Frozen);
            let attempt = scene.view.attempts.get(&(row.seq, row.attempt));
            let told = attempt.and_then(|attempt| self.told.get(&attempt.token));
            ensure(told.is_none_or(|told| *told == is_frozen), || format!("its shim was not told: {row:?}"))
        })
    }

    /// The tree moves, or not, from now on.
    fn moves(&mut self, at: (Seq, Token), moves: bool, now_ms: i64) {
        if let Some(running) = self.running.get_mut(&at) {
            running.ran_ms += running.since.map_or(0, |since| now_ms - since);
            running.since = moves.then_some(now_ms);
        }
    }
}

impl Checker for Paused {
    fn name(&self) -> &'static str {
        "a pause is kept"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        let now_ms = scene.now.true_ms;
        match seen {
            Seen::Asked(Input::PauseTask { id, paused, .. }) => _ = self.asked.insert((*id, *paused)),
            Seen::Asked(Input::Cancel { id, .. }) => _ = self.cancelled.insert(*id),
            Seen::Change(Change::UpdateTask(row)) => return self.row(row, scene),
            Seen::Change(Change::InsertAttempt(row)) => {
                let task = scene.view.tasks.get(&row.seq);
                let held = task.is_some_and(|task| matches!(task.state, TaskState::Paused(_)));
                return ensure(!held, || format!("given out while it was paused: {row:?}"));
            }
            Seen::Begins(key) => {
                self.running.insert((key.seq, key.token), Running { ran_ms: 0, since: Some(now_ms) });
            }
            Seen::Change(Change::Epoch(..)) => self.told.clear(),
            Seen::Output(Output::Start(order)) => self.tells(&order.attempt, order.paused),
            Seen::Output(
                Output::Recover { attempt, paused, .. } | Output::PauseAttempt { attempt, paused },
            ) => {
                self.tells(attempt, *paused);
            }
            Seen::Released => return self.all_is_said(scene),
            Seen::Moves { key, moves } => self.moves((key.seq, key.token), *moves, now_ms),
            Seen::Collected { key, outcome: Outcome::TimedOut } => {
                self.moves((key.seq, key.token), false, now_ms);
                let ran = self.running.get(&(key.seq, key.token)).map(|running| running.ran_ms);
                let timeout_ms = scene.view.tasks.get(&key.seq).and_then(|row| row.policy.timeout_ms);
                if let (Some(ran), Some(timeout_ms)) = (ran, timeout_ms) {
                    return ensure(ran >= timeout_ms, || {
                        format!("{key:?} timed out after {ran} ms of {timeout_ms}")
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }
}
