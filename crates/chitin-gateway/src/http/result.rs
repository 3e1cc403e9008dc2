//! `GET /v1/tasks/{id}/result`: the bytes, with their media type. Which result a task has always comes from the store; its
//! bytes come from the cache if it has the right ones (R4.2). A large result that is not cached is read from the store as
//! fast as its reader takes it.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use chitin_cache::{Cache, Key, Lent, Wanted};
use chitin_core::{Seq, TaskId, Ticket};
use chitin_proto::http::Code;
use chitin_store::{EndMeta, Reader, ResultMeta, StoreError};
use tokio::sync::mpsc::Sender;

use super::guard::{Caller, watcher};
use super::held::Held;
use super::line::{LARGE_ANSWER_BYTES, ROOM_WAIT, Room};
use super::pieces::{CutShort, Piece, Pieces};
use super::problem::{Answered, Oops, say};
use super::{Shared, lookup};
use crate::tasks::TaskKind;

/// A result up to this size is answered in one piece. More would be memory that a slow reader holds; less, more looks
/// at the store.
const PIECE_BYTES: usize = 128 * 1_024;

pub(crate) async fn get(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answered {
    let task = lookup::resolve(&face, &id).await?;
    // For a piece of it; all of a large one is lent by the cache.
    let room = Room::take(&face, u64::try_from(PIECE_BYTES).unwrap_or(u64::MAX), ROOM_WAIT).await?;
    let cache = Arc::clone(&face.cache);
    let look = lookup::read(&face, move |reader| Look::at(reader, &cache, task)).await?;
    let Look { end, lent, found } = look.ok_or_else(|| Oops::no_such_task(&id))?;
    let Some(result) = end.result else {
        return Err(if end.state.has_ended() {
            Oops::new(
                Code::Conflict,
                format!("the task has ended without a result: it is {}", say(end.state)),
            )
        } else {
            let detail =
                format!("the task is {}; wait for its end with ?wait_s= on the task", say(end.state));
            Oops::new(Code::NotFinished, detail)
        });
    };
    let bytes = result.bytes;
    let first = match found {
        Found::Gone => None,
        Found::Here(body) => Some(body),
        Found::Elsewhere(ticket) => {
            let (key, wanted) = (Key { task, round: end.round }, wanted(&result));
            match face.cache.fetch(ticket, key, &wanted).await {
                Some(body) => Some(body),
                None => {
                    let (cache, whole) = (Arc::clone(&face.cache), lent.is_some());
                    let read = move |reader: &Reader| {
                        let body = from_store(reader, end.seq, bytes, whole)?;
                        Ok(body.inspect(|body| offer(&cache, key, &wanted, body)))
                    };
                    lookup::read(&face, read).await?
                }
            }
        }
    };
    // Deleted between two looks.
    let first = first.ok_or_else(|| Oops::no_such_task(&id))?;
    let is_whole = u64::try_from(first.len()).is_ok_and(|len| len == bytes);
    let body = match lent {
        _ if !is_whole => piece_by_piece(&face, &caller, end.seq, bytes, first)?,
        None => Body::from(first),
        Some(lent) => Body::new(Held::new(first, PIECE_BYTES, lent, watcher(&face, &caller)?)),
    };
    let mut response = Response::new(body);
    if bytes > LARGE_ANSWER_BYTES {
        response.extensions_mut().insert(room);
    }
    let headers = response.headers_mut();
    let kind = HeaderValue::from_str(&result.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if result.truncated {
        headers.insert("chitin-result-truncated", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// What one look found: how the task stands, as of one moment, and its result's bytes or where they may be.
struct Look {
    end: EndMeta,
    /// Room in memory for all of a large result.
    lent: Option<Lent>,
    found: Found,
}

enum Found {
    /// There is no result, or it was deleted meanwhile.
    Gone,
    /// From memory, or from the store: all of it, or its first piece.
    Here(Bytes),
    /// Perhaps in Redis, which is not asked from here.
    Elsewhere(Ticket),
}

impl Look {
    fn at(reader: &Reader, cache: &Cache, task: TaskId) -> Result<Option<Self>, StoreError> {
        let Some(end) = reader.result_meta(task)? else { return Ok(None) };
        let Some(result) = &end.result else {
            return Ok(Some(Self { end, lent: None, found: Found::Gone }));
        };
        let (key, wanted) = (Key { task, round: end.round }, wanted(result));
        let is_large = usize::try_from(wanted.bytes).map_or(true, |bytes| bytes > PIECE_BYTES);
        let lent = if is_large && cache.takes(wanted.bytes) { cache.lend(wanted.bytes) } else { None };
        let is_cached = !is_large || lent.is_some();
        let found = if let Some(body) = is_cached.then(|| cache.recall(key, &wanted)).flatten() {
            Found::Here(body)
        } else if let Some(ticket) = is_cached.then(|| cache.may_ask(wanted.bytes)).flatten() {
            Found::Elsewhere(ticket)
        } else {
            match from_store(reader, end.seq, wanted.bytes, lent.is_some())? {
                Some(body) => {
                    offer(cache, key, &wanted, &body);
                    Found::Here(body)
                }
                None => Found::Gone,
            }
        };
        Ok(Some(Self { end, lent, found }))
    }
}

fn wanted(result: &ResultMeta) -> Wanted {
    Wanted { sha256: result.sha256, bytes: result.bytes }
}

/// All of a result, or its first piece. `None`: it is not there any more.
fn from_store(reader: &Reader, seq: Seq, bytes: u64, whole: bool) -> Result<Option<Bytes>, StoreError> {
    let most = if whole { usize::try_from(bytes).unwrap_or(PIECE_BYTES) } else { PIECE_BYTES };
    Ok(reader.result_piece(seq, bytes, 0, most)?.map(Bytes::from))
}

/// What was not in the cache and was read as a whole goes there.
fn offer(cache: &Cache, key: Key, wanted: &Wanted, body: &Bytes) {
    if u64::try_from(body.len()).is_ok_and(|len| len == wanted.bytes) {
        cache.offer(key, wanted.sha256, body.clone());
    }
}

/// A stream like those of logs, and within their budget: its reader may take as long as it likes.
fn piece_by_piece(face: &Shared, caller: &Caller, seq: Seq, bytes: u64, first: Bytes) -> Result<Body, Oops> {
    let place = watcher(face, caller)?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let shared = Arc::clone(face);
    face.tasks.spawn(TaskKind::Stream, async move {
        tokio::select! {
            () = feed(&shared, seq, bytes, first, &sender) => {}
            () = sender.closed() => {}
        }
        drop(place);
    });
    Ok(Body::new(Pieces::of_length(receiver, bytes)))
}

async fn feed(face: &Shared, seq: Seq, bytes: u64, first: Bytes, sender: &Sender<Piece>) {
    let mut first = Some(first);
    let mut sent = 0_u64;
    while sent < bytes {
        // A place first: nothing is read before it can be sent.
        let Ok(place) = sender.reserve().await else { return };
        let piece = match first.take() {
            Some(first) => Some(first),
            None => {
                let read =
                    lookup::read(face, move |reader| reader.result_piece(seq, bytes, sent, PIECE_BYTES));
                read.await.ok().flatten().map(Bytes::from)
            }
        };
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            place.send(Err(CutShort));
            return;
        };
        sent = sent.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        place.send(Ok(piece));
    }
}
