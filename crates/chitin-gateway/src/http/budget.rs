//! A bounded amount of something, bytes or readers, of which no client ever has the last part alone: a flood finds its
//! own end before that of all (R1.3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::places::ClientNo;

/// The part that one client leaves for others.
const OTHERS_PART: u64 = 8;

/// The amount, in units of its user's.
#[derive(Debug)]
pub(crate) struct Budget {
    most: u64,
    left: Arc<Semaphore>,
    by_client: Box<[Arc<AtomicU64>]>,
}

/// Some of it; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    amount: u64,
    of_client: Option<Arc<AtomicU64>>,
    _permit: OwnedSemaphorePermit,
}

impl Budget {
    /// For so many clients.
    pub(crate) fn new(most: u64, clients: usize) -> Self {
        let most =
            most.min(u64::try_from(Semaphore::MAX_PERMITS).unwrap_or(u64::MAX)).min(u64::from(u32::MAX));
        let left = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
        Self { most, left, by_client: (0..clients).map(|_| Arc::default()).collect() }
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    pub(crate) fn taken(&self) -> u64 {
        self.most.saturating_sub(u64::try_from(self.left.available_permits()).unwrap_or(u64::MAX))
    }

    /// Only the part that is kept for others is left.
    pub(crate) fn is_scarce(&self) -> bool {
        self.taken() >= self.most - self.most / OTHERS_PART
    }

    /// So much at once, or none.
    pub(crate) fn take(&self, ClientNo(client): ClientNo, amount: u64) -> Option<Share> {
        let of_client = self.by_client.get(client).cloned();
        if let Some(of_client) = &of_client {
            let most = self.most - self.most / OTHERS_PART;
            let fits = |taken: u64| taken.checked_add(amount).filter(|taken| *taken <= most);
            of_client.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        }
        let permits = u32::try_from(amount).ok();
        let permit = permits.and_then(|some| Arc::clone(&self.left).try_acquire_many_owned(some).ok());
        match permit {
            Some(permit) => Some(Share { amount, of_client, _permit: permit }),
            None => {
                give_back(of_client.as_deref(), amount);
                None
            }
        }
    }

    /// So much of all, whoever it is for, waited for a while.
    pub(crate) async fn wait(&self, amount: u64, patience: Duration) -> Option<Share> {
        let amount = amount.min(self.most);
        let permits = u32::try_from(amount).ok()?;
        let permit = Arc::clone(&self.left).acquire_many_owned(permits);
        let permit = tokio::time::timeout(patience, permit).await.ok()?.ok()?;
        Some(Share { amount, of_client: None, _permit: permit })
    }
}

fn give_back(of_client: Option<&AtomicU64>, amount: u64) {
    if let Some(of_client) = of_client {
        of_client.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        give_back(self.of_client.as_deref(), self.amount);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_finds_its_end_before_that_of_all() {
        let budget = Budget::new(80, 2);
        let flood: Vec<Share> = std::iter::from_fn(|| budget.take(ClientNo(0), 7)).collect();
        assert_eq!((flood.len(), budget.taken()), (10, 70));
        let other = budget.take(ClientNo(1), 10).unwrap();
        assert!(budget.take(ClientNo(1), 1).is_none(), "there is no more than all");
        drop(other);
        drop(flood);
        assert_eq!(budget.taken(), 0);
        assert!(budget.take(ClientNo(1), 70).is_some(), "what was refused was given back");
    }
}
