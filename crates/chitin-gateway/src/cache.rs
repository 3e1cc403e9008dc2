//! The cache beside the store: which one it is, what fills it, and whether a server that is configured can be reached.

use std::sync::Arc;
use std::time::Duration;

use chitin_cache::{BreakerChange, Cache, Reached, RedisError, Server, Setup};
use chitin_core::{EventName, Limits};
use serde_json::{Value, json};

use crate::clock;
use crate::config::Config;
use crate::events::Events;
use crate::tasks::{TaskKind, Tasks};

/// The cache, and the task that fills it.
pub(crate) fn begin(
    store_id: [u8; 16],
    server: Option<Server>,
    limits: &Limits,
    tasks: &Tasks,
    events: &Arc<Events>,
) -> Arc<Cache> {
    let events = Arc::clone(events);
    let on_change = Box::new(move |change: &BreakerChange| {
        let (name, detail) = event(change);
        events.tell(name, detail);
    });
    let setup = Setup { store_id, server, limits, clock: clock::boottime_ms, on_change };
    let (cache, filler) = Cache::new(setup);
    let stop = tasks.clone();
    tasks.spawn(TaskKind::Cache, async move {
        tokio::select! {
            () = filler.run() => {}
            () = stop.stopped() => {}
        }
    });
    Arc::new(cache)
}

fn event(change: &BreakerChange) -> (EventName, Value) {
    match change {
        BreakerChange::Opened { reason, failures } => {
            (EventName::BreakerOpened, json!({"of": "cache", "reason": reason, "failures": failures}))
        }
        BreakerChange::Probed => (EventName::BreakerHalfOpen, json!({"of": "cache"})),
        BreakerChange::Closed => (EventName::BreakerClosed, json!({"of": "cache"})),
    }
}

/// Asks the Redis server of a configuration whether it is there. `None`: there is none.
pub async fn reach_redis(config: &Config) -> Option<(&Server, Result<Reached, RedisError>)> {
    let server = config.redis.as_ref()?;
    let timeout = Duration::from_millis(config.limits.cache_timeout_ms);
    Some((server, chitin_cache::reach(server, timeout, clock::boottime_ms).await))
}
