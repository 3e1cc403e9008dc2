//! The bytes in this process's memory: the ones used last, up to a number of bytes and an age.

use std::time::Duration;

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::cache::{Key, Wanted};

/// What an entry costs beside its bytes, roughly.
const OVERHEAD_BYTES: u32 = 256;

/// A result: what its row said when it was put here, so that nothing needs to be hashed when it is asked for.
#[derive(Debug, Clone)]
struct Entry {
    sha256: [u8; 32],
    body: Bytes,
}

#[derive(Debug)]
pub(crate) struct Memory {
    entries: Cache<Key, Entry>,
    most_bytes: u64,
}

impl Memory {
    pub(crate) fn new(most_bytes: u64, ttl_s: u64) -> Self {
        let weigh = |_: &Key, entry: &Entry| {
            u32::try_from(entry.body.len()).unwrap_or(u32::MAX).saturating_add(OVERHEAD_BYTES)
        };
        let entries = Cache::builder()
            .max_capacity(most_bytes)
            .weigher(weigh)
            .time_to_live(Duration::from_secs(ttl_s))
            // A result is asked for soon after its task has ended, and hardly later: what was asked for often says little.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self { entries, most_bytes }
    }

    pub(crate) fn is_used(&self) -> bool {
        self.most_bytes > 0
    }

    pub(crate) fn get(&self, key: Key, wanted: &Wanted) -> Option<Bytes> {
        let entry = self.entries.get(&key)?;
        let is_right = entry.sha256 == wanted.sha256
            && u64::try_from(entry.body.len()).is_ok_and(|len| len == wanted.bytes);
        is_right.then_some(entry.body)
    }

    /// Puts a result there; when this returns, what is too much is out.
    pub(crate) fn put(&self, key: Key, sha256: [u8; 32], body: Bytes) {
        self.entries.insert(key, Entry { sha256, body });
        self.entries.run_pending_tasks();
    }

    pub(crate) fn clear(&self) {
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
    }

    pub(crate) fn count(&self) -> u64 {
        self.entries.entry_count()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }

    pub(crate) fn most_bytes(&self) -> u64 {
        self.most_bytes
    }
}

#[cfg(test)]
mod tests {
    use chitin_core::TaskId;
    use sha2::{Digest, Sha256};

    use super::*;

    fn key(number: u16) -> Key {
        let [high, low] = number.to_be_bytes();
        let mut id = [0; 16];
        (id[14], id[15]) = (high, low);
        Key { task: TaskId(id), round: 1 }
    }

    fn result(len: usize, with: u8) -> (Wanted, Bytes) {
        let body = Bytes::from(vec![with; len]);
        (Wanted { sha256: Sha256::digest(&body).into(), bytes: u64::try_from(len).unwrap() }, body)
    }

    #[test]
    fn it_never_holds_more_bytes_than_it_may_and_keeps_what_was_used_last() {
        let memory = Memory::new(100_000, 60);
        let (wanted, body) = result(10_000 - 256, 7);
        for number in 0..1_000 {
            memory.put(key(number), wanted.sha256, body.clone());
            assert!(memory.bytes() <= 100_000, "{} bytes after {number}", memory.bytes());
        }
        assert_eq!(memory.count(), 10);
        let kept: Vec<u16> = (0..1_000).filter(|at| memory.get(key(*at), &wanted).is_some()).collect();
        assert_eq!(kept, (990..1_000).collect::<Vec<_>>());
        memory.clear();
        assert_eq!((memory.count(), memory.bytes()), (0, 0));
    }

    #[test]
    fn what_is_larger_than_all_of_it_is_not_kept() {
        let memory = Memory::new(1_000, 60);
        let (wanted, body) = result(2_000, 7);
        memory.put(key(1), wanted.sha256, body);
        assert_eq!(memory.get(key(1), &wanted), None);
        assert_eq!(memory.bytes(), 0);
    }

    #[test]
    fn bytes_of_another_digest_or_round_are_a_miss() {
        let memory = Memory::new(100_000, 60);
        let (wanted, body) = result(100, 7);
        let (other, _) = result(100, 8);
        memory.put(key(1), wanted.sha256, body.clone());
        assert_eq!(memory.get(key(1), &wanted), Some(body));
        assert_eq!(memory.get(key(1), &other), None);
        assert_eq!(memory.get(Key { round: 2, ..key(1) }, &wanted), None);
    }
}
