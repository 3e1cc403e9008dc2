//! Frames of a followed log, taken apart as they arrive: `[kind u8][length u32 LE][payload]`. Pure, and without a buffer
//! for output: its bytes go on in the pieces they came in, so that no length on the wire can make us hold anything.

/// One of the command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What frames say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Bytes of an output: a frame's, or a part of them.
    Bytes(Stream, &'a [u8]),
    /// What follows is of this attempt, and is counted from 0.
    Attempt(u32),
    /// So many bytes were not kept.
    Omitted(Stream, u64),
}

/// What cannot be a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// Not a payload of that kind.
    #[error("a log frame of kind {kind} with {length} bytes makes no sense")]
    Payload {
        /// The frame's kind.
        kind: u8,
        /// Its length.
        length: u32,
    },
}

const KIND_STDOUT: u8 = 0;
const KIND_STDERR: u8 = 1;
const KIND_ATTEMPT: u8 = 2;
const KIND_OMITTED: u8 = 3;

const HEADER_BYTES: usize = 5;
/// The longest payload that is no output: an omission's.
const MAX_SMALL_BYTES: usize = 9;

/// Where in the stream of frames we are.
#[derive(Debug)]
enum At {
    /// In a header, with what of it has come.
    Header(Vec<u8>),
    /// In the bytes of an output.
    Output(Stream, u32),
    /// In the payload of something small.
    Small(u8, u32, Vec<u8>),
    /// In a payload that nobody needs: a keep-alive, or a kind of a later version.
    Skip(u32),
}

/// Takes frames apart.
#[derive(Debug)]
pub(crate) struct Decoder {
    at: At,
}

impl Decoder {
    /// Before the first frame.
    pub(crate) fn new() -> Self {
        Self { at: At::Header(Vec::with_capacity(HEADER_BYTES)) }
    }

    /// The next piece in `input`, which is advanced; none: everything is taken, more must arrive.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        loop {
            match &mut self.at {
                At::Header(have) => {
                    let missing = HEADER_BYTES - have.len();
                    have.extend_from_slice(take(input, missing));
                    let &[kind, a, b, c, d] = have.as_slice() else {
                        return Ok(None);
                    };
                    self.at = begin(kind, u32::from_le_bytes([a, b, c, d]))?;
                }
                At::Output(stream, left) => {
                    let (stream, bytes) =
                        (*stream, take(input, usize::try_from(*left).unwrap_or(usize::MAX)));
                    *left -= u32::try_from(bytes.len()).unwrap_or(*left);
                    if *left == 0 {
                        *self = Self::new();
                    }
                    if !bytes.is_empty() {
                        return Ok(Some(Piece::Bytes(stream, bytes)));
                    }
                    if input.is_empty() {
                        return Ok(None);
                    }
                }
                At::Skip(left) => {
                    let skipped = take(input, usize::try_from(*left).unwrap_or(usize::MAX)).len();
                    *left -= u32::try_from(skipped).unwrap_or(*left);
                    if *left > 0 {
                        return Ok(None);
                    }
                    *self = Self::new();
                }
                At::Small(kind, length, have) => {
                    let length_bytes = usize::try_from(*length).unwrap_or(MAX_SMALL_BYTES);
                    have.extend_from_slice(take(input, length_bytes - have.len()));
                    if have.len() < length_bytes {
                        return Ok(None);
                    }
                    let piece = small(*kind, *length, have)?;
                    *self = Self::new();
                    return Ok(Some(piece));
                }
            }
        }
    }
}

fn begin(kind: u8, length: u32) -> Result<At, FrameError> {
    match kind {
        KIND_STDOUT => Ok(At::Output(Stream::Stdout, length)),
        KIND_STDERR => Ok(At::Output(Stream::Stderr, length)),
        KIND_ATTEMPT if length == 4 => Ok(At::Small(kind, length, Vec::with_capacity(MAX_SMALL_BYTES))),
        KIND_OMITTED if length == 9 => Ok(At::Small(kind, length, Vec::with_capacity(MAX_SMALL_BYTES))),
        KIND_ATTEMPT | KIND_OMITTED => Err(FrameError::Payload { kind, length }),
        _ => Ok(At::Skip(length)),
    }
}

fn small(kind: u8, length: u32, payload: &[u8]) -> Result<Piece<'static>, FrameError> {
    match *payload {
        [a, b, c, d] => Ok(Piece::Attempt(u32::from_le_bytes([a, b, c, d]))),
        [stream @ 0..=1, a, b, c, d, e, f, g, h] => {
            let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
            Ok(Piece::Omitted(stream, u64::from_le_bytes([a, b, c, d, e, f, g, h])))
        }
        _ => Err(FrameError::Payload { kind, length }),
    }
}

/// Up to `length` bytes from the front.
fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (front, rest) = input.split_at_checked(length).unwrap_or((input, &[]));
    *input = rest;
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind];
        frame.extend_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    fn example() -> Vec<u8> {
        let mut omitted = vec![1];
        omitted.extend_from_slice(&7_u64.to_le_bytes());
        [
            frame(2, &1_u32.to_le_bytes()),
            frame(0, b"hello"),
            frame(4, b""),
            frame(1, &[0, 255]),
            frame(3, &omitted),
            frame(0, b""),
            frame(77, b"of a later version"),
            frame(0, b"!"),
        ]
        .concat()
    }

    /// Both outputs as one would read them, and everything else as text.
    type Decoded = (Vec<u8>, Vec<u8>, Vec<String>);

    fn decode(chunks: &[&[u8]]) -> Result<Decoded, FrameError> {
        let (mut decoder, mut out, mut err, mut rest) = (Decoder::new(), Vec::new(), Vec::new(), Vec::new());
        for mut chunk in chunks.iter().copied() {
            while let Some(piece) = decoder.next(&mut chunk)? {
                match piece {
                    Piece::Bytes(Stream::Stdout, bytes) => out.extend_from_slice(bytes),
                    Piece::Bytes(Stream::Stderr, bytes) => err.extend_from_slice(bytes),
                    other => rest.push(format!("{other:?}")),
                }
            }
            assert!(chunk.is_empty(), "everything is taken");
        }
        Ok((out, err, rest))
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let bytes = example();
        let whole = decode(&[&bytes]).unwrap();
        assert_eq!(whole.0, b"hello!");
        assert_eq!(whole.1, [0, 255]);
        assert_eq!(whole.2, ["Attempt(1)", "Omitted(Stderr, 7)"]);
        for size in 1..bytes.len() {
            let chunks: Vec<&[u8]> = bytes.chunks(size).collect();
            assert_eq!(decode(&chunks).unwrap(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(decode(&[&frame(2, b"12345")]), Err(FrameError::Payload { kind: 2, length: 5 }));
        assert_eq!(decode(&[&frame(3, b"")]), Err(FrameError::Payload { kind: 3, length: 0 }));
        let other_stream = [&[9_u8][..], &[0; 8]].concat();
        assert_eq!(decode(&[&frame(3, &other_stream)]), Err(FrameError::Payload { kind: 3, length: 9 }));
    }
}
