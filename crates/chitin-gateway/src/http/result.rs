//! `GET /v1/tasks/{id}/result`: the bytes, with their media type. A large result is read from the store as fast as its
//! reader takes it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, Response, header};
use bytes::Bytes;
use chitin_core::Seq;
use chitin_proto::http::Code;
use tokio::sync::mpsc::Sender;

use super::pieces::{CutShort, Piece, Pieces};
use super::problem::{Answered, Oops, say};
use super::{Shared, lookup};
use crate::tasks::TaskKind;

/// A result up to this size is answered in one piece. More would be memory that a slow reader holds; less, more looks
/// at the store.
const PIECE_BYTES: usize = 128 * 1_024;

pub(crate) async fn get(State(face): State<Shared>, Path(id): Path<String>) -> Answered {
    let task = lookup::resolve(&face, &id).await?;
    let found = lookup::read(&face, move |reader| {
        let end = reader.result_meta(task)?;
        let result = end.as_ref().and_then(|end| Some((end.seq, end.result.as_ref()?.bytes)));
        let first = match result {
            Some((seq, bytes)) => reader.result_piece(seq, bytes, 0, PIECE_BYTES)?,
            None => None,
        };
        Ok(end.map(|end| (end, first)))
    });
    let (end, first) = found.await?.ok_or_else(|| Oops::no_such_task(&id))?;
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
    // Deleted between the two looks.
    let first = first.ok_or_else(|| Oops::no_such_task(&id))?;
    let is_whole = u64::try_from(first.len()).is_ok_and(|len| len == result.bytes);
    let body =
        if is_whole { Body::from(first) } else { piece_by_piece(&face, end.seq, result.bytes, first)? };
    let mut response = Response::new(body);
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

/// A stream like those of logs, and within their budget: its reader may take as long as it likes.
fn piece_by_piece(face: &Shared, seq: Seq, bytes: u64, first: Vec<u8>) -> Result<Body, Oops> {
    let place = Arc::clone(&face.budgets.watchers).try_acquire_owned().map_err(|_| {
        Oops::new(
            Code::Overloaded,
            format!("{} requests wait or stream already; try again", face.limits.watchers),
        )
    })?;
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

async fn feed(face: &Shared, seq: Seq, bytes: u64, first: Vec<u8>, sender: &Sender<Piece>) {
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
                read.await.ok().flatten()
            }
        };
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            place.send(Err(CutShort));
            return;
        };
        sent = sent.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        place.send(Ok(Bytes::from(piece)));
    }
}
