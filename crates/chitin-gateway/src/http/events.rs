//! `GET /v1/events` and `GET /v1/tasks/{id}/events`: what happened, as server-sent events. Each has an id to go on from,
//! over any restart: `Last-Event-ID`, as browsers send it, or `after`.
//!
//! Nothing is passed over in silence: whoever comes too late, or with an id of a store that was replaced, is told so by
//! `events.missed`.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use bytes::Bytes;
use chitin_core::TaskId;
use chitin_store::{EventPlace, Reader, StoreError, StoredEvent};
use serde_json::json;
use tokio::sync::mpsc::Sender;

use super::budget::Share;
use super::guard::{Caller, watcher};
use super::pieces::{CutShort, Piece, Pieces};
use super::problem::{Answered, Oops};
use super::tasks::{query, unknown_parameter};
use super::{Shared, lookup};
use crate::clock;
use crate::events::board::{Found, PAGE, Reading};
use crate::events::render;
use crate::tasks::TaskKind;

/// Pieces that may wait for a slow reader; the rest waits on the board and in the store.
const WAITING_PIECES: usize = 4;
/// A stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The most that `last` may ask for.
const MOST_LAST: usize = 1_000;

static LAST_EVENT_ID: header::HeaderName = header::HeaderName::from_static("last-event-id");

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    follow: bool,
    after: Option<String>,
    last: Option<usize>,
}

fn wanted(uri: &Uri, headers: &HeaderMap, last_allowed: bool) -> Result<Wanted, Oops> {
    let allowed = if last_allowed { "follow, after, last" } else { "follow, after" };
    let mut wanted = Wanted { follow: true, after: None, last: None };
    for (name, value) in query(uri)? {
        match name.as_str() {
            "follow" => {
                wanted.follow = value
                    .parse()
                    .map_err(|_| Oops::invalid("follow", "`follow`: true or false are allowed"))?;
            }
            "after" => wanted.after = Some(value),
            "last" if last_allowed => {
                let last = value.parse().ok().filter(|last| *last <= MOST_LAST);
                wanted.last = Some(last.ok_or_else(|| {
                    Oops::invalid("last", format!("`last`: 0 to {MOST_LAST} events are allowed"))
                })?);
            }
            _ => return Err(unknown_parameter(&name, allowed)),
        }
    }
    // A browser that connects again sends the address it began with, and this.
    if let Some(id) = headers.get(&LAST_EVENT_ID).filter(|id| !id.is_empty()) {
        wanted.after = id.to_str().ok().map(str::to_owned).or(Some(String::new()));
    }
    if let Some(after) = &wanted.after
        && !render::is_id(after)
    {
        return Err(Oops::invalid("after", "`after` is not the id of an event: send one as it was received"));
    }
    Ok(wanted)
}

pub(crate) async fn all(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    uri: Uri,
) -> Answered {
    let wanted = wanted(&uri, &headers, true)?;
    let permit = watcher(&face, &caller)?;
    let after = wanted.after.as_deref().map(|after| render::parse_id(&face.store_tag, after));
    let bounds = lookup::read(&face, Reader::event_bounds).await?;
    let (reading, first) = match after {
        Some(Some(after)) if after.no <= bounds.end.no => (after, Vec::new()),
        Some(_) => {
            let detail = json!({"reason": "the id is of another store: a backup was restored"});
            (bounds.end, vec![render::missed(detail, clock::wall_ms())])
        }
        None => {
            let last = wanted.last.unwrap_or(if wanted.follow { 0 } else { MOST_LAST });
            let events = newest(&face, bounds.end, last).await?;
            let frames = events.iter().map(|event| render::stored(&face.store_tag, event).frame).collect();
            (events.last().map_or(bounds.end, |event| event.place), frames)
        }
    };
    stream(&face, permit, move |face, sender| async move {
        for frame in first {
            if sender.send(Ok(frame)).await.is_err() {
                return Ok(());
            }
        }
        if wanted.follow {
            follow(&face, Reading::from(reading), &sender).await
        } else {
            catch_up(&face, reading, bounds.end, &sender).await.map(drop)
        }
    })
}

