//! After an attempt was settled: its shim hears the last word, and rests or leaves; then its folder serves another attempt,
//! or is removed. Whoever listens to a shim does this; where nobody did, the folder alone is left to the janitor.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitin_core::AttemptKey;
use chitin_proto::shim::{FromShim, ToShim};
use chitin_shim::start::Resting;
use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::attempt::{next_frame, send};
use super::{Context, Wishes, heartbeat};
use crate::spool::{FIRST, Removal};

/// A shim that was told that its end is committed goes at once; it is waited for so long, so that a gateway that stops
/// knows that nothing of it is left, and then killed.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// So long a shim waits for another order. Where attempts follow each other, one comes within a few milliseconds; longer
/// would only show processes that do nothing.
const REST: Duration = Duration::from_millis(100);

/// What a shim does after the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It waits for another order.
    Rests,
    /// It leaves, or has left.
    Leaves,
}

/// Tells a shim that its end is committed. `line` is what was read of its next frame; `may_rest`: this gateway started it.
pub(super) async fn tell(
    context: &Arc<Context>,
    wishes: &Wishes,
    (mut read, mut write): (BufReader<OwnedReadHalf>, OwnedWriteHalf),
    line: Vec<u8>,
    may_rest: bool,
) -> Parting {
    let AttemptKey { id, attempt, .. } = wishes.key;
    let asked =
        may_rest && attempt == FIRST && !wishes.keep_logs.load(Ordering::SeqCst) && context.spool.hold(id);
    // A shim that does not hear it writes its record and goes; nobody needs that any more.
    _ = send(&mut write, if asked { &ToShim::Rest } else { &ToShim::Settled }).await;
    let rests = tokio::time::timeout(LAST_BREATH, rests(&mut read, line)).await;
    if rests.is_err() {
        heartbeat::dismiss(context, wishes.key).await;
    }
    if asked
        && rests.is_ok_and(|rests| rests)
        && let Some(shim) = resting(read, write)
    {
        context.spool.rests(id, shim);
        return Parting::Rests;
    }
    Parting::Leaves
}

/// Hears a shim out; whether its last word is that it rests. Else it has closed its end, which is when it exits.
async fn rests(read: &mut BufReader<OwnedReadHalf>, mut line: Vec<u8>) -> bool {
    while let Some(frame) = next_frame(read, &mut line).await {
        if matches!(frame, FromShim::Resting { .. }) {
            return true;
        }
    }
    false
}

/// The connection to a shim that rests, with nothing left in it.
fn resting(read: BufReader<OwnedReadHalf>, write: OwnedWriteHalf) -> Option<Resting> {
    if !read.buffer().is_empty() {
        return None;
    }
    let socket = read.into_inner().reunite(write).ok()?;
    Some(Resting::new(socket.into_std().ok()?))
}

/// Sees to the folder, until it serves another attempt or is about to be removed.
pub(super) async fn clear(context: &Arc<Context>, wishes: &Wishes, parting: Parting) {
    let AttemptKey { id, attempt, .. } = wishes.key;
    if parting == Parting::Rests {
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = context.tasks.stopped() => {}
        }
    }
    if attempt == FIRST {
        match context.spool.let_go(id) {
            None if parting == Parting::Rests => return,
            Some(Some(shim)) => {
                if !leaves(shim).await {
                    heartbeat::dismiss(context, wishes.key).await;
                }
            }
            Some(None) | None => {}
        }
    }
    let keep_logs = wishes.keep_logs.load(Ordering::SeqCst);
    context.janitor.remove(Removal::Attempt { id, attempt, keep_logs });
}

/// Tells a shim that rests to leave, and waits until it has. False: it has not.
async fn leaves(shim: Resting) -> bool {
    let socket = shim.leave();
    if socket.set_nonblocking(true).is_ok()
        && let Ok(mut socket) = UnixStream::from_std(socket)
    {
        return tokio::time::timeout(LAST_BREATH, socket.read_u8()).await.is_ok();
    }
    false
}
