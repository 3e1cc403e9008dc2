//! A connection as the gateway sees it: what is being waited for and since when, so that whoever sends or reads too
//! slowly is noticed (R1.2). What is noted costs a store to an atomic; no request has a timer of its own for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use super::Face;
use super::budget::Share;
use super::problem::Oops;
use super::refusals::Bound;

/// What a connection is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// A head is on its way; a new connection is expected to send one.
    Head,
    /// A request is being answered.
    Answer,
    /// Nothing is asked for.
    Idle,
}

/// How long each may take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    pub(super) head_ms: i64,
    pub(super) idle_ms: i64,
    /// A reader that takes nothing.
    pub(super) stalled_ms: i64,
}

/// What is known of a connection, for whoever watches over all of them.
#[derive(Debug)]
pub(super) struct Line {
    /// The time, as often as somebody looks at it.
    now_ms: Arc<AtomicI64>,
    phase: AtomicU8,
    since_ms: AtomicI64,
    /// Since when nothing could be written; -1: all could.
    stalled_ms: AtomicI64,
    /// It is to end after the answer under way, or at once.
    ends: AtomicBool,
    cut: AtomicBool,
    told: Notify,
}

const FLOWS: i64 = -1;

impl Line {
    pub(super) fn new(now_ms: Arc<AtomicI64>) -> Self {
        let since_ms = AtomicI64::new(now_ms.load(Ordering::Relaxed));
        Self {
            now_ms,
            phase: AtomicU8::new(Phase::Head as u8),
            since_ms,
            stalled_ms: AtomicI64::new(FLOWS),
            ends: AtomicBool::new(false),
            cut: AtomicBool::new(false),
            told: Notify::new(),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.since_ms.store(self.now_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn heard(&self) {
        if self.phase.load(Ordering::Relaxed) == Phase::Idle as u8 {
            self.enter(Phase::Head);
        }
    }

    fn wrote(&self, all_was_taken: bool) {
        let flows = self.stalled_ms.load(Ordering::Relaxed) == FLOWS;
        if flows != all_was_taken {
            let since_ms = if all_was_taken { FLOWS } else { self.now_ms.load(Ordering::Relaxed) };
            self.stalled_ms.store(since_ms, Ordering::Relaxed);
        }
    }

    /// Whether the other end has used its time up.
    pub(super) fn is_overdue(&self, patience: Patience) -> bool {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let over = |since_ms: i64, most_ms: i64| now_ms.saturating_sub(since_ms) > most_ms;
        let stalled_ms = self.stalled_ms.load(Ordering::Relaxed);
        if stalled_ms != FLOWS {
            return over(stalled_ms, patience.stalled_ms);
        }
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Head as u8 => over(since_ms, patience.head_ms),
            phase if phase == Phase::Idle as u8 => over(since_ms, patience.idle_ms),
            // The routes have bounds of their own.
            _ => false,
        }
    }

    /// Ends the connection at once.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Ends the connection when what is being answered is answered.
    pub(super) fn end(&self) {
        self.ends.store(true, Ordering::SeqCst);
        self.told.notify_one();
    }

    /// Resolves when the connection is to end: whether at once.
    pub(super) async fn is_to_end(&self) -> bool {
        loop {
            if self.cut.load(Ordering::SeqCst) {
                return true;
            }
            if self.ends.load(Ordering::SeqCst) {
                return false;
            }
            self.told.notified().await;
        }
    }

    /// Resolves when the connection is to end at once.
    pub(super) async fn is_cut(&self) {
        while !self.cut.load(Ordering::SeqCst) {
            self.told.notified().await;
        }
    }
}

/// The connection's stream, which notes what goes over it.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    line: Arc<Line>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, line: Arc<Line>) -> Self {
        Self { stream, line }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.line.heard();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.line.wrote(wrote.is_ready());
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.line.wrote(wrote.is_ready());
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// An answer's body on its line: once it is given to its end, or given up, the connection is idle.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    line: Arc<Line>,
    _room: Option<Room>,
}

/// An answer of more bytes takes room: smaller ones mostly fit into what the kernel buffers.
pub(super) const LARGE_ANSWER_BYTES: u64 = 65_536;
/// How long room for an answer is waited for: others are being read meanwhile.
pub(super) const ROOM_WAIT: Duration = Duration::from_secs(1);

/// What a large answer takes of the memory for answers, until its reader has it.
#[derive(Debug, Clone)]
pub(super) struct Room(#[expect(dead_code, reason = "it is given back when it is dropped")] Arc<Share>);

impl Room {
    /// For so many bytes, at least.
    pub(super) async fn take(face: &Face, bytes: u64, patience: Duration) -> Result<Self, Oops> {
        let share = face.budgets.answer_kib.wait(bytes.div_ceil(1_024), patience).await;
        let share = share.ok_or_else(|| {
            Oops::refused(Bound::Answers, "too many large answers wait for their readers; try again")
        })?;
        Ok(Self(Arc::new(share)))
    }
}

impl Answer {
    pub(super) fn new(body: Body, line: Arc<Line>, room: Option<Room>) -> Self {
        Self { body, line, _room: room }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.line.enter(Phase::Idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { head_ms: 10, idle_ms: 60, stalled_ms: 30 };

    fn line() -> (Line, Arc<AtomicI64>) {
        let now_ms = Arc::new(AtomicI64::new(1_000));
        (Line::new(Arc::clone(&now_ms)), now_ms)
    }

    #[test]
    fn a_head_has_its_time_from_its_first_byte_and_not_from_its_last() {
        let (line, now_ms) = line();
        line.enter(Phase::Idle);
        now_ms.store(1_060, Ordering::Relaxed);
        assert!(!line.is_overdue(PATIENCE), "idle for as long as it may be");
        line.heard();
        now_ms.store(1_070, Ordering::Relaxed);
        line.heard();
        assert!(!line.is_overdue(PATIENCE));
        now_ms.store(1_071, Ordering::Relaxed);
        line.heard();
        assert!(line.is_overdue(PATIENCE), "one byte after the other is not a head");
    }

    #[test]
    fn whoever_is_answered_is_waited_for_only_if_nothing_is_taken() {
        let (line, now_ms) = line();
        line.enter(Phase::Answer);
        now_ms.store(900_000, Ordering::Relaxed);
        assert!(!line.is_overdue(PATIENCE), "a long poll");
        line.wrote(false);
        now_ms.store(900_030, Ordering::Relaxed);
        line.wrote(false);
        assert!(!line.is_overdue(PATIENCE));
        now_ms.store(900_031, Ordering::Relaxed);
        assert!(line.is_overdue(PATIENCE));
        line.wrote(true);
        assert!(!line.is_overdue(PATIENCE), "it reads again");
    }

    #[test]
    fn an_answer_that_is_given_or_given_up_leaves_the_line_idle() {
        let (line, now_ms) = line();
        let line = Arc::new(line);
        line.enter(Phase::Answer);
        let answer = Answer::new(Body::empty(), Arc::clone(&line), None);
        now_ms.store(2_000, Ordering::Relaxed);
        drop(answer);
        now_ms.store(2_061, Ordering::Relaxed);
        assert!(line.is_overdue(PATIENCE));
    }
}
