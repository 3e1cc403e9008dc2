//! Room that is kept for a full disk.
//!
//! Owns: one file of nothing. When the disk is full, accepted work must still be able to record its end (R5.3): the
//! engine gives the ballast up, runs its batch again, and takes the room back once there is some.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::StoreError;

/// The ballast's file.
#[derive(Debug, Clone)]
pub struct Ballast {
    path: PathBuf,
    bytes: u64,
}

impl Ballast {
    /// Twice the size at which the log is begun anew: working it off may take as much room again, and then some thousand
    /// ends of tasks must still fit. Little beside the reserve of a gigabyte (R5.1).
    pub const DEFAULT_BYTES: u64 = 32_000_000;

    /// A ballast of `bytes` at `path`; nothing is done yet.
    #[must_use]
    pub fn new(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), bytes }
    }

    /// It holds its room.
    #[must_use]
    pub fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.len() >= self.bytes)
    }

    /// Takes the room, unless it is held.
    ///
    /// # Errors
    /// There is no room, or the file cannot be written; then nothing is held.
    pub fn ensure(&self) -> Result<(), StoreError> {
        if self.is_held() {
            return Ok(());
        }
        self.take().inspect_err(|_| drop(self.release())).map_err(self.failed("make"))
    }

    /// Gives the room up.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn release(&self) -> Result<(), StoreError> {
        // Emptied, not removed: that needs no change of the folder, which may need a block itself.
        match OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(0)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(self.failed("give up")),
        }
    }

    fn take(&self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            Ok(()) => Ok(()),
            // A file system that cannot: write it.
            Err(Errno::OPNOTSUPP) => fill(&file, self.bytes),
            Err(error) => Err(error.into()),
        }
    }

    fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> StoreError {
        let path = self.path.clone();
        move |source| StoreError::File { step, path: path.clone(), source }
    }
}

fn fill(mut file: &File, bytes: u64) -> io::Result<()> {
    let zeros = [0_u8; 65_536];
    let mut left = bytes;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(zeros.len()).min(zeros.len());
        let (part, _) = zeros.split_at(part);
        file.write_all(part)?;
        left = left.saturating_sub(u64::try_from(part.len()).unwrap_or(left));
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_holds_real_blocks_until_it_is_released() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ballast");
        let ballast = Ballast::new(&path, 1_000_000);
        assert!(!ballast.is_held());
        ballast.release().unwrap();
        for _ in 0..2 {
            ballast.ensure().unwrap();
            assert!(ballast.is_held());
            assert!(fs::metadata(&path).unwrap().blocks() * 512 >= 1_000_000, "blocks, not a hole");
        }
        ballast.release().unwrap();
        assert!(!ballast.is_held());
        assert_eq!(fs::metadata(&path).unwrap().blocks(), 0);
    }

    #[test]
    fn without_room_nothing_is_held_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let ballast = Ballast::new(&folder.path().join("ballast"), 1 << 62);
        assert!(ballast.ensure().is_err());
        assert!(!ballast.is_held());
    }
}
