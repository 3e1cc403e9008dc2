//! Connections to gateways: frames in, frames out, never waiting. A peer that does not take a frame at once is hung
//! or hostile and is dropped; a gateway that lives comes again.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use chitin_proto::shim::{FromShim, MAX_FRAME_BYTES, ToShim, decode_frame, encode_frame};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::getuid;

use crate::machine::ConnId;

/// One peer.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) id: ConnId,
    stream: UnixStream,
    inbox: Vec<u8>,
}

/// What a read brought.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Whole frames; more may follow.
    Frames(Vec<ToShim>),
    /// Frames before the peer left, or said what is no frame.
    LastFrames(Vec<ToShim>),
}

impl Conn {
    pub(crate) fn new(id: ConnId, stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self { id, stream, inbox: Vec::new() })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Sends a frame whole, or fails.
    pub(crate) fn send(&mut self, frame: &FromShim) -> io::Result<()> {
        let line = encode_frame(frame).map_err(io::Error::other)?;
        if self.stream.write(&line)? == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// One bounded read.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut chunk = [0; 4096];
        let gone = match self.stream.read(&mut chunk) {
            Ok(0) => true,
            Ok(read) => {
                self.inbox.extend_from_slice(chunk.get(..read).unwrap_or_default());
                false
            }
            Err(e) => !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let (frames, sane) = take_frames(&mut self.inbox);
        if gone || !sane { Heard::LastFrames(frames) } else { Heard::Frames(frames) }
    }
}

/// Takes the whole lines; `false`: what follows is no frame.
fn take_frames(inbox: &mut Vec<u8>) -> (Vec<ToShim>, bool) {
    let mut frames = Vec::new();
    while let Some(newline) = inbox.iter().position(|b| *b == b'\n') {
        let line: Vec<u8> = inbox.drain(..=newline).collect();
        match decode_frame(&line) {
            Ok(frame) => frames.push(frame),
            Err(_) => return (frames, false),
        }
    }
    (frames, inbox.len() <= MAX_FRAME_BYTES)
}

/// Accepts one waiting peer. Only the owner and root are let in; the folder's and the socket's modes say the same.
pub(crate) fn accept(listener: &UnixListener) -> io::Result<Option<UnixStream>> {
    let (stream, _) = listener.accept()?;
    let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
    Ok((uid == 0 || uid == getuid().as_raw()).then_some(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_lines_and_nonsense_ends_them() {
        let mut inbox = b"{\"type\":\"cancel\"}\n{\"type\":\"set".to_vec();
        let (frames, sane) = take_frames(&mut inbox);
        assert!(sane && matches!(frames.as_slice(), [ToShim::Cancel]));
        inbox.extend_from_slice(b"tled\"}\nhello\n");
        let (frames, sane) = take_frames(&mut inbox);
        assert!(!sane && matches!(frames.as_slice(), [ToShim::Settled]));
        let mut endless = vec![b'x'; MAX_FRAME_BYTES + 1];
        assert!(!take_frames(&mut endless).1);
    }
}
