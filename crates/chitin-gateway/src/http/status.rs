//! Health and status. None of them touches the disk: they answer while it hangs.

use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::http::StatusCode;
use chitin_cache::{CacheStatus, Counts};
use chitin_proto::http::{Layers, StatusView};
use serde_json::json;

use super::Shared;
use super::problem::{Answered, Oops};
use super::refusals::Bound;
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
        Some(_) => Err(Oops::refused(Bound::Store, "the store takes no new work at the moment")),
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
    let budgets = &face.budgets;
    let refused = |bound| face.refusals.count(bound);
    let sheds = face.memory.is_shedding() || face.refusals.are_many();
    let recovers = face.engine.status().is_recovering();
    let full = figures.waiting >= limits.waiting_tasks || figures.waiting_bytes >= limits.waiting_bytes;
    let view = StatusView {
        pid: std::process::id(),
        supervisor_pid: face.supervised.pid(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: time::seconds(face.clock.uptime_ms()),
        isolation: face.isolation.tier.to_owned(),
        layers: Layers {
            gateway: json!({
                "state": if recovers { "safe mode" } else if sheds { "shedding" } else { "ok" },
                "restarts": lives.restarts,
                "last_end": lives.last_end,
                "last_end_at": lives.last_end_at_ms.map(time::show),
                "connections": face.tasks.live(TaskKind::Connection),
                "connections_limit": face.connections.most(),
                "connections_wanted": face.connections.wanted(),
                "connections_turned_away": face.connections.turned_away.load(Ordering::Relaxed),
                "connections_cut": face.connections.cut.load(Ordering::Relaxed),
                "requests": budgets.requests.taken(),
                "requests_limit": budgets.requests.most(),
                "requests_refused": refused(Bound::Requests),
                "watchers": budgets.watchers.taken(),
                "watchers_limit": budgets.watchers.most(),
                "watchers_refused": refused(Bound::Watchers),
                "body_bytes": (budgets.body_kib.taken() + budgets.small_body_kib.taken()) * 1_024,
                "body_bytes_limit": (budgets.body_kib.most() + budgets.small_body_kib.most()) * 1_024,
                "body_bytes_refused": refused(Bound::Bodies),
                "answer_bytes": budgets.answer_kib.taken() * 1_024,
                "answer_bytes_limit": budgets.answer_kib.most() * 1_024,
                "answer_bytes_refused": refused(Bound::Answers),
                "memory_bytes": face.memory.used_bytes(),
                "memory_bytes_limit": face.memory.most_bytes(),
                "memory_refused": refused(Bound::Memory),
                "commands_refused": refused(Bound::Commands),
                "late_refused": refused(Bound::Late),
                "recovery_refused": refused(Bound::Recovery),
                "stopping_refused": refused(Bound::Stopping),
            }),
            queue: json!({
                "state": if full { "full" } else { "ok" },
                "queued": figures.waiting,
                "queued_bytes": figures.waiting_bytes,
                "paused": figures.held,
                "running": figures.running,
                "limit": limits.waiting_tasks,
                "bytes_limit": limits.waiting_bytes,
                "refused": refused(Bound::Queue),
                "bytes_refused": refused(Bound::QueueBytes),
                "share_refused": refused(Bound::Share),
            }),
            workers: json!({
                "state": if face.stop.is_draining() { "draining" } else { "ok" },
                "running": figures.running,
                "paused": figures.frozen,
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
                "log_refused": refused(Bound::Log),
                "refused": refused(Bound::Store) + refused(Bound::Disk),
                "backups_refused": refused(Bound::Backups),
                "kept_bytes": figures.kept_bytes,
                "kept_bytes_limit": limits.retention_bytes,
            }),
            cache: cache(&face.cache.status()),
            monitor: face.pressure.view(),
        },
        shedding: full
            || log_over
            || refusing.is_some()
            || damaged.is_some()
            || face.pressure.is_shedding()
            || recovers
            || sheds,
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
