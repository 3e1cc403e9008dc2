//! I2: at most one end and one result for each round, and they last. A new round begins only because somebody asked.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{AttemptNo, Input, Outcome, Seq, StoredResult, TaskId, TaskRow, TaskState};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// The ends and results there were.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    ends: BTreeMap<(Seq, u32), (TaskState, AttemptNo)>,
    results: BTreeMap<(Seq, u32), (AttemptNo, StoredResult)>,
    retried: BTreeSet<TaskId>,
    /// Succeeded in a transaction whose result is still to come.
    owed: BTreeSet<(Seq, u32)>,
}

impl Ends {
    fn row(&mut self, row: &TaskRow, scene: &Scene<'_>) -> Held {
        let before = scene.view.tasks.get(&row.seq);
        if let Some(before) = before {
            let next = before.round + 1;
            ensure(row.round == before.round || row.round == next, || {
                format!("a round was left out: {row:?}")
            })?;
            if row.round == next {
                let asked = before.state.has_ended() && self.retried.contains(&row.id);
                ensure(asked && !row.state.has_ended(), || format!("a round nobody asked for: {row:?}"))?;
                let anew = row.retries == 0 && row.poison == 0 && !row.cancel_requested;
                ensure(anew, || format!("a round that does not begin anew: {row:?}"))?;
            }
        }
        let at = (row.seq, row.round);
        if let Some(end) = self.ends.get(&at) {
            return ensure(*end == (row.state, row.attempt), || format!("{end:?} did not last: {row:?}"));
        }
        if row.state.has_ended() {
            self.ends.insert(at, (row.state, row.attempt));
        }
        if row.state == TaskState::Succeeded {
            self.owed.insert(at);
        }
        Ok(())
    }
}

impl Checker for Ends {
    fn name(&self) -> &'static str {
        "I2: one end and one result a round"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Asked(Input::Retry { id, .. }) => _ = self.retried.insert(*id),
            Seen::Change(Change::InsertTask(row) | Change::UpdateTask(row) | Change::SetAside(row, _)) => {
                return self.row(row, scene);
            }
            Seen::Change(Change::PutResult { seq, round, attempt, result }) => {
                let new = (*attempt, result.clone());
                let first = self.results.entry((*seq, *round)).or_insert_with(|| new.clone());
                ensure(*first == new, || format!("a second result of {seq:?}, round {round}"))?;
                let winner = scene.view.attempts.get(&(*seq, *attempt));
                let won = winner.is_some_and(|row| {
                    row.outcome == Some(Outcome::Succeeded)
                        && row.round == *round
                        && result.body == row.token.0
                });
                return ensure(won, || format!("{seq:?} has the result of somebody else: {winner:?}"));
            }
            Seen::Committed(_) => {
                for at in std::mem::take(&mut self.owed) {
                    ensure(self.results.contains_key(&at), || format!("an end without its result: {at:?}"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
