//! `GET /v1/tasks/{id}` with its long poll, and `GET /v1/tasks`.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use chitin_core::{Seq, TaskState};
use chitin_proto::http::{Code, MAX_WAIT_S, TaskList};
use chitin_store::{Filter, StateFilter, TaskDetail};

use super::guard::{Caller, watcher};
use super::line::{ROOM_WAIT, Room};
use super::problem::{Answered, Oops};
use super::submit::json;
use super::{Shared, lookup, view};

/// Tasks on a page, unless the client wants fewer or more.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;
/// A page of so many bytes gives its room back at once.
const SMALL_PAGE_BYTES: usize = 65_536;
/// Commands on a page, in bytes: a page is whole in memory.
const PAGE_BYTES: usize = 4_000_000;

pub(crate) async fn get(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    uri: Uri,
) -> Answered {
    let mut wait_s = None;
    for (name, value) in query(&uri)? {
        match name.as_str() {
            "wait_s" => {
                let most = MAX_WAIT_S;
                let wait =
                    value.parse().ok().filter(|wait| (0.0..=60.0).contains(wait)).ok_or_else(|| {
                        Oops::invalid("wait_s", format!("`wait_s`: seconds from 0 to {most} are allowed"))
                    })?;
                wait_s = Some(wait);
            }
            _ => return Err(unknown_parameter(&name, "wait_s")),
        }
    }
    let task = lookup::resolve(&face, &id).await?;
    let Some(wait_s) = wait_s else {
        return show(&load(&face, task, &id).await?);
    };
    let _place = watcher(&face, &caller)?;
    let over = tokio::time::sleep(Duration::from_secs_f64(wait_s));
    tokio::pin!(over);
    let watch = face.waiters.watch(task);
    loop {
        let changed = watch.changed();
        let detail = load(&face, task, &id).await?;
        if detail.row.state.has_ended() {
            return show(&detail);
        }
        tokio::select! {
            () = changed => {}
            () = &mut over => return show(&load(&face, task, &id).await?),
            () = face.tasks.stopped() => return show(&detail),
        }
    }
}

async fn load(face: &Shared, task: chitin_core::TaskId, id: &str) -> Result<TaskDetail, Oops> {
    lookup::read(face, move |reader| reader.task_by_id(task)).await?.ok_or_else(|| Oops::no_such_task(id))
}

pub(crate) fn show(detail: &TaskDetail) -> Answered {
    let text = serde_json::to_string(&view::detail(detail))
        .map_err(|_| Oops::internal("a task that cannot be written"))?;
    Ok(json(StatusCode::OK, text))
}

pub(crate) async fn list(State(face): State<Shared>, uri: Uri) -> Answered {
    let mut filter = Filter { limit: PAGE, max_bytes: PAGE_BYTES, ..Filter::default() };
    for (name, value) in query(&uri)? {
        match name.as_str() {
            "state" => filter.states = states(&value)?,
            "queue" => filter.queue = Some(value),
            "tag" => filter.tag = Some(value),
            "handler" => return Err(Oops::invalid("handler", "`handler` is not supported yet")),
            "cursor" => {
                let cursor = value.parse().map_err(|_| {
                    Oops::invalid(
                        "cursor",
                        "`cursor` is not one of ours: use the `next_cursor` of the page before",
                    )
                })?;
                filter.before = Some(Seq(cursor));
            }
            "limit" => {
                filter.limit =
                    value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
                        Oops::invalid(
                            "limit",
                            format!("`limit`: 1 to {MAX_PAGE} tasks are allowed on a page"),
                        )
                    })?;
            }
            _ => return Err(unknown_parameter(&name, "state, queue, tag, cursor, limit")),
        }
    }
    // Before it is read: pages are large, and those who asked for them may be slow.
    let room = Room::take(&face, u64::try_from(PAGE_BYTES).unwrap_or(u64::MAX), ROOM_WAIT).await?;
    let page = lookup::read(&face, move |reader| reader.list(&filter)).await?;
    let list = TaskList {
        tasks: page.tasks.iter().map(view::listed).collect(),
        next_cursor: page.next.map(|seq| seq.0.to_string()),
    };
    let text = serde_json::to_string(&list).map_err(|_| Oops::internal("a page that cannot be written"))?;
    let is_large = text.len() > SMALL_PAGE_BYTES;
    let mut response = json(StatusCode::OK, text);
    if is_large {
        response.extensions_mut().insert(room);
    }
    Ok(response)
}

/// Comma-separated states; `open` and `ended` stand for all of their kind.
fn states(text: &str) -> Result<StateFilter, Oops> {
    match text {
        // One index serves each of these.
        "open" => return Ok(StateFilter::Open),
        "ended" => return Ok(StateFilter::Ended),
        _ => {}
    }
    let mut wanted = Vec::new();
    for word in text.split(',') {
        let matching: Vec<TaskState> =
            TaskState::ALL.into_iter().filter(|state| matches(*state, word)).collect();
        if matching.is_empty() {
            return Err(Oops::invalid(
                "state",
                "`state`: open, ended, or a list of scheduled, queued, running, paused, succeeded, cancelled, expired, dead",
            ));
        }
        wanted.extend(matching);
    }
    Ok(StateFilter::These(wanted))
}

fn matches(state: TaskState, word: &str) -> bool {
    state.as_str() == word || word == if state.has_ended() { "ended" } else { "open" }
}

/// A query's parameters, each at most once.
pub(crate) fn query(uri: &Uri) -> Result<Vec<(String, String)>, Oops> {
    let pairs: axum::extract::Query<Vec<(String, String)>> = axum::extract::Query::try_from_uri(uri)
        .map_err(|_| {
            Oops::new(Code::InvalidRequest, "the query cannot be read: `name=value&…`, percent-encoded")
        })?;
    for (at, (name, _)) in pairs.0.iter().enumerate() {
        if pairs.0.iter().take(at).any(|(earlier, _)| earlier == name) {
            return Err(Oops::invalid(name.clone(), format!("`{}` stands twice", name.escape_default())));
        }
    }
    Ok(pairs.0)
}

pub(crate) fn unknown_parameter(name: &str, allowed: &str) -> Oops {
    Oops::invalid(
        name,
        format!("the parameter `{}` is unknown here; allowed: {allowed}", name.escape_default()),
    )
}
