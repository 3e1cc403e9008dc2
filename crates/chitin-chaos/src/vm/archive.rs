//! The archive that the kernel unpacks as its first file system: cpio in its `newc` form, as
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel's sources describes it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive under way; folders come by themselves.
#[derive(Debug)]
pub(super) struct Archive<W> {
    to: W,
    count: u32,
    folders: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to, count: 0, folders: BTreeSet::new() }
    }

    /// A file of the machine that this runs on.
    pub(super) fn copy(&mut self, from: &Path, to: &str) -> io::Result<()> {
        let bytes = fs::read(from)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))?;
        self.file(to, &bytes)
    }

    /// A file that may be executed, as all may; `path` without a slash in front.
    pub(super) fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.folder(parent)?;
        self.entry(path, PROGRAM, bytes)
    }

    /// A folder, with all that it stands in.
    pub(super) fn folder(&mut self, path: &str) -> io::Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for folder in ends.filter_map(|end| path.get(..end)).filter(|folder| !folder.is_empty()) {
            if self.folders.insert(folder.to_owned()) {
                self.entry(folder, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.to.flush()
    }

    fn entry(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.count += 1;
        let length = |count: usize| u32::try_from(count).map_err(io::Error::other);
        let (name, size) = (length(path.len() + 1)?, length(bytes.len())?);
        // Number, mode, owner, group, links, time, size, four device numbers, the name's length, a checksum.
        let fields = [self.count, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0];
        self.to.write_all(b"070701")?;
        for field in fields {
            write!(self.to, "{field:08x}")?;
        }
        self.to.write_all(path.as_bytes())?;
        self.to.write_all(&[0])?;
        self.pad(110 + path.len() + 1)?;
        self.to.write_all(bytes)?;
        self.pad(bytes.len())
    }

    /// Header with name, and contents, each fill whole words.
    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.to.write_all([0; 3].get(..length.wrapping_neg() % 4).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("a/b/one", b"12345").unwrap();
        archive.file("a/two", b"").unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        // The names, read as the kernel reads them.
        let (mut at, mut names) = (0, Vec::new());
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701");
            let field = |n: usize| {
                let digits = std::str::from_utf8(&bytes[at + 6 + 8 * n..at + 14 + 8 * n]).unwrap();
                usize::from_str_radix(digits, 16).unwrap()
            };
            let (size, name) = (field(6), field(11));
            names.push(String::from_utf8_lossy(&bytes[at + 110..at + 109 + name]).into_owned());
            at = (at + 110 + name).next_multiple_of(4);
            at = (at + size).next_multiple_of(4);
        }
        assert_eq!(names, ["a", "a/b", "a/b/one", "a/two", "TRAILER!!!"]);
    }
}
