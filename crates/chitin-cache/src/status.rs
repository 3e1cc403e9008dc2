//! How the cache stands, for the status page and whoever counts.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use chitin_core::BreakerView;

use crate::cache::{Backing, Place};

/// What happened since this life began.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    rejected: AtomicU64,
    fills: AtomicU64,
    fills_dropped: AtomicU64,
    fills_failed: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn looked(&self, found: Option<Bytes>) -> Option<Bytes> {
        count(if found.is_some() { &self.hits } else { &self.misses });
        found
    }

    pub(crate) fn rejected(&self) {
        count(&self.rejected);
    }

    pub(crate) fn filled(&self) {
        count(&self.fills);
    }

    pub(crate) fn dropped(&self) {
        count(&self.fills_dropped);
    }

    pub(crate) fn failed(&self) {
        count(&self.fills_failed);
    }

    fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            hits: read(&self.hits),
            misses: read(&self.misses),
            rejected: read(&self.rejected),
            fills: read(&self.fills),
            fills_dropped: read(&self.fills_dropped),
            fills_failed: read(&self.fills_failed),
        }
    }
}

/// Counts since this life began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Reads that it answered.
    pub hits: u64,
    /// Reads that it did not.
    pub misses: u64,
    /// Of these, those for which it had other bytes than the result's.
    pub rejected: u64,
    /// Results that were put there.
    pub fills: u64,
    /// Results that were not: too much waited, or the breaker was open.
    pub fills_dropped: u64,
    /// Results that were not: every try failed.
    pub fills_failed: u64,
}

/// How the cache stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheStatus {
    /// In this process.
    Memory {
        /// Results kept.
        entries: u64,
        /// What they take.
        bytes: u64,
        /// At most.
        most_bytes: u64,
        /// What happened.
        counts: Counts,
    },
    /// In Redis.
    Redis {
        /// Its address, without the password.
        server: String,
        /// The breaker before it.
        breaker: BreakerView,
        /// The last failure, until a call succeeds.
        reason: Option<String>,
        /// What happened.
        counts: Counts,
    },
}

impl CacheStatus {
    pub(crate) fn of(backing: &Backing) -> Self {
        let counts = backing.counters.read();
        match &backing.place {
            Place::Memory(memory) => Self::Memory {
                entries: memory.count(),
                bytes: memory.bytes(),
                most_bytes: memory.most_bytes(),
                counts,
            },
            Place::Redis(redis) => {
                let (breaker, reason) = redis.guard().view();
                Self::Redis { server: redis.server().to_string(), breaker, reason, counts }
            }
        }
    }
}
