//! Shares of the queue between clients (R2.1, R2.6): of *admit*, decided in the writer.
//!
//! Intuition: one client may fill the queue while nobody else wants in. Once somebody with less than an equal share was
//! turned away for want of room, whoever has more than theirs is turned away instead, for as long as the other may come
//! back: so what drains goes to those who have least, and each who wants in comes to an equal share.
//!
//! Who wants in is known in memory alone: lost with the process, they are turned away once more, and known again.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Core, Now, Refusal};

/// Somebody who was turned away is expected back for so long.
const WANTS_MS: i64 = 10_000;
/// Clients that are remembered; more are forgotten in the order of their names.
const MOST: usize = 1_000;

/// Who was turned away for want of room, and until when each is expected back.
#[derive(Debug, Default)]
pub(crate) struct Wanting(BTreeMap<Arc<str>, i64>);

impl Wanting {
    pub(crate) fn turned_away(&mut self, client: &Arc<str>, now: &Now) {
        let now_ms = now.boottime_ms;
        self.0.retain(|_, until_ms| *until_ms > now_ms);
        if self.0.len() < MOST || self.0.contains_key(client) {
            self.0.insert(Arc::clone(client), now_ms.saturating_add(WANTS_MS));
        }
    }

    /// It came in, and wants no more until it says so.
    pub(crate) fn let_in(&mut self, client: &str) {
        self.0.remove(client);
    }

    fn others<'a>(&'a self, client: &'a str, now: &Now) -> impl Iterator<Item = &'a str> {
        let now_ms = now.boottime_ms;
        let wanting = self.0.iter().filter(move |(name, until_ms)| **until_ms > now_ms && &***name != client);
        wanting.map(|(name, _)| &**name)
    }
}

impl Core {
    /// The bound of one client's tasks while others want in; `tasks` together or none.
    pub(crate) fn admit_share(&self, now: &Now, client: &str, tasks: usize) -> Result<(), Refusal> {
        let others: Vec<&str> = self.wanting.others(client, now).collect();
        if others.is_empty() {
            return Ok(());
        }
        let names = &self.names.get().principals;
        let waiting_of = |name: &str| names.get(name).map_or(0, |id| self.hot.client_waiting(*id));
        // Everybody who waits or wants to.
        let new = others.iter().chain([&client]).filter(|name| waiting_of(name) == 0).count();
        let clients = u64::try_from(self.hot.clients_waiting().saturating_add(new)).unwrap_or(u64::MAX);
        let share = self.limits.waiting_tasks / clients.max(1);
        let waiting = waiting_of(client);
        let asked = waiting.saturating_add(u64::try_from(tasks).unwrap_or(u64::MAX));
        if asked > share && others.iter().any(|name| waiting_of(name) < share) {
            return Err(Refusal::OverShare { waiting, share });
        }
        Ok(())
    }
}
