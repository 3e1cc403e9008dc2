//! Puts two streams into the order in which they were received.
//!
//! The shim writes down who spoke when, as long as that is bounded: entries of stream and length, from the beginning.
//! What lies beyond the last entry follows, standard output first, once no further entry can come.

use std::io;

use super::source::{At, Source};

/// At most so much in one piece, and in one call.
pub(super) const PIECE_BYTES: usize = 64 * 1_024;
const CALL_BYTES: usize = 256 * 1_024;
/// The shim stops writing entries when its file has this size.
const ORDER_CAP_BYTES: usize = 1_024 * 1_024;
const ENTRIES_AT_ONCE: usize = 512;

/// How far a reader is in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Offsets read up to, by stream.
    at: [u64; 2],
    /// The entry reading stands in.
    entry: usize,
    /// Where that entry begins, by stream.
    base: [u64; 2],
}

/// A piece of one stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: u8,
    pub(super) content: Content,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Bytes(Vec<u8>),
    LeftOut(u64),
}

impl Cursor {
    pub(super) fn new(at: [u64; 2]) -> Self {
        Self { at, entry: 0, base: [0, 0] }
    }
}

/// Reads on from the cursor; nothing: there is no more for now. `ended`: the attempt writes nothing any more.
///
/// # Errors
/// The files are there and cannot be read.
pub(super) fn advance(
    source: &mut Source,
    cursor: &mut Cursor,
    ended: bool,
    segment_bytes: u64,
) -> io::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut room = CALL_BYTES;
    let mut ordered = cursor.entry > 0;
    loop {
        let entries = source.order(cursor.entry, ENTRIES_AT_ONCE)?;
        ordered |= !entries.is_empty();
        let last = entries.len().saturating_sub(1);
        let full = entries.len() == ENTRIES_AT_ONCE;
        for (index, (stream, length)) in entries.into_iter().enumerate() {
            let which = usize::from(stream);
            let Some(end) = cursor.base.get(which).map(|base| base + length) else { return Ok(pieces) };
            if !read_to(source, cursor, stream, end, &mut room, &mut pieces)? {
                return Ok(pieces);
            }
            // The last entry may still grow: stay in it.
            if index < last || full {
                cursor.entry += 1;
                if let Some(base) = cursor.base.get_mut(which) {
                    *base = end;
                }
            }
        }
        if !full {
            break;
        }
    }
    // Without entries, or beyond them: only if no entry can come that would tell the order.
    let no_more_entries =
        ended || (cursor.entry + 1) * 8 >= ORDER_CAP_BYTES || cursor.at.iter().any(|at| *at >= segment_bytes);
    if !ordered || no_more_entries {
        for stream in [0, 1] {
            if !read_to(source, cursor, stream, u64::MAX, &mut room, &mut pieces)? {
                return Ok(pieces);
            }
        }
    }
    Ok(pieces)
}

/// Reads a stream up to `end`. False: no room left in this call, or an entry speaks of bytes that are not there yet.
fn read_to(
    source: &Source,
    cursor: &mut Cursor,
    stream: u8,
    end: u64,
    room: &mut usize,
    pieces: &mut Vec<Piece>,
) -> io::Result<bool> {
    let Some(at) = cursor.at.get_mut(usize::from(stream)) else { return Ok(false) };
    while *at < end {
        if *room == 0 {
            return Ok(false);
        }
        let most = usize::try_from(end - *at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES).min(*room);
        let content = match source.read(stream, *at, most)? {
            At::Bytes(bytes) => {
                *room = room.saturating_sub(bytes.len());
                *at += u64::try_from(bytes.len()).unwrap_or(0);
                Content::Bytes(bytes)
            }
            At::Gap(next) => {
                let left_out = next - *at;
                *at = next;
                Content::LeftOut(left_out)
            }
            At::End => return Ok(end == u64::MAX),
        };
        pieces.push(Piece { stream, content });
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use chitin_core::StoredOutput;

    use super::*;

    fn stored(stdout: &str, stderr: &str, order: &[(u8, u64)]) -> Source {
        let interleave =
            order.iter().flat_map(|(stream, len)| (len << 1 | u64::from(*stream)).to_le_bytes()).collect();
        let output = StoredOutput { stdout: Some(stdout.into()), stderr: stderr.into(), interleave };
        Source::stored(output, None)
    }

    fn text(pieces: io::Result<Vec<Piece>>) -> String {
        let show = |piece: Piece| match piece.content {
            Content::Bytes(bytes) => format!("{}{}", piece.stream, String::from_utf8(bytes).unwrap()),
            Content::LeftOut(count) => format!("{}-{count}", piece.stream),
        };
        pieces.unwrap().into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn streams_come_in_the_order_of_receipt() {
        let mut source = stored("aabb", "XY", &[(0, 2), (1, 1), (0, 2), (1, 1)]);
        let mut cursor = Cursor::new([0, 0]);
        assert_eq!(text(advance(&mut source, &mut cursor, true, 100)), "0aa 1X 0bb 1Y");
        assert_eq!(text(advance(&mut source, &mut cursor, true, 100)), "");
    }

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let mut source = stored("aabb", "XY", &[(0, 2), (1, 1), (0, 2), (1, 1)]);
        let mut cursor = Cursor::new([3, 1]);
        assert_eq!(text(advance(&mut source, &mut cursor, true, 100)), "0b 1Y");
    }

    #[test]
    fn an_entry_that_grows_is_read_on() {
        let mut cursor = Cursor::new([0, 0]);
        assert_eq!(
            text(advance(&mut stored("aa", "X", &[(0, 2), (1, 1)]), &mut cursor, false, 100)),
            "0aa 1X"
        );
        let mut grown = stored("aa", "XYZ", &[(0, 2), (1, 3)]);
        assert_eq!(text(advance(&mut grown, &mut cursor, false, 100)), "1YZ");
        let mut more = stored("aac", "XYZ", &[(0, 2), (1, 3), (0, 1)]);
        assert_eq!(text(advance(&mut more, &mut cursor, false, 100)), "0c");
    }

    #[test]
    fn without_entries_each_stream_is_read_as_it_stands() {
        let mut cursor = Cursor::new([0, 0]);
        assert_eq!(text(advance(&mut stored("aa", "", &[]), &mut cursor, false, 100)), "0aa");
        let mut second = stored("aa", "X", &[(0, 2), (1, 1)]);
        assert_eq!(
            text(advance(&mut second, &mut cursor, false, 100)),
            "1X",
            "the first entry covers what was read"
        );
    }

    #[test]
    fn what_no_entry_covers_comes_last() {
        let mut source = stored("aabbb", "XYY", &[(0, 2), (1, 1)]);
        let mut cursor = Cursor::new([0, 0]);
        assert_eq!(text(advance(&mut source, &mut cursor, false, 100)), "0aa 1X", "an entry may still come");
        assert_eq!(text(advance(&mut source, &mut cursor, true, 100)), "0bbb 1YY");
    }
}