pub(crate) async fn of_task(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Answered {
    let wanted = wanted(&uri, &headers, false)?;
    let task = lookup::resolve(&face, &id).await?;
    let permit = watcher(&face, &caller)?;
    let after = wanted.after.as_deref().and_then(|after| render::parse_id(&face.store_tag, after));
    let after = after.unwrap_or_default();
    let first = page_of(&face, task, after).await?.ok_or_else(|| Oops::no_such_task(&id))?;
    if first.events.is_empty() && first.is_over && wanted.after.is_some() {
        // All was told, and no more will come: a browser that is told so does not connect again.
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let is_followed = wanted.follow;
    stream(&face, permit, move |face, sender| async move {
        follow_task(&face, task, first, after, is_followed, &sender).await
    })
}

/// The answer, fed by a task of its own until there is no more or nobody reads.
fn stream<W, F>(face: &Shared, place: Share, work: W) -> Answered
where
    W: FnOnce(Shared, Sender<Piece>) -> F + Send + 'static,
    F: Future<Output = Result<(), CutShort>> + Send + 'static,
{
    let (sender, receiver) = tokio::sync::mpsc::channel(WAITING_PIECES);
    let shared = Arc::clone(face);
    face.tasks.spawn(TaskKind::Stream, async move {
        let over = tokio::select! {
            over = work(Arc::clone(&shared), sender.clone()) => over,
            () = shared.tasks.stopped() => Err(CutShort),
            () = sender.closed() => Ok(()),
        };
        if let Err(cut_short) = over {
            _ = sender.send(Err(cut_short)).await;
        }
        drop(place);
    });
    let mut response = Response::new(Body::new(Pieces::new(receiver)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The newest events, at most `last`.
async fn newest(face: &Shared, end: EventPlace, last: usize) -> Result<Vec<StoredEvent>, Oops> {
    if last == 0 {
        return Ok(Vec::new());
    }
    let back = i64::try_from(last).unwrap_or(i64::MAX);
    // Each of the newest is at most so far back along both ways.
    let from =
        EventPlace { seq: end.seq.saturating_sub(back).max(0), no: end.no.saturating_sub(back).max(0) };
    let mut events = read(face, move |reader| reader.events(from, last.saturating_mul(2))).await?;
    events.drain(..events.len().saturating_sub(last));
    Ok(events)
}

async fn read<T: Send + 'static>(
    face: &Shared,
    work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Oops> {
    lookup::read(face, work).await
}

/// Sends what stands in the store from `place` on, as far as `to` at most a page beyond; where that leads.
async fn catch_up(
    face: &Shared,
    mut place: EventPlace,
    to: EventPlace,
    sender: &Sender<Piece>,
) -> Result<EventPlace, CutShort> {
    while place.distance() < to.distance() {
        let from = place;
        let found = read(face, move |reader| {
            let bounds = reader.event_bounds()?;
            Ok((bounds.first_no, reader.events(from, PAGE)?))
        });
        let (first_no, page) = found.await.map_err(|_| CutShort)?;
        let swept = first_no.saturating_sub(1).saturating_sub(place.no);
        if swept > 0 {
            let detail = json!({"events": swept, "reason": "they are not kept any more"});
            send(sender, render::missed(detail, clock::wall_ms())).await?;
        }
        let Some(last) = page.last() else { return Ok(to) };
        place = last.place;
        for event in &page {
            send(sender, render::stored(&face.store_tag, event).frame).await?;
        }
    }
    Ok(place)
}

/// Sends what happens until nobody reads.
async fn follow(face: &Shared, mut reading: Reading, sender: &Sender<Piece>) -> Result<(), CutShort> {
    let board = &face.events.board;
    let _following = board.follow();
    loop {
        let posted = board.posted();
        match board.read(reading, PAGE) {
            Found::Frames(frames, next) => {
                for frame in frames {
                    send(sender, frame).await?;
                }
                reading = next;
                continue;
            }
            Found::Behind(Some(start)) => {
                reading = Reading::from(catch_up(face, reading.place, start, sender).await?);
                continue;
            }
            Found::Nothing(next) => reading = next,
            Found::Behind(None) => {}
        }
        tokio::select! {
            () = posted => {}
            () = tokio::time::sleep(KEEP_ALIVE) => send(sender, Bytes::from_static(b":\n\n")).await?,
        }
    }
}

/// Some of a task's events.
struct TaskPage {
    events: Vec<StoredEvent>,
    /// Nothing follows by itself.
    is_over: bool,
}

async fn page_of(face: &Shared, task: TaskId, after: EventPlace) -> Result<Option<TaskPage>, Oops> {
    let page = read(face, move |reader| {
        // First the state: what happens between the two is in the page, and asked for again.
        let row = reader.result_meta(task)?;
        Ok((row, reader.task_events(task, after, PAGE)?))
    });
    let (row, events) = page.await?;
    Ok(events.map(|events| TaskPage { events, is_over: row.is_none_or(|row| row.state.has_ended()) }))
}

async fn follow_task(
    face: &Shared,
    task: TaskId,
    first: TaskPage,
    mut after: EventPlace,
    is_followed: bool,
    sender: &Sender<Piece>,
) -> Result<(), CutShort> {
    let watch = face.waiters.watch(task);
    let mut page = first;
    loop {
        let changed = watch.changed();
        let full = page.events.len() >= PAGE;
        if let Some(last) = page.events.last() {
            after = last.place;
        }
        for event in &page.events {
            send(sender, render::stored(&face.store_tag, event).frame).await?;
        }
        if !full && (page.is_over || !is_followed) {
            return Ok(());
        }
        if page.events.is_empty() {
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(KEEP_ALIVE) => send(sender, Bytes::from_static(b":\n\n")).await?,
            }
        }
        match page_of(face, task, after).await {
            Ok(Some(next)) => page = next,
            Ok(None) | Err(_) => return Err(CutShort),
        }
    }
}

/// An error ends the stream: nobody reads any more.
async fn send(sender: &Sender<Piece>, frame: Bytes) -> Result<(), CutShort> {
    sender.send(Ok(frame)).await.map_err(|_| CutShort)
}
