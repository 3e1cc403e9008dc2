//! `GET /v1/queues` and pausing: a paused queue's tasks stay queued, and count.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use chitin_core::{Answer, Input, QueueName};
use chitin_proto::http::{QueueList, QueueView};

use super::Shared;
use super::problem::{Answered, Oops, conflict};
use super::submit::json;

pub(crate) async fn list(State(face): State<Shared>) -> Answered {
    let mut queues = views(&face);
    queues.sort_by(|a, b| a.name.cmp(&b.name));
    write(&QueueList { queues })
}

pub(crate) async fn pause(State(face): State<Shared>, Path(name): Path<String>) -> Answered {
    set(&face, &name, true).await
}

pub(crate) async fn resume(State(face): State<Shared>, Path(name): Path<String>) -> Answered {
    set(&face, &name, false).await
}

async fn set(face: &Shared, name: &str, paused: bool) -> Answered {
    let queue = QueueName::new(name)?;
    if let Answer::Conflict(why) = face
        .engine
        .ask(face.limits.submit_timeout_ms, |to| Input::PauseQueue { to, name: queue, paused })
        .await?
    {
        return Err(conflict(&why, name, "paused"));
    }
    let view = views(face).into_iter().find(|queue| queue.name == name);
    write(&view.ok_or_else(|| Oops::internal("a queue that was just changed is gone"))?)
}

fn views(face: &Shared) -> Vec<QueueView> {
    let queues = face.engine.status().figures().queues.into_iter();
    queues.map(|(name, paused, waiting, running)| QueueView { name, paused, waiting, running }).collect()
}

fn write(view: &impl serde::Serialize) -> Answered {
    let text = serde_json::to_string(view).map_err(|_| Oops::internal("queues that cannot be written"))?;
    Ok(json(StatusCode::OK, text))
}
