//! Fills the cache, in the background and one result at a time; and probes Redis once its breaker's time has come, so that
//! no reader pays for finding out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::Receiver;

use crate::cache::{Backing, Key, Place};
use crate::redis::Redis;

/// Between two tries of one fill. Short: what failed for longer is not worth waiting for, others wait behind it.
const PAUSE: Duration = Duration::from_millis(100);

/// A result on its way into the cache.
#[derive(Debug)]
pub(crate) struct Fill {
    pub(crate) key: Key,
    pub(crate) sha256: [u8; 32],
    pub(crate) body: Bytes,
    /// What it takes of the bytes that may wait.
    pub(crate) room: OwnedSemaphorePermit,
}

/// How a fill is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) tries: u32,
    /// A server that takes longer than a read may is none that readers should ask.
    pub(crate) read: Duration,
}

/// What fills the cache; the gateway runs it as one task.
pub struct Filler {
    backing: Arc<Backing>,
    waiting: Receiver<Fill>,
    pace: Pace,
}

impl Filler {
    pub(crate) fn new(backing: Arc<Backing>, waiting: Receiver<Fill>, pace: Pace) -> Self {
        Self { backing, waiting, pace }
    }

    /// Runs until the cache is gone. May be dropped at any moment: what waits is lost, which costs a miss each.
    pub async fn run(mut self) {
        let backing = Arc::clone(&self.backing);
        match &backing.place {
            Place::Memory(memory) => {
                while let Some(Fill { key, sha256, body, room }) = self.waiting.recv().await {
                    memory.put(key, sha256, body);
                    backing.counters.filled();
                    drop(room);
                }
            }
            Place::Redis(redis) => {
                if let Some(ticket) = redis.guard().call() {
                    // So that a server that is not there is told of before anybody reads.
                    redis.ping(ticket).await;
                }
                loop {
                    if let Some(ticket) = redis.guard().probe() {
                        redis.ping(ticket).await;
                    }
                    tokio::select! {
                        fill = self.waiting.recv() => match fill {
                            Some(fill) => self.fill(redis, fill).await,
                            None => return,
                        },
                        () = redis.guard().may_be_probed() => {}
                    }
                }
            }
        }
    }

    async fn fill(&self, redis: &Redis, fill: Fill) {
        let counters = &self.backing.counters;
        for number in 1..=self.pace.tries {
            let Some(ticket) = redis.guard().call() else {
                counters.dropped();
                return;
            };
            if redis.set(fill.key, &fill.body, ticket, self.pace.read).await {
                counters.filled();
                return;
            }
            if number < self.pace.tries {
                tokio::time::sleep(PAUSE).await;
            }
        }
        counters.failed();
    }
}
