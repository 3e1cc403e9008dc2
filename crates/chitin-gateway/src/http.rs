//! The public face: routes, a file each, behind one guard that refuses early, cheaply and with a reason.
//!
//! The way of a request: connection (bounded, and watched over) → guard (host, origin, token, requests in flight) → route → an answer,
//! or a problem with a stable code. Nothing in here decides what a task is or may do: that is the core's.

mod accept;
mod backup;
mod body;
mod budget;
mod connections;
mod control;
mod events;
mod guard;
mod held;
mod line;
mod logs;
mod lookup;
mod memory;
mod pieces;
mod places;
mod problem;
mod queues;
mod refusals;
mod repeated;
mod reserve;
mod result;
mod serve;
mod shutdown;
mod status;
mod submit;
mod tasks;
pub(crate) mod time;
mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use chitin_cache::Cache;
use chitin_core::Limits;
use tokio::sync::Semaphore;

use self::budget::Budget;
use self::places::Places;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::events::Events;
use crate::monitor::Pressure;
use crate::readers::Readers;
use crate::runner::Hub;
use crate::spool::Spool;
use crate::stop::Stop;
use crate::supervised::Supervised;
use crate::tasks::Tasks;
use crate::waiters::Waiters;

pub(crate) use budget::Share;
pub(crate) use connections::{Connections, most_connections};
pub(crate) use guard::{Access, Caller};
pub(crate) use memory::Memory;
pub(crate) use places::ClientNo;
pub(crate) use problem::Oops;
pub(crate) use refusals::{Bound, Refusals};
pub(crate) use serve::Listeners;

/// What the routes work with.
pub(crate) struct Face {
    pub(crate) engine: Engine,
    pub(crate) readers: Readers,
    pub(crate) cache: Arc<Cache>,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) spool: Spool,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) access: Access,
    pub(crate) stop: Stop,
    pub(crate) isolation: Isolation,
    pub(crate) connections: Arc<Connections>,
    pub(crate) budgets: Budgets,
    pub(crate) memory: Memory,
    pub(crate) refusals: Refusals,
    pub(crate) supervised: Arc<Supervised>,
    pub(crate) backups: crate::backup::Source,
    pub(crate) events: Arc<Events>,
    pub(crate) pressure: Pressure,
    /// The store's name in the ids of events.
    pub(crate) store_tag: String,
}

/// How process trees are kept together here, for the status page.
pub(crate) struct Isolation {
    pub(crate) tier: &'static str,
    pub(crate) not_enforced: Vec<&'static str>,
}

/// Bounds on what is in flight, each with a gauge on the status page; refusals are counted by [`refusals`].
pub(crate) struct Budgets {
    /// Requests, but for those that watch; one with a body from when that has arrived.
    pub(crate) requests: Arc<Places>,
    /// Long polls and streams (R1.2).
    pub(crate) watchers: Budget,
    /// Bodies, in KiB.
    pub(crate) body_kib: Budget,
    /// A tenth of it that only small bodies may use: whoever sends large ones slowly keeps nobody else from submitting.
    pub(crate) small_body_kib: Budget,
    /// Large answers, in KiB.
    pub(crate) answer_kib: Budget,
    /// The one backup at a time: each holds the write-ahead log up.
    pub(crate) backups: Arc<Semaphore>,
    /// Looks for what a submission that is refused was answered before.
    repeats: Arc<Semaphore>,
}

/// Each byte of a body is held about twice, as it came and as what was made of it: two fifths of the memory.
const BODIES_OF_MEMORY: (u64, u64) = (2, 5);
/// Answers are held once.
const ANSWERS_OF_MEMORY: (u64, u64) = (1, 7);

impl Budgets {
    /// For so many clients, within the memory there is.
    pub(crate) fn new(limits: &Limits, clients: usize, connections: &Connections, memory: &Memory) -> Self {
        let within = |bytes: u64, (part, of): (u64, u64)| bytes.min(memory.most_bytes() / of * part);
        let body_kib = within(limits.body_bytes_in_flight, BODIES_OF_MEMORY) / 1_024;
        let answer_kib = within(limits.answer_bytes_in_flight, ANSWERS_OF_MEMORY) / 1_024;
        let wait = Duration::from_millis(limits.request_wait_ms);
        Self {
            requests: Arc::new(Places::new(limits.requests, connections.most(), wait)),
            // Whoever waits has a connection: some are left for the others.
            watchers: Budget::new(limits.watchers.min((connections.most() / 2).max(1)), clients),
            body_kib: Budget::new(body_kib - body_kib / 10, clients),
            small_body_kib: Budget::new(body_kib / 10, clients),
            answer_kib: Budget::new(answer_kib, clients),
            backups: Arc::new(Semaphore::new(1)),
            repeats: Arc::new(Semaphore::new(repeated::AT_ONCE)),
        }
    }
}

/// Shared by all requests.
pub(crate) type Shared = Arc<Face>;

fn routes(face: Shared) -> Router {
    Router::new()
        .route("/healthz", get(status::healthz))
        .route("/readyz", get(status::readyz))
        .route("/v1/status", get(status::status))
        .route("/v1/tasks", post(submit::one).get(tasks::list))
        .route("/v1/tasks/bulk", post(submit::bulk))
        .route("/v1/tasks/{id}", get(tasks::get).delete(control::delete))
        .route("/v1/tasks/{id}/result", get(result::get))
        .route("/v1/tasks/{id}/logs", get(logs::get))
        .route("/v1/tasks/{id}/cancel", post(control::cancel))
        .route("/v1/tasks/{id}/pause", post(control::pause))
        .route("/v1/tasks/{id}/resume", post(control::resume))
        .route("/v1/tasks/{id}/retry", post(control::retry))
        .route("/v1/tasks/{id}/events", get(events::of_task))
        .route("/v1/events", get(events::all))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{name}/pause", post(queues::pause))
        .route("/v1/queues/{name}/resume", post(queues::resume))
        .route("/v1/backup", post(backup::post))
        .route("/v1/shutdown", post(shutdown::post))
        .with_state(face)
}
