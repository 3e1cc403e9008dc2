//! Fencing: an attempt is settled by its own token alone, a command is started once for each attempt and never twice at
//! a time for one task, and a shim obeys no gateway of a lower epoch.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{AttemptKey, AttemptNo, AttemptRow, Outcome, Seq, Token};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// What was started, what runs, and what can no longer be settled.
#[derive(Debug, Default)]
pub(crate) struct Fencing {
    started: BTreeMap<(Seq, AttemptNo), Token>,
    trees: BTreeSet<(Seq, AttemptNo, Token)>,
}

impl Fencing {
    fn begins(&mut self, key: AttemptKey, scene: &Scene<'_>) -> Held {
        let other = self.trees.range((key.seq, AttemptNo(0), Token([0; 16]))..).next();
        let other = other.filter(|(seq, _, _)| *seq == key.seq);
        ensure(other.is_none(), || format!("{key:?} was started beside {other:?}"))?;
        self.trees.insert((key.seq, key.attempt, key.token));
        let row = scene.view.attempts.get(&(key.seq, key.attempt));
        let meant = row.is_some_and(|row| row.token == key.token);
        ensure(meant, || format!("{key:?} was started and is not the one that should be: {row:?}"))?;
        let first = self.started.insert((key.seq, key.attempt), key.token);
        ensure(first.is_none(), || format!("{key:?} was started a second time, after {first:?}"))
    }

    fn attempt(&self, row: &AttemptRow, scene: &Scene<'_>) -> Held {
        let before = scene.view.attempts.get(&(row.seq, row.attempt));
        let Some(before) = before else { return Ok(()) };
        ensure(before.outcome.is_none(), || format!("{before:?} had ended and became {row:?}"))?;
        if before.token != row.token {
            // Given out anew: then nobody may ever have begun under the old token.
            let began = self.started.get(&(row.seq, row.attempt)) == Some(&before.token);
            return ensure(!began, || format!("{before:?} had begun and was given out anew"));
        }
        let task = scene.view.tasks.get(&row.seq);
        let runs = task.is_some_and(|task| task.state.is_under_way() && task.attempt == row.attempt);
        ensure(runs, || format!("{row:?} ended, but what runs is {task:?}"))?;
        if row.outcome == Some(Outcome::WorkerLost) {
            // Lost, so it may run again: then nothing of it may run any more.
            let runs = self.trees.contains(&(row.seq, row.attempt, row.token));
            return ensure(!runs, || format!("{row:?} is called lost, and its tree runs"));
        }
        Ok(())
    }
}

impl Checker for Fencing {
    fn name(&self) -> &'static str {
        "fencing: one holder at a time"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Begins(key) => self.begins(*key, scene),
            Seen::TreeGone(key) => {
                self.trees.remove(&(key.seq, key.attempt, key.token));
                Ok(())
            }
            Seen::PowerCut => {
                self.trees.clear();
                Ok(())
            }
            Seen::Change(Change::InsertAttempt(row)) => {
                let of_it = (row.seq, AttemptNo(0))..=(row.seq, AttemptNo(u32::MAX));
                let before = u32::try_from(scene.view.attempts.range(of_it).count()).unwrap_or(u32::MAX);
                let AttemptNo(number) = row.attempt;
                ensure(number == before + 1, || format!("after {before} attempts: {row:?}"))
            }
            Seen::Change(Change::UpdateAttempt(row)) => self.attempt(row, scene),
            Seen::StaleOrder { key, epoch, heard_epoch } => ensure(epoch >= heard_epoch, || {
                format!("the shim of {key:?} obeys epoch {epoch} after it had heard {heard_epoch}")
            }),
            _ => Ok(()),
        }
    }
}
