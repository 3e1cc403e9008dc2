//! One stream's segment files.

use std::fs::{self, File};
use std::io::{self, Write};

use chitin_proto::shim::{SegmentReport, StreamReport, names};

use crate::limits;
use crate::spool::Spool;

/// The first, the one before the last, and the last.
const KEPT: usize = 3;

#[derive(Debug)]
struct Segment {
    start: u64,
    len: u64,
    crc: crc32fast::Hasher,
}

/// See [`super`].
#[derive(Debug)]
pub(super) struct Segments {
    name: &'static str,
    segment_bytes: u64,
    total: u64,
    kept: Vec<Segment>,
    /// The last of `kept`, while it may grow.
    open: Option<File>,
    /// After a failed write: not before.
    retry_at_ms: u64,
}

/// A length in memory fits 64 bits.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

impl Segments {
    pub(super) fn new(name: &'static str, segment_bytes: u64) -> Self {
        let segment_bytes = segment_bytes.max(1);
        Self { name, segment_bytes, total: 0, kept: Vec::new(), open: None, retry_at_ms: 0 }
    }

    /// Takes bytes; how many of them went to the segment that starts at 0.
    pub(super) fn take(&mut self, spool: &Spool, now_ms: u64, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        let mut in_head = 0_u64;
        while !rest.is_empty() {
            if now_ms < self.retry_at_ms {
                break;
            }
            match self.write_some(spool, rest) {
                Ok((done, start)) => {
                    rest = rest.get(done..).unwrap_or_default();
                    if start == 0 {
                        in_head = in_head.saturating_add(u64::try_from(done).unwrap_or(0));
                    }
                }
                Err(_) => {
                    self.close_failed(spool);
                    self.retry_at_ms = now_ms.saturating_add(limits::WRITE_RETRY_MS);
                }
            }
        }
        self.total = self.total.saturating_add(length(rest));
        in_head
    }

    /// Writes to the last segment as much as it may take; bytes written and the segment's start.
    fn write_some(&mut self, spool: &Spool, bytes: &[u8]) -> io::Result<(usize, u64)> {
        let full = self.kept.last().is_none_or(|s| s.len >= self.segment_bytes);
        if full || self.open.is_none() {
            self.rotate(spool)?;
        }
        let (Some(file), Some(segment)) = (&mut self.open, self.kept.last_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let room = self.segment_bytes.saturating_sub(segment.len);
        let take = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        let chunk = bytes.get(..take).unwrap_or_default();
        let done = file.write(chunk)?;
        if done == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let written = chunk.get(..done).unwrap_or_default();
        segment.crc.update(written);
        segment.len = segment.len.saturating_add(length(written));
        self.total = self.total.saturating_add(length(written));
        Ok((done, segment.start))
    }

    fn rotate(&mut self, spool: &Spool) -> io::Result<()> {
        self.open = None;
        let start = self.total;
        let path = spool.at(&names::segment(self.name, start));
        self.open = Some(File::options().write(true).create_new(true).open(path)?);
        self.kept.push(Segment { start, len: 0, crc: crc32fast::Hasher::new() });
        if self.kept.len() > KEPT {
            let middle = self.kept.remove(1);
            // A file that cannot be unlinked goes with the folder; the report no longer names it.
            let _ = fs::remove_file(spool.at(&names::segment(self.name, middle.start)));
        }
        Ok(())
    }

    /// The segment ends where it ended; an empty one was never there.
    fn close_failed(&mut self, spool: &Spool) {
        if self.open.take().is_some()
            && let Some(empty) = self.kept.pop_if(|s| s.len == 0)
        {
            let _ = fs::remove_file(spool.at(&names::segment(self.name, empty.start)));
        }
    }

    pub(super) fn report(&self) -> StreamReport {
        let segments = self.kept.iter().map(|s| SegmentReport {
            start: s.start,
            len: s.len,
            crc32: s.crc.clone().finalize(),
        });
        StreamReport { total_bytes: self.total, segments: segments.collect() }
    }

    pub(super) fn sync(&self, spool: &Spool) -> io::Result<()> {
        for segment in &self.kept {
            File::open(spool.at(&names::segment(self.name, segment.start)))?.sync_all()?;
        }
        Ok(())
    }
}
