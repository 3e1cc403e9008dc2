//! An answer's body that is in memory as a whole, and shared with the cache. It is handed out in pieces, so that its share
//! of what may be in memory is held until the reader has taken nearly all of it (R1.3).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use chitin_cache::Lent;
use http_body::{Frame, SizeHint};

use super::budget::Share;
use super::pieces::CutShort;

/// The body.
pub(super) struct Held {
    rest: Bytes,
    piece_bytes: usize,
    _lent: Lent,
    /// A reader of much may take as long as it likes: it is one of those that watch.
    _place: Share,
}

impl Held {
    pub(super) fn new(body: Bytes, piece_bytes: usize, lent: Lent, place: Share) -> Self {
        Self { rest: body, piece_bytes, _lent: lent, _place: place }
    }
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = CutShort;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutShort>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let most = self.piece_bytes.min(self.rest.len());
        let piece = self.rest.split_to(most);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.rest.len()).unwrap_or(u64::MAX))
    }
}
