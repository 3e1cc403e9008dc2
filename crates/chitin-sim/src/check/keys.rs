//! Idempotency: a submission is stored whole or not at all, and once for all of a client's tries, for as long as its key
//! is remembered; the key is nobody else's.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{Answer, TaskId};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// Every try of every client.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    tries: BTreeMap<usize, Vec<Vec<TaskId>>>,
    owner: BTreeMap<TaskId, (usize, usize)>,
    /// The try that was stored, and when what it brought had last ended.
    stored: BTreeMap<usize, usize>,
    misused: BTreeMap<TaskId, usize>,
    /// When, and after how many steps of the wall clock.
    ended: BTreeMap<TaskId, (i64, u32)>,
    /// Their keys may have been forgotten before they were run again: another end brings none back.
    gone: BTreeSet<TaskId>,
    latest_wall_ms: i64,
}

impl Keys {
    /// Forgotten keys may be used again: everything had ended long ago, on a wall clock that may have been wrong.
    fn may_be_forgotten(&self, ids: &[TaskId], scene: &Scene<'_>) -> bool {
        let keep_ms = i64::try_from(scene.limits.key_retention_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        let over = |(at, steps): &(i64, u32)| {
            at.saturating_add(keep_ms) <= self.latest_wall_ms || *steps != scene.now.steps
        };
        ids.iter().all(|id| self.gone.contains(id) || self.ended.get(id).is_some_and(over))
    }

    fn inserted(&mut self, id: TaskId, scene: &Scene<'_>) -> Held {
        if let Some(client) = self.misused.get(&id).copied() {
            let before = self.stored.get(&client).and_then(|at| self.tries.get(&client)?.get(*at));
            let free = before.is_none_or(|ids| self.may_be_forgotten(ids, scene));
            return ensure(free, || format!("{id} was stored under the key of client {client}"));
        }
        let Some((client, attempt)) = self.owner.get(&id).copied() else {
            return Err(format!("{id} is nobody's"));
        };
        let before = self.stored.insert(client, attempt).filter(|before| *before != attempt);
        let before = before.and_then(|before| self.tries.get(&client)?.get(before));
        let free = before.is_none_or(|ids| self.may_be_forgotten(ids, scene));
        ensure(free, || format!("client {client} has {before:?} and now {id}"))
    }

    fn is_alone(&self, id: TaskId) -> bool {
        let of = self.owner.get(&id).and_then(|(client, attempt)| self.tries.get(client)?.get(*attempt));
        of.is_none_or(|ids| ids.len() == 1)
    }

    fn is_whole(&self, scene: &Scene<'_>) -> Held {
        for (client, attempt) in &self.stored {
            let ids = self.tries.get(client).and_then(|tries| tries.get(*attempt));
            let part = ids.and_then(|ids| ids.iter().find(|id| !scene.view.knows(**id)));
            ensure(part.is_none(), || format!("accepted in part: {ids:?} without {part:?}"))?;
        }
        Ok(())
    }
}

impl Checker for Keys {
    fn name(&self) -> &'static str {
        "one key, one submission"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        self.latest_wall_ms = self.latest_wall_ms.max(scene.now.wall_ms);
        match seen {
            Seen::Submits { client, ids } => {
                let tries = self.tries.entry(*client).or_default();
                self.owner.extend(ids.iter().map(|id| (*id, (*client, tries.len()))));
                tries.push(ids.to_vec());
            }
            Seen::Misuses { client, id } => _ = self.misused.insert(*id, *client),
            Seen::Change(Change::InsertTask(row)) => return self.inserted(row.id, scene),
            Seen::Change(Change::UpdateTask(row) | Change::SetAside(row, _)) => match row.ended_at_ms {
                Some(at) if self.is_alone(row.id) => _ = self.ended.insert(row.id, (at, scene.now.steps)),
                Some(at) => _ = self.ended.entry(row.id).or_insert((at, scene.now.steps)),
                None if self.is_alone(row.id) => {
                    if self.may_be_forgotten(&[row.id], scene) {
                        self.gone.insert(row.id);
                    }
                    self.ended.remove(&row.id);
                }
                // Of several tasks, one that is run again by hand does not prolong the key.
                None => {}
            },
            Seen::Committed(_) => return self.is_whole(scene),
            Seen::Answered { client, ids, answer: Answer::Replayed { ids: replayed, .. } } => {
                let tries = self.tries.get(client);
                let own = tries.is_some_and(|tries| tries.contains(replayed));
                return ensure(own, || format!("client {client} asked for {ids:?} and got {replayed:?}"));
            }
            Seen::Answered { client, ids, answer: Answer::Accepted { ids: accepted, .. } } => {
                return ensure(accepted == ids, || format!("client {client} sent {ids:?}, not {accepted:?}"));
            }
            _ => {}
        }
        Ok(())
    }
}
