//! The two forms of a log stream: raw bytes, and frames that tell the streams and attempts apart.
//!
//! A frame is `kind: u8`, `length: u32` little-endian, then so many bytes: 0 standard output, 1 standard error, 2 "attempt
//! N begins" (`u32`), 3 "N bytes of stream S were left out" (`u8`, `u64`), 4 keep-alive (empty).

use bytes::{BufMut, Bytes, BytesMut};

use super::order::{Content, Piece};

/// Which form.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub(super) framed: bool,
}

impl Form {
    pub(super) fn piece(self, piece: Piece) -> Bytes {
        match piece.content {
            Content::Bytes(bytes) if self.framed => frame(piece.stream, &bytes),
            Content::Bytes(bytes) => Bytes::from(bytes),
            Content::LeftOut(count) if self.framed => {
                let mut payload = vec![piece.stream];
                payload.extend_from_slice(&count.to_le_bytes());
                frame(3, &payload)
            }
            Content::LeftOut(count) => Bytes::from(format!("\n[chitin: {count} bytes left out]\n")),
        }
    }

    pub(super) fn attempt(self, number: u32) -> Bytes {
        if self.framed { frame(2, &number.to_le_bytes()) } else { Bytes::new() }
    }

    pub(super) fn keep_alive(self) -> Bytes {
        if self.framed { frame(4, &[]) } else { Bytes::new() }
    }
}

fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + payload.len());
    frame.put_u8(kind);
    // A piece is far below 4 GiB: see `order::PIECE_BYTES`.
    frame.put_u32_le(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    frame.put_slice(payload);
    frame.freeze()
}
