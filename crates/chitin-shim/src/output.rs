//! The output of a command on disk: capped, exact where kept, never in the command's way.
//!
//! A stream's bytes stand in segment files. Its first segment is kept (how it began), and its last two (how it ended);
//! what is between is unlinked as it goes. A disk that refuses only costs the bytes it refused: the pipe is drained and
//! counted all the same, so that a command never blocks on our disk.

mod interleave;
mod segments;
#[cfg(test)]
mod tests;

use std::io;

use chitin_proto::shim::StreamReport;

use crate::spool::Spool;
use interleave::Interleave;
use segments::Segments;

/// A stream of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Standard output; both, if they are merged.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Both streams and the order between them.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Segments,
    stderr: Segments,
    interleave: Interleave,
}

impl Output {
    /// Nothing yet; no file is made before its first byte.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        Self {
            stdout: Segments::new("stdout", segment_bytes),
            stderr: Segments::new("stderr", segment_bytes),
            interleave: Interleave::new(),
        }
    }

    /// Takes bytes as they were read. Bytes before their order: a reader that follows finds what it is told of.
    pub(crate) fn take(&mut self, spool: &Spool, now_ms: u64, which: Which, bytes: &[u8]) {
        let stream = match which {
            Which::Stdout => &mut self.stdout,
            Which::Stderr => &mut self.stderr,
        };
        let in_head = stream.take(spool, now_ms, bytes);
        self.interleave.record(spool, which, segments::length(bytes), in_head);
    }

    /// What was kept: standard output, standard error, and the length of the interleave file.
    pub(crate) fn report(&self) -> (StreamReport, StreamReport, u64) {
        (self.stdout.report(), self.stderr.report(), self.interleave.bytes())
    }

    /// Makes all of it durable.
    pub(crate) fn sync(&self, spool: &Spool) -> io::Result<()> {
        self.stdout.sync(spool)?;
        self.stderr.sync(spool)?;
        self.interleave.sync(spool)
    }
}
