//! Shares of the places where tasks wait (R2.1, R2.6): of *admit*, decided in the writer.
//!
//! Intuition: one client may take all places while nobody else wants in. Once somebody with less than an equal share was
//! turned away for want of room, whoever has more than theirs is turned away instead, for as long as the other may come
//! back: so what drains goes to those who have least, and each who wants in comes to an equal share. What a client has is
//! shared by its queues in the same way. Clients come first, so that nobody gets more by naming more queues.
//!
//! Who wants in is known in memory alone: lost with the process, they are turned away once more, and known again. While
//! nobody does, which is nearly always, nothing is looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::valid::QueueName;
use crate::{Core, Now, PrincipalId, QueueId, Refusal, Submission};

/// Somebody who was turned away is expected back for so long.
const WANTS_MS: i64 = 10_000;
/// So many queues of clients are remembered; who comes later, when some are forgotten.
const MOST: usize = 1_000;

/// Who was turned away for want of room, for which queue, and until when each is expected back.
#[derive(Debug, Default)]
pub(crate) struct Wanting(BTreeMap<(Arc<str>, QueueName), i64>);

impl Wanting {
    pub(crate) fn turned_away(&mut self, submission: &Submission, now: &Now) {
        let now_ms = now.boottime_ms;
        self.0.retain(|_, until_ms| *until_ms > now_ms);
        for (_, spec) in &submission.tasks {
            let who = (Arc::clone(&submission.principal), spec.queue.clone());
            if self.0.len() < MOST || self.0.contains_key(&who) {
                self.0.insert(who, now_ms.saturating_add(WANTS_MS));
            }
        }
    }

    /// It came in, and wants no more until it says so.
    pub(crate) fn let_in(&mut self, submission: &Submission) {
        if !self.0.is_empty() {
            let came = |queue: &QueueName| submission.tasks.iter().any(|(_, spec)| spec.queue == *queue);
            self.0.retain(|(client, queue), _| *client != submission.principal || !came(queue));
        }
    }

    /// Each client with each queue that it wants to put something into, a client's together.
    fn all(&self, now: &Now) -> impl Iterator<Item = (&str, &QueueName)> {
        let now_ms = now.boottime_ms;
        let wanting = self.0.iter().filter(move |(_, until_ms)| **until_ms > now_ms);
        wanting.map(|((client, queue), _)| (&**client, queue))
    }
}

impl Core {
    /// The bounds of a client's tasks while other clients want in, and of a queue's among the client's own while others of
    /// these are wanted; all tasks together or none.
    pub(crate) fn admit_shares(&self, now: &Now, submission: &Submission) -> Result<(), Refusal> {
        if self.wanting.0.is_empty() {
            return Ok(());
        }
        let room = self.admit_client(now, submission)?;
        self.admit_queue(now, submission, room)
    }

    /// How many tasks the client may have, as things are.
    fn admit_client(&self, now: &Now, submission: &Submission) -> Result<u64, Refusal> {
        let client = &*submission.principal;
        let mut others: Vec<&str> = self.wanting.all(now).map(|(name, _)| name).collect();
        others.dedup();
        others.retain(|name| *name != client);
        let waiting = self.hot.waiting_by_client();
        let waiting_of =
            |name: &str| self.client_id(name).and_then(|id| waiting.get(&id)).copied().unwrap_or(0);
        let own = waiting_of(client);
        // Everybody who waits or wants to.
        let new = others.iter().chain([&client]).filter(|name| waiting_of(name) == 0).count();
        let share = share(self.limits.waiting_tasks, waiting.len().saturating_add(new));
        if others.iter().all(|name| waiting_of(name) >= share) {
            let all = waiting.values().sum::<u64>();
            return Ok(self.limits.waiting_tasks.saturating_sub(all.saturating_sub(own)));
        }
        match own.saturating_add(count(submission.tasks.len())) > share {
            true => Err(Refusal::OverShare { waiting: own, share }),
            false => Ok(share),
        }
    }

    fn admit_queue(&self, now: &Now, submission: &Submission, room: u64) -> Result<(), Refusal> {
        let client = &*submission.principal;
        let wanted: Vec<&QueueName> =
            self.wanting.all(now).filter(|(name, _)| *name == client).map(|(_, queue)| queue).collect();
        let mut asked: BTreeMap<&QueueName, usize> = BTreeMap::new();
        for (_, spec) in &submission.tasks {
            *asked.entry(&spec.queue).or_default() += 1;
        }
        if wanted.iter().all(|queue| asked.len() == 1 && asked.contains_key(queue)) {
            return Ok(());
        }
        let waiting = self.client_id(client).map(|id| self.hot.waiting_by_queue(id)).unwrap_or_default();
        let waiting_in =
            |name: &QueueName| self.queue_id(name).and_then(|id| waiting.get(&id)).copied().unwrap_or(0);
        let mut new: Vec<&QueueName> = wanted.iter().chain(asked.keys()).copied().collect();
        new.sort_unstable();
        new.dedup();
        new.retain(|name| waiting_in(name) == 0);
        let share = share(room, waiting.len().saturating_add(new.len()));
        for (queue, tasks) in asked {
            let own = waiting_in(queue);
            let mut others = wanted.iter().filter(|other| **other != queue);
            if own.saturating_add(count(tasks)) > share && others.any(|other| waiting_in(other) < share) {
                return Err(Refusal::OverQueueShare { waiting: own, share, queue: queue.clone() });
            }
        }
        Ok(())
    }

    fn client_id(&self, name: &str) -> Option<PrincipalId> {
        self.names.get().principals.get(name).copied()
    }

    fn queue_id(&self, name: &QueueName) -> Option<QueueId> {
        self.names.get().queues.iter().find(|row| row.name == name.as_str()).map(|row| row.id)
    }
}

fn share(room: u64, among: usize) -> u64 {
    room / count(among).max(1)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "shares_tests.rs"]
mod tests;
