//! Health and status. None of them touches the disk: they answer while it hangs.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use chitin_cache::{CacheStatus, Counts};
use chitin_proto::http::{Code, Layers, StatusView};
use serde_json::json;

use super::Shared;
use super::problem::{Answered, Oops};
use super::submit::json as answer;
use super::time;
use crate::tasks::TaskKind;

/// The process answers.
pub(crate) async fn healthz() -> Answered {
    Ok(answer(StatusCode::OK, "{\"status\":\"ok\"}".to_owned()))
}

/// The store is open and takes commits.
pub(crate) async fn readyz(State(face): State<Shared>) -> Answered {
    let status = face.engine.status();
    match status.refusing().or_else(|| status.damaged()) {
        None => Ok(answer(StatusCode::OK, "{\"status\":\"ready\"}".to_owned())),
        Some(_) => Err(Oops::new(Code::StorageUnavailable, "the store takes no new work at the moment")),
    }
}

pub(crate) async fn status(State(face): State<Shared>) -> Answered {
    let figures = face.engine.status().figures();
    let refusing = face.engine.status().refusing();
    let damaged = face.engine.status().damaged();
    let (log_bytes, log_over) = face.engine.status().log();
    let (commits, commands) = face.engine.status().commits();
    let limits = &face.limits;
    let lives = face.supervised.lives();
    let in_use = |most: u64, left: usize| most.saturating_sub(u64::try_from(left).unwrap_or(u64::MAX));
    let full = figures.waiting >= limits.waiting_tasks || figures.waiting_bytes >= limits.waiting_bytes;
    let view = StatusView {
        pid: std::process::id(),
        supervisor_pid: face.supervised.pid(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: time::seconds(face.clock.uptime_ms()),
        isolation: face.isolation.tier.to_owned(),
        layers: Layers {
            gateway: json!({
                "state": if face.engine.status().is_recovering() { "safe mode" } else { "ok" },
                "restarts": lives.restarts,
                "last_end": lives.last_end,
                "last_end_at": lives.last_end_at_ms.map(time::show),
                "connections": face.tasks.live(TaskKind::Connection),
                "connections_limit": face.connections.most(),
                "connections_wanted": face.connections.wanted(),
                "connections_turned_away": face.connections.turned_away.load(Ordering::Relaxed),
                "connections_cut": face.connections.cut.load(Ordering::Relaxed),
                "requests": in_use(limits.requests, face.budgets.requests.available_permits()),
                "requests_limit": limits.requests,
                "watchers": in_use(limits.watchers, face.budgets.watchers.available_permits()),
                "watchers_limit": limits.watchers,
            }),
            queue: json!({
                "state": if full { "full" } else { "ok" },
                "queued": figures.waiting,
                "queued_bytes": figures.waiting_bytes,
                "running": figures.running,
                "limit": limits.waiting_tasks,
                "bytes_limit": limits.waiting_bytes,
            }),
            workers: json!({
                "state": if face.stop.is_draining() { "draining" } else { "ok" },
                "running": figures.running,
                "limit": limits.running_tasks,
                "not_enforced": face.isolation.not_enforced,
            }),
            store: json!({
                "state": match (&damaged, &refusing) {
                    (Some(_), _) => "damaged",
                    (None, Some(_)) => "refusing",
                    (None, None) => "ok",
                },
                "reason": damaged.as_ref().or(refusing.as_ref()),
                "commits": commits,
                "commands": commands,
                "log_bytes": log_bytes,
                "log_bytes_limit": limits.wal_cap_bytes,
                "kept_bytes": figures.kept_bytes,
                "kept_bytes_limit": limits.retention_bytes,
            }),
            cache: cache(&face.cache.status()),
            monitor: json!({ "state": "none" }),
        },
        shedding: full
            || log_over
            || refusing.is_some()
            || damaged.is_some()
            || face.engine.status().is_recovering(),
    };
    let text = serde_json::to_string(&view).map_err(|_| Oops::internal("a status that cannot be written"))?;
    Ok(answer(StatusCode::OK, text))
}

/// The cache: where it is, how full, and whether it is asked.
fn cache(status: &CacheStatus) -> serde_json::Value {
    let (mut view, counts) = match status {
        CacheStatus::Memory { entries, bytes, most_bytes, counts } => (
            json!({
                "state": if *most_bytes == 0 { "off" } else { "ok" },
                "kind": "memory",
                "entries": entries,
                "bytes": bytes,
                "bytes_limit": most_bytes,
            }),
            counts,
        ),
        CacheStatus::Redis { server, breaker, reason, counts } => (
            json!({
                "state": if breaker.state == "closed" { "ok" } else { "degraded" },
                "kind": "redis",
                "server": server,
                "breaker": breaker.state,
                "reason": reason,
                "failures": breaker.failures,
                "next_probe_s": breaker.next_probe_ms.map(time::seconds),
                "opened": breaker.opened,
                "refused": breaker.refused,
            }),
            counts,
        ),
    };
    let Counts { hits, misses, rejected, fills, fills_dropped, fills_failed } = *counts;
    if let Some(view) = view.as_object_mut() {
        for (name, count) in [
            ("hits", hits),
            ("misses", misses),
            ("rejected", rejected),
            ("fills", fills),
            ("fills_dropped", fills_dropped),
            ("fills_failed", fills_failed),
        ] {
            view.insert(name.to_owned(), count.into());
        }
    }
    view
}
