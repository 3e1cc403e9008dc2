//! What a person asks of one task: cancel, pause, resume, retry, delete. Repeating any of them is harmless.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use chitin_core::{Answer, CommandId, Input, TaskId};

use super::problem::{Answered, Oops, conflict};
use super::{Shared, lookup, tasks};

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
