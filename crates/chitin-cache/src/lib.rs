//! The cache: bytes of results, in this process's memory or in a Redis server (R4.1). It saves a look at the database and
//! nothing else: what a task is and which bytes its result has always comes from the store, and losing the whole cache
//! is always just a miss.
//!
//! | part | file |
//! |---|---|
//! | what it is asked and told | `cache` |
//! | in memory | `memory` |
//! | Redis: its address, its language, connections | `redis`, `redis/` |
//! | the breaker before Redis | `guard` |
//! | what fills it, in the background | `filler` |
//!
//! Publish: once an end is committed its result is offered, and the filler puts it there; a read that found nothing offers
//! what the store had. Both may be dropped.
//!
//! Invariant: no bytes come out that do not have the length and the digest that stand in the store's row.
//! Invariant: nothing goes in before the commit that made it a result.
//! Invariant: nobody waits longer for it than its read budget, and a writer never.
//! Invariant: it starts no task and no thread; the gateway runs the [`Filler`].

mod cache;
mod filler;
mod guard;
mod memory;
mod redis;
mod status;

pub use cache::{Cache, Key, Lent, Setup, Wanted};
pub use filler::Filler;
pub use guard::BreakerChange;
pub use redis::{Reached, RedisError, Server, ServerError, reach};
pub use status::{CacheStatus, Counts};
