//! What a person asks of one task: cancel, pause, resume, retry, delete. Repeating any of them is harmless.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use chitin_core::{Answer, CommandId, Input, TaskId};
use chitin_proto::http::Code;
use chitin_store::SpoolVerdict;

use super::problem::{Answered, Oops, conflict};
use super::{Shared, lookup, tasks};
use crate::runner::leftover;
use crate::spool::FIRST;

pub(crate) async fn cancel(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    act(&face, &id, "cancelled", |to, id| Input::Cancel { to, id }).await
}

pub(crate) async fn pause(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    act(&face, &id, "paused", |to, id| Input::PauseTask { to, id, paused: true }).await
}

pub(crate) async fn resume(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    act(&face, &id, "resumed", |to, id| Input::PauseTask { to, id, paused: false }).await
}

pub(crate) async fn retry(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    let task = lookup::resolve(&face, &id).await?;
    if !nothing_runs(&face, task).await? {
        let why = "an attempt of the task that was set aside still runs, and is being ended; try again";
        return Err(Oops::new(Code::Conflict, why));
    }
    act(&face, &id, "run again", |to, id| Input::Retry { to, id }).await
}

pub(crate) async fn delete(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    let task = lookup::resolve(&face, &id).await?;
    match face.engine.ask(face.limits.submit_timeout_ms, |to| Input::Delete { to, id: task }).await? {
        Answer::Conflict(why) => Err(conflict(&why, &id, "deleted before it has ended; cancel it first")),
        _ => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
    }
}

/// Whether nothing runs of the attempts of a task that have ended. What was set aside unread may: it is ended first, since no
/// attempt ever runs beside another one of its task. Once that is so, it stays so.
async fn nothing_runs(face: &Shared, id: TaskId) -> Result<bool, Oops> {
    let shared = Arc::clone(face);
    let left = lookup::read(face, move |reader| {
        let mut left = shared.spool.with_sockets(id);
        left.retain(|attempt| *attempt != FIRST || !shared.spool.is_held(id));
        let mut ended = Vec::new();
        for attempt in left {
            if reader.spool_verdict(id, attempt)? != SpoolVerdict::Running {
                ended.push(attempt);
            }
        }
        Ok(ended)
    });
    let left = left.await?;
    if left.is_empty() {
        return Ok(true);
    }
    let shared = Arc::clone(face);
    let end = move || {
        let place = leftover::Place {
            spool: &shared.spool,
            boot_id: shared.clock.boot_id(),
            is_stopping: &|| shared.tasks.are_stopping(),
        };
        left.into_iter().all(|attempt| leftover::has_left(&place, id, attempt))
    };
    face.tasks.blocking(end).await.ok_or_else(|| Oops::internal("ending a leftover panicked"))
}

/// Does it, and answers with the task as it is then.
async fn act(
    face: &Shared,
    id: &str,
    done: &str,
    input: impl FnOnce(CommandId, TaskId) -> Input,
) -> Answered {
    let task = lookup::resolve(face, id).await?;
    match face.engine.ask(face.limits.submit_timeout_ms, |to| input(to, task)).await? {
        Answer::Conflict(why) => return Err(conflict(&why, id, done)),
        Answer::Refused(refusal) => return Err(refusal.into()),
        Answer::Done | Answer::Accepted { .. } | Answer::Replayed { .. } => {}
    }
    let detail = lookup::read(face, move |reader| reader.task_by_id(task)).await?;
    tasks::show(&detail.ok_or_else(|| Oops::no_such_task(id))?)
}
