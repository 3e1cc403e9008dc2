//! The bytes in a Redis server, which may be down, slow, hang, refuse, forget and lie: each of these is a miss.
//!
//! Keys are `store:task:round`, values the bytes as they are, each with a time to live. A read is one `GET` within its budget,
//! a fill one `SETEX`. A value of another length is not even read, one of another digest is dropped.
//!
//! By hand and not by a library, because what is needed is five commands, and what must hold is every bound: see ADR 15.

mod link;
mod server;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use chitin_core::{Limits, Ticket};
use chitin_failpoints::planted;
use sha2::{Digest, Sha256};

use crate::cache::{Key, Wanted};
use crate::guard::Guard;
use crate::status::Counters;

use link::Link;
use wire::{Ask, Reply};

pub use server::{Server, ServerError};

/// Bytes hashed in one go; then others have their turn on the thread.
const HASHED_AT_ONCE_BYTES: usize = 64 * 1_024;

/// Why Redis did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// Nobody is there, or the connection broke.
    #[error("cannot {step}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("cannot {step}: no answer within {ms} ms")]
    TimedOut {
        /// What was tried.
        step: &'static str,
        /// How long.
        ms: u64,
    },
    /// It answered with an error.
    #[error("it refuses to {step}: {says}")]
    Refused {
        /// What was tried.
        step: &'static str,
        /// Its words.
        says: String,
    },
    /// It does not speak as Redis does.
    #[error("cannot {step}: what answers is no Redis server")]
    Foreign {
        /// What was tried.
        step: &'static str,
    },
    /// All connections are in use: nothing is known of the server.
    #[error("all connections are in use")]
    Busy,
}

#[derive(Debug)]
pub(crate) struct Redis {
    reads: Link,
    /// A connection of its own: readers never wait behind a fill.
    fills: Link,
    guard: Guard,
    store: String,
    read: Duration,
    ttl_s: u64,
}

impl Redis {
    pub(crate) fn new(server: Server, store_id: [u8; 16], guard: Guard, limits: &Limits) -> Self {
        let timeout = Duration::from_millis(limits.cache_timeout_ms);
        let reads = usize::try_from(limits.cache_connections).unwrap_or(1);
        Self {
            reads: Link::new(server.clone(), reads, timeout),
            fills: Link::new(server, 1, timeout),
            guard,
            store: store_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            read: Duration::from_millis(limits.cache_read_ms),
            ttl_s: limits.cache_ttl_s,
        }
    }

    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    pub(crate) fn server(&self) -> &Server {
        self.reads.server()
    }

    pub(crate) fn close_idle(&self) {
        self.reads.close_idle();
        self.fills.close_idle();
    }

    fn key(&self, key: Key) -> String {
        format!("{}:{}:{}", self.store, key.task, key.round)
    }

    /// One try within the read budget. Dropped in the middle, it leaves nothing behind.
    pub(crate) async fn get(
        &self,
        ticket: Ticket,
        key: Key,
        wanted: &Wanted,
        counters: &Counters,
    ) -> Option<Bytes> {
        let key = self.key(key);
        let asked = self.reads.ask_within(self.read, Ask::Get { key: &key, bytes: wanted.bytes }).await;
        let body = match asked {
            Ok(reply) => {
                // Whatever it holds, it answered.
                self.guard.succeeded(ticket);
                match reply {
                    Reply::Value(body) => body,
                    Reply::Nothing => return None,
                    Reply::OtherLength | Reply::OtherKind | Reply::Done => {
                        counters.rejected();
                        return None;
                    }
                }
            }
            Err(RedisError::Busy) => {
                self.guard.says_nothing(ticket);
                return None;
            }
            Err(error) => {
                self.guard.failed(ticket, &error);
                return None;
            }
        };
        if sha256(&body).await != wanted.sha256 && !planted!("trust-cache") {
            counters.rejected();
            return None;
        }
        Some(body)
    }

    /// One try. True: it is there, until its time is over or Redis forgets it.
    pub(crate) async fn set(&self, key: Key, body: &Bytes, ticket: Ticket, read: Duration) -> bool {
        let key = self.key(key);
        let began_ms = self.guard.now_ms();
        match self.fills.ask(Ask::Set { key: &key, body: body.clone(), ttl_s: self.ttl_s }).await {
            Ok(_) => {
                let took_ms = self.guard.now_ms().saturating_sub(began_ms).unsigned_abs();
                if u128::from(took_ms) <= read.as_millis() {
                    self.guard.succeeded(ticket);
                } else {
                    // Slower than any reader waits: no reason to send readers there again.
                    self.guard.says_nothing(ticket);
                }
                true
            }
            Err(error) => {
                self.guard.failed(ticket, &error);
                false
            }
        }
    }

    /// Asks whether it is there.
    pub(crate) async fn ping(&self, ticket: Ticket) {
        match self.fills.ask(Ask::Ping).await {
            Ok(_) => self.guard.succeeded(ticket),
            Err(error) => self.guard.failed(ticket, &error),
        }
    }
}

async fn sha256(body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut parts = body.chunks(HASHED_AT_ONCE_BYTES).peekable();
    while let Some(part) = parts.next() {
        hash.update(part);
        if parts.peek().is_some() {
            tokio::task::yield_now().await;
        }
    }
    hash.finalize().into()
}

/// What a server that can be reached says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Milliseconds from connecting to its answer.
    pub ms: u64,
}

/// Connects and asks whether it is there: for whoever checks a configuration. At most four times `timeout`.
///
/// # Errors
/// See [`RedisError`].
pub async fn reach(server: &Server, timeout: Duration, clock: fn() -> i64) -> Result<Reached, RedisError> {
    let began_ms = clock();
    Link::new(server.clone(), 1, timeout).ask(Ask::Ping).await?;
    Ok(Reached { ms: clock().saturating_sub(began_ms).unsigned_abs() })
}
