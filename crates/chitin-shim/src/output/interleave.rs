//! The order of receipt between the two streams, for readers that want to show them as one.
//!
//! Little-endian `u64`s, each `length << 1 | stream`. The file is made when the second stream speaks for the first
//! time; it covers the bytes of the first segments only, because what is between head and tail is not kept anyway.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use chitin_proto::shim::names;

use super::Which;
use crate::limits;
use crate::spool::Spool;

#[derive(Debug)]
enum State {
    /// At most one stream has spoken: this many bytes.
    One { stream: Which, len: u64 },
    /// Both: the last entry is kept here, because it grows.
    Both { file: File, last_at: u64, last: (Which, u64) },
    /// Nothing is recorded any more.
    Stopped { bytes: u64 },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Interleave(State);

impl Interleave {
    pub(super) fn new() -> Self {
        Self(State::One { stream: Which::Stdout, len: 0 })
    }

    /// The file's length.
    pub(super) fn bytes(&self) -> u64 {
        match &self.0 {
            State::One { .. } => 0,
            State::Both { last_at, .. } => last_at.saturating_add(8),
            State::Stopped { bytes } => *bytes,
        }
    }

    /// `len` bytes of `stream` were received, `in_head` of them went to its first segment. A failed write ends the
    /// recording, never the command: what was recorded remains true.
    pub(super) fn record(&mut self, spool: &Spool, stream: Which, len: u64, in_head: u64) {
        if self.advance(spool, stream, in_head).is_err() {
            self.0 = State::Stopped { bytes: self.bytes() };
        }
        // A first stream alone may leave its head: the entry for the head is still true.
        if in_head < len && matches!(self.0, State::Both { .. }) {
            self.0 = State::Stopped { bytes: self.bytes() };
        }
    }

    fn advance(&mut self, spool: &Spool, stream: Which, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        match &mut self.0 {
            State::One { stream: first, len: so_far } if *first == stream || *so_far == 0 => {
                *first = stream;
                *so_far = so_far.saturating_add(len);
            }
            State::One { stream: first, len: so_far } => {
                let first = (*first, *so_far);
                let file = File::options()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .open(spool.at(names::INTERLEAVE))?;
                put(&file, 0, first)?;
                self.0 = State::Both { file, last_at: 0, last: first };
                self.append(stream, len)?;
            }
            State::Both { file, last_at, last } if last.0 == stream => {
                let longer = (stream, last.1.saturating_add(len));
                put(file, *last_at, longer)?;
                *last = longer;
            }
            State::Both { .. } => self.append(stream, len)?,
            State::Stopped { .. } => {}
        }
        Ok(())
    }

    fn append(&mut self, stream: Which, len: u64) -> io::Result<()> {
        if let State::Both { file, last_at, last } = &mut self.0 {
            let at = last_at.saturating_add(8);
            if at.saturating_add(8) > limits::INTERLEAVE_MAX_BYTES {
                self.0 = State::Stopped { bytes: at };
                return Ok(());
            }
            put(file, at, (stream, len))?;
            *last_at = at;
            *last = (stream, len);
        }
        Ok(())
    }

    /// Makes it durable, if there is one.
    pub(super) fn sync(&self, spool: &Spool) -> io::Result<()> {
        if self.bytes() > 0 { File::open(spool.at(names::INTERLEAVE))?.sync_all() } else { Ok(()) }
    }
}

fn put(file: &File, at: u64, (stream, len): (Which, u64)) -> io::Result<()> {
    let entry = len << 1 | u64::from(stream == Which::Stderr);
    file.write_all_at(&entry.to_le_bytes(), at)
}
