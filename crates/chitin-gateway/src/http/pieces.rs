//! An answer's body that comes piece by piece through a bounded channel: what a slow reader has not taken yet waits on the
//! disk, not in memory (R1.3).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc::Receiver;

/// What is sent: bytes, or that no more can come.
pub(crate) type Piece = Result<Bytes, CutShort>;

/// The answer has not ended, and yet there is no more of it: the body breaks off, so that nobody takes it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer could not be given to its end; ask again for the rest")]
pub(crate) struct CutShort;

/// The body.
pub(crate) struct Pieces {
    receiver: Receiver<Piece>,
    /// How many bytes are still to come, if that is known.
    left: Option<u64>,
}

impl Pieces {
    /// Ends when the sender is dropped.
    pub(crate) fn new(receiver: Receiver<Piece>) -> Self {
        Self { receiver, left: None }
    }

    /// The same, of `bytes` bytes, which the client is told.
    pub(crate) fn of_length(receiver: Receiver<Piece>, bytes: u64) -> Self {
        Self { receiver, left: Some(bytes) }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = self.receiver.poll_recv(context);
        if let (Poll::Ready(Some(Ok(bytes))), Some(left)) = (&piece, &mut self.left) {
            *left = left.saturating_sub(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        }
        piece.map(|piece| piece.map(|bytes| bytes.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
