//! What a process that was killed knew to be on disk.
//!
//! SQLite keeps the log's index in a file that processes map. A commit counts in its header once its sync has succeeded,
//! and never before; a kill leaves the file as it was. So the header says up to which frame the log is on disk. What
//! stands behind it came from a commit that was under way, or whose sync failed: the page cache shows it, the disk may not
//! have it, and another sync need not bring it there. It is written again, before anything is read.
//!
//! Nothing else is in doubt then: a page that is not in the log was synced before its log was begun anew. Whoever rebuilds
//! the index from the log leaves one that counts no commit; its header says nothing of syncs, and is not believed.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{FRAME_BYTES, HEADER_BYTES, write_again};
use crate::StoreError;

/// Twice the same header: <https://www.sqlite.org/walformat.html>, section 2.1.
const HEADERS_BYTES: usize = 96;
const WORDS: usize = HEADERS_BYTES / 4;
/// The one version there is.
const VERSION: u32 = 3_007_000;
const PAGE_BYTES: u16 = 4_096;

/// The log as its last writer knew it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Synced {
    /// They name a log from one beginning to the next.
    salts: [u8; 8],
    frames: u64,
}

impl Synced {
    /// Reads the index that was left; none where it says nothing for sure. To be called before the database is opened, which
    /// rebuilds the index, and by whoever has nothing open of it: to close the file here gives locks up.
    pub(crate) fn left_at(database: &Path) -> Option<Self> {
        let mut name = database.as_os_str().to_owned();
        name.push("-shm");
        let mut headers = [0; HEADERS_BYTES];
        File::open(name).and_then(|mut file| file.read_exact(&mut headers)).ok()?;
        Self::of(&headers)
    }

    fn of(headers: &[u8; HEADERS_BYTES]) -> Option<Self> {
        let (first, second) = headers.split_at(HEADERS_BYTES / 2);
        let (words, _) = headers.as_chunks::<4>();
        let mut numbers = [0; WORDS];
        numbers.iter_mut().zip(words).for_each(|(number, word)| *number = u32::from_ne_bytes(*word));
        let [version, _, commits, _, frames, _, _, _, _, _, sum_1, sum_2, ..] = numbers;
        let is_whole = first == second && checksum(&numbers) == (sum_1, sum_2);
        let (is_initialized, page) = (headers.get(12)? == &1, headers.get(14..16)?);
        let is_ours = version == VERSION && is_initialized && page == PAGE_BYTES.to_ne_bytes() && commits > 0;
        let salts = headers.get(32..40)?.try_into().ok()?;
        (is_whole && is_ours).then(|| Self { salts, frames: u64::from(frames) })
    }

    /// Sees to it that all `frames` of a recovered log are on disk; false where this is said of another log, or of a longer
    /// one.
    pub(crate) fn complete(self, log: &Path, frames: u64) -> Result<bool, StoreError> {
        let failed = |source| StoreError::File { step: "read the salts of", path: log.to_owned(), source };
        let mut salts = [0; 8];
        let read = File::open(log).and_then(|log| log.read_at(&mut salts, 16)).map_err(failed)?;
        if read < salts.len() || salts != self.salts || frames < self.frames {
            return Ok(false);
        }
        if frames > self.frames {
            let end = |frames: u64| HEADER_BYTES.saturating_add(frames.saturating_mul(FRAME_BYTES));
            let from = if self.frames == 0 { 0 } else { end(self.frames) };
            write_again(log, from..end(frames))?;
        }
        Ok(true)
    }
}

/// Over the ten words before it.
fn checksum(words: &[u32; WORDS]) -> (u32, u32) {
    let (pairs, _) = words.as_chunks::<2>();
    pairs.iter().take(5).fold((0_u32, 0_u32), |(one, two), [first, second]| {
        let one = one.wrapping_add(*first).wrapping_add(two);
        (one, two.wrapping_add(*second).wrapping_add(one))
    })
}
