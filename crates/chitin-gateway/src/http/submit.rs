//! `POST /v1/tasks` and `POST /v1/tasks/bulk`: submit. The answer leaves when the task is on disk, or says that it is
//! not (R1.1).

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use chitin_core::{Answer, Input, Submission, SubmissionKey, TaskId, TaskSpec, TaskState};
use chitin_failpoints::{failpoint, planted};
use chitin_proto::http::{
    BulkAccepted, MAX_BULK_BODY_BYTES, MAX_BULK_TASKS, MAX_TASK_BODY_BYTES, Object, TaskRequest,
};
use serde::Deserialize;

use super::budget::Share;
use super::guard::Caller;
use super::problem::{Answered, Oops};
use super::refusals::Bound;
use super::{Shared, accept, body, repeated};
use crate::{chance, clock};

/// The body of a bulk submission.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a bulk submission: a JSON object with `tasks`")]
struct Bulk {
    tasks: Vec<Object<TaskRequest>>,
}

pub(crate) async fn one(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answered {
    let key = accept::idempotency_key(request.headers())?;
    let mut body = body::read_json(&face, &caller, request, MAX_TASK_BODY_BYTES).await?;
    let task = (chance::new_task_id(), accept::task(accept::parse(&body.bytes)?, &face.limits)?);
    let key = key.map(|key| accept::submission_key(key, "/v1/tasks", &body.bytes));
    let budget = body.release();
    let (ids, state, is_new) = submit(&face, caller, vec![task], key, budget).await?;
    let Some(id) = ids.first().map(ToString::to_string) else {
        return Err(Oops::internal("an accepted task without an id"));
    };
    let mut response = json(
        if is_new { StatusCode::ACCEPTED } else { StatusCode::OK },
        format!("{{\"id\":\"{id}\",\"state\":\"{}\"}}", state.as_str()),
    );
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/tasks/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

pub(crate) async fn bulk(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answered {
    let key = accept::idempotency_key(request.headers())?;
    let mut body = body::read_json(&face, &caller, request, MAX_BULK_BODY_BYTES).await?;
    let bulk: Bulk = accept::parse(&body.bytes)?;
    if bulk.tasks.is_empty() || bulk.tasks.len() > MAX_BULK_TASKS {
        let detail = format!("`tasks` has {} tasks; 1 to {MAX_BULK_TASKS} are allowed", bulk.tasks.len());
        return Err(Oops::invalid("tasks", detail));
    }
    let mut tasks = Vec::with_capacity(bulk.tasks.len());
    for (at, Object(task)) in bulk.tasks.into_iter().enumerate() {
        let spec = accept::task(task, &face.limits).map_err(|oops| oops.inside(&format!("tasks[{at}]")))?;
        tasks.push((chance::new_task_id(), spec));
    }
    let key = key.map(|key| accept::submission_key(key, "/v1/tasks/bulk", &body.bytes));
    let budget = body.release();
    let (ids, _, is_new) = submit(&face, caller, tasks, key, budget).await?;
    let accepted = BulkAccepted { ids: ids.iter().map(ToString::to_string).collect() };
    let text = serde_json::to_string(&accepted).map_err(|_| Oops::internal("ids that cannot be written"))?;
    Ok(json(if is_new { StatusCode::ACCEPTED } else { StatusCode::OK }, text))
}

/// Hands the tasks to the engine and waits for their commit, but not longer than a client should.
async fn submit(
    face: &Shared,
    caller: Caller,
    tasks: Vec<(TaskId, TaskSpec)>,
    key: Option<SubmissionKey>,
    budget: Option<Share>,
) -> Result<(Vec<TaskId>, TaskState, bool), Oops> {
    let patience_ms = face.limits.submit_timeout_ms;
    let patience = Duration::from_millis(patience_ms);
    let until = tokio::time::Instant::now() + patience;
    if let Some(refusal) = shedding(face) {
        return accepted(repeated::or_else(face, &caller, key.as_ref(), until, refusal).await?);
    }
    failpoint!("submit.parsed");
    let deadline_boottime_ms =
        clock::boottime_ms().saturating_add(i64::try_from(patience_ms).unwrap_or(i64::MAX));
    let bytes = tasks.iter().map(|(_, spec)| spec.payload.bytes()).sum();
    let ids = planted!("ack-before-commit").then(|| tasks.iter().map(|(id, _)| *id).collect());
    let (principal, sent_key) = (Arc::clone(&caller.0), key.clone());
    let answer = face.engine.send(bytes, budget, |to| {
        Input::Submit(Submission { to, principal, tasks, key: sent_key, deadline_boottime_ms })
    })?;
    if let Some(ids) = ids {
        return Ok((ids, TaskState::Queued, true));
    }
    match tokio::time::timeout_at(until, answer).await {
        Ok(Ok(answer)) => accepted(answer),
        Ok(Err(trouble)) if repeated::may_be_known(trouble) => {
            accepted(repeated::or_else(face, &caller, key.as_ref(), until, trouble.into()).await?)
        }
        Ok(Err(trouble)) => Err(trouble.into()),
        Err(_) => Err(Oops::refused(
            Bound::Late,
            "the disk did not answer in time; try again with the same Idempotency-Key: a task that got through is found, not run twice",
        )),
    }
}

/// Why new work is refused without asking the writer.
fn shedding(face: &Shared) -> Option<Oops> {
    if let Some(refusal) = face.pressure.refusal() {
        return Some(refusal);
    }
    if face.engine.status().damaged().is_some() {
        return Some(Oops::refused(
            Bound::Store,
            "the database is damaged, and no new work is taken until a backup is restored; see chitin status",
        ));
    }
    if let (bytes, true) = face.engine.status().log() {
        return Some(Oops::refused(
            Bound::Log,
            format!(
                "the write-ahead log has {bytes} bytes, more than its cap; try again when it was worked off"
            ),
        ));
    }
    face.memory.is_shedding().then(|| {
        Oops::refused(Bound::Memory, "the gateway's memory is nearly full; nothing was stored; try again")
    })
}

fn accepted(answer: Answer) -> Result<(Vec<TaskId>, TaskState, bool), Oops> {
    match answer {
        Answer::Accepted { ids, state } => Ok((ids, state, true)),
        Answer::Replayed { ids, state } => Ok((ids, state, false)),
        Answer::Refused(refusal) => Err(refusal.into()),
        Answer::Done | Answer::Conflict(_) => Err(Oops::internal("a submission's answer is none")),
    }
}

pub(crate) fn json(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
