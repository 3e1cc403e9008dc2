//! The bytes in this process's memory: the ones used last, up to a number of bytes and an age.
//!
//! The library frees an entry some time after it is out, when no other thread can still be looking at it; while nobody asks, that is
//! never. So the bytes stand in a place of their own, which is emptied as the entry goes: what is out is free at once.

use std::sync::{Arc, Mutex, PoisonError};
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
    len: usize,
    body: Arc<Mutex<Option<Bytes>>>,
}

impl Entry {
    fn new(sha256: [u8; 32], body: Bytes) -> Self {
        Self { sha256, len: body.len(), body: Arc::new(Mutex::new(Some(body))) }
    }

    /// `None`: it is just going.
    fn body(&self) -> Option<Bytes> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn empty(&self) {
        drop(self.body.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[derive(Debug)]
pub(crate) struct Memory {
    entries: Cache<Key, Entry>,
    most_bytes: u64,
}

impl Memory {
    pub(crate) fn new(most_bytes: u64, ttl_s: u64) -> Self {
        let weigh = |_: &Key, entry: &Entry| {
            u32::try_from(entry.len).unwrap_or(u32::MAX).saturating_add(OVERHEAD_BYTES)
        };
        let entries = Cache::builder()
            .max_capacity(most_bytes)
            .weigher(weigh)
            .eviction_listener(|_, entry: Entry, _| entry.empty())
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
        let is_right =
            entry.sha256 == wanted.sha256 && u64::try_from(entry.len).is_ok_and(|len| len == wanted.bytes);
        if is_right { entry.body() } else { None }
    }

    /// Puts a result there; when this returns, what is too much is out.
    pub(crate) fn put(&self, key: Key, sha256: [u8; 32], body: Bytes) {
        self.entries.insert(key, Entry::new(sha256, body));
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
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// Bytes that say when they are freed.
    struct Counted(Vec<u8>, Arc<AtomicUsize>);

    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.1.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn what_is_pushed_out_or_let_go_is_freed_then_and_not_at_some_later_time() {
        let memory = Memory::new(5 * (100 + 256), 60);
        let freed = Arc::new(AtomicUsize::new(0));
        for number in 0..8 {
            let body = Bytes::from_owner(Counted(vec![7; 100], Arc::clone(&freed)));
            memory.put(key(number), [0; 32], body);
            assert_eq!(freed.load(Ordering::SeqCst), usize::from(number).saturating_sub(4), "put {number}");
        }
        memory.clear();
        assert_eq!(freed.load(Ordering::SeqCst), 8);
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
