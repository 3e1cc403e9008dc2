//! What the gateway asks and tells the cache, whatever is behind it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chitin_core::{BreakerPolicy, Limits, TaskId, Ticket};
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::filler::{Fill, Filler, Pace};
use crate::guard::{BreakerChange, Guard};
use crate::memory::Memory;
use crate::redis::{Redis, Server};
use crate::status::{CacheStatus, Counters};

/// Fills that may wait: some batches' worth. What more there is, is dropped; the bytes are the tighter bound.
const WAITING_FILLS: usize = 4_096;
/// Budgets of bytes are counted in these, so that they fit a semaphore's count.
const UNIT_BYTES: u64 = 1_024;

/// Which result: a task's newest round has one at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// The task.
    pub task: TaskId,
    /// Its round.
    pub round: u32,
}

/// What the store's row says of the bytes: nothing else comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// Their number.
    pub bytes: u64,
}

/// With what a cache begins.
pub struct Setup<'a> {
    /// The store's name: a store that was restored has another, and finds nothing of the one before.
    pub store_id: [u8; 16],
    /// The Redis server; without one the bytes are kept in memory.
    pub server: Option<Server>,
    /// All limits.
    pub limits: &'a Limits,
    /// Milliseconds of a clock that never steps.
    pub clock: fn() -> i64,
    /// Is told what the breaker does.
    pub on_change: Box<dyn Fn(&BreakerChange) + Send + Sync>,
}

/// The cache. Shared by whoever reads and whoever has results to offer.
pub struct Cache {
    backing: Arc<Backing>,
    fills: Sender<Fill>,
    fill_budget: Arc<Semaphore>,
    loans: Arc<Semaphore>,
    value_bytes: u64,
}

/// Where the bytes are.
pub(crate) struct Backing {
    pub(crate) place: Place,
    pub(crate) counters: Counters,
}

pub(crate) enum Place {
    Memory(Memory),
    Redis(Box<Redis>),
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A share of what may be in memory for answers that are given whole; given back when it is dropped.
#[derive(Debug)]
pub struct Lent {
    _permit: OwnedSemaphorePermit,
}

impl Cache {
    /// The cache, and what fills it: run that until the gateway stops.
    #[must_use]
    pub fn new(setup: Setup<'_>) -> (Self, Filler) {
        let limits = setup.limits;
        let place = match setup.server {
            None => Place::Memory(Memory::new(limits.cache_memory_bytes, limits.cache_ttl_s)),
            Some(server) => {
                let timeout_ms = i64::try_from(limits.cache_timeout_ms).unwrap_or(i64::MAX);
                let policy = BreakerPolicy {
                    failures: u32::try_from(limits.breaker_failures).unwrap_or(u32::MAX),
                    probe_after_ms: i64::try_from(limits.breaker_probe_s)
                        .unwrap_or(i64::MAX)
                        .saturating_mul(1_000),
                    // Connecting, being let in and being answered may each take that long.
                    probe_deadline_ms: timeout_ms.saturating_mul(4),
                };
                let guard = Guard::new(policy, setup.clock, setup.on_change);
                Place::Redis(Box::new(Redis::new(server, setup.store_id, guard, limits)))
            }
        };
        let backing = Arc::new(Backing { place, counters: Counters::default() });
        let (fills, waiting) = channel(WAITING_FILLS);
        let pace = Pace {
            tries: u32::try_from(limits.cache_tries).unwrap_or(1),
            read: Duration::from_millis(limits.cache_read_ms),
        };
        let filler = Filler::new(Arc::clone(&backing), waiting, pace);
        let cache = Self {
            backing,
            fills,
            fill_budget: budget(limits.cache_fill_bytes),
            loans: budget(limits.cache_loan_bytes),
            value_bytes: limits.cache_value_bytes,
        };
        (cache, filler)
    }

    /// Whether results of this many bytes are kept at all. Of an empty one there is nothing to save.
    #[must_use]
    pub fn takes(&self, bytes: u64) -> bool {
        let is_kept = match &self.backing.place {
            Place::Memory(memory) => memory.is_used(),
            Place::Redis(_) => true,
        };
        is_kept && bytes > 0 && bytes <= self.value_bytes
    }

    /// Leave to ask Redis for a result of this many bytes, with [`Self::fetch`]. `None`: it is not worth it, or not now.
    #[must_use]
    pub fn may_ask(&self, bytes: u64) -> Option<Ticket> {
        let Place::Redis(redis) = &self.backing.place else { return None };
        if !self.takes(bytes) {
            return None;
        }
        let ticket = redis.guard().call();
        if ticket.is_none() {
            _ = self.backing.counters.looked(None);
        }
        ticket
    }

    /// The bytes, if they are in memory. At once.
    #[must_use]
    pub fn recall(&self, key: Key, wanted: &Wanted) -> Option<Bytes> {
        let Place::Memory(memory) = &self.backing.place else { return None };
        if !self.takes(wanted.bytes) {
            return None;
        }
        self.backing.counters.looked(memory.get(key, wanted))
    }

    /// The bytes, if Redis has them: one try within the read budget.
    pub async fn fetch(&self, ticket: Ticket, key: Key, wanted: &Wanted) -> Option<Bytes> {
        let Place::Redis(redis) = &self.backing.place else { return None };
        let found = redis.get(ticket, key, wanted, &self.backing.counters).await;
        self.backing.counters.looked(found)
    }

    /// Offers a committed result; it is dropped if too much waits. Never waits.
    pub fn offer(&self, key: Key, sha256: [u8; 32], body: Bytes) {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if !self.takes(bytes) {
            return;
        }
        let room = take(&self.fill_budget, bytes);
        let sent = room.is_some_and(|room| self.fills.try_send(Fill { key, sha256, body, room }).is_ok());
        if !sent {
            self.backing.counters.dropped();
        }
    }

    /// Room in memory for `bytes` that are to be answered whole. `None`: too much is under way.
    #[must_use]
    pub fn lend(&self, bytes: u64) -> Option<Lent> {
        take(&self.loans, bytes).map(|_permit| Lent { _permit })
    }

    /// Gives back what memory it can: what is kept in this process is forgotten.
    pub fn shed(&self) {
        match &self.backing.place {
            Place::Memory(memory) => memory.clear(),
            Place::Redis(redis) => redis.close_idle(),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> CacheStatus {
        CacheStatus::of(&self.backing)
    }
}

fn budget(bytes: u64) -> Arc<Semaphore> {
    let units = usize::try_from(bytes / UNIT_BYTES).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    Arc::new(Semaphore::new(units))
}

fn take(budget: &Arc<Semaphore>, bytes: u64) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
    Arc::clone(budget).try_acquire_many_owned(units).ok()
}
