//! Where a log's bytes come from: segment files named by the offset they start at, or the store.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use chitin_core::StoredOutput;
use chitin_proto::shim::names;

const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// What stands at an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Nothing until this offset: it was left out.
    Gap(u64),
    /// Nothing yet.
    End,
}

/// An attempt's logs.
pub(super) enum Source {
    Files(PathBuf),
    Stored { streams: [Vec<u8>; 2], interleave: Vec<u8> },
}

impl Source {
    pub(super) fn files(folder: PathBuf) -> Self {
        Self::Files(folder)
    }

    /// `result`: the body that stands for a standard output that is stored nowhere else.
    pub(super) fn stored(output: StoredOutput, result: Option<Vec<u8>>) -> Self {
        let stdout = output.stdout.or(result).unwrap_or_default();
        Self::Stored { streams: [stdout, output.stderr], interleave: output.interleave }
    }

    /// The order of receipt from entry `index` on: stream and length each.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn order(&self, index: usize, most: usize) -> io::Result<Vec<(u8, u64)>> {
        let start = index * 8;
        let bytes = match self {
            Self::Stored { interleave, .. } => interleave
                .get(start..)
                .map(|rest| rest.get(..most * 8).unwrap_or(rest).to_vec())
                .unwrap_or_default(),
            Self::Files(folder) => {
                let mut bytes = vec![0; most * 8];
                let read = File::open(folder.join(names::INTERLEAVE))
                    .and_then(|file| file.read_at(&mut bytes, u64::try_from(start).unwrap_or(u64::MAX)));
                bytes.truncate(or_if_missing(read, 0)?);
                bytes
            }
        };
        let entry = |chunk: &[u8]| {
            let word = u64::from_le_bytes(chunk.try_into().ok()?);
            Some((u8::from(word & 1 == 1), word >> 1))
        };
        Ok(bytes.chunks_exact(8).filter_map(entry).collect())
    }

    /// Up to `most` bytes of a stream from `offset` on. Files that are not there have nothing; whoever looks again finds
    /// where they went.
    ///
    /// # Errors
    /// They are there and cannot be read.
    pub(super) fn read(&self, stream: u8, offset: u64, most: usize) -> io::Result<At> {
        match self {
            Self::Stored { streams, .. } => {
                let bytes = streams.get(usize::from(stream)).map_or(&[][..], Vec::as_slice);
                let rest =
                    usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)).unwrap_or_default();
                Ok(if rest.is_empty() {
                    At::End
                } else {
                    At::Bytes(rest.get(..most).unwrap_or(rest).to_vec())
                })
            }
            Self::Files(folder) => or_if_missing(read_files(folder, stream, offset, most), At::End),
        }
    }
}

fn or_if_missing<T>(result: io::Result<T>, missing: T) -> io::Result<T> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(missing),
        other => other,
    }
}

fn read_files(folder: &Path, stream: u8, offset: u64, most: usize) -> io::Result<At> {
    let name = STREAMS.get(usize::from(stream)).copied().unwrap_or("stdout");
    // The common case needs no listing: the first segment, which is never removed.
    if let Some(bytes) = read_segment(folder, name, 0, offset, most)? {
        return Ok(At::Bytes(bytes));
    }
    let mut starts: Vec<u64> = fs::read_dir(folder)?
        .filter_map(|entry| {
            entry.ok()?.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok()
        })
        .collect();
    starts.sort_unstable();
    if let Some(holder) = starts.iter().rev().find(|start| **start <= offset)
        && let Some(bytes) = read_segment(folder, name, *holder, offset, most)?
    {
        return Ok(At::Bytes(bytes));
    }
    Ok(starts.into_iter().find(|start| *start > offset).map_or(At::End, At::Gap))
}

/// `None`: the segment has nothing (more) there.
fn read_segment(
    folder: &Path,
    name: &str,
    start: u64,
    offset: u64,
    most: usize,
) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(folder.join(names::segment(name, start))) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(within) = offset.checked_sub(start) else { return Ok(None) };
    let length = file.metadata()?.len();
    if within >= length {
        return Ok(None);
    }
    let room = usize::try_from(length - within).unwrap_or(most).min(most);
    let mut bytes = vec![0; room];
    let read = file.read_at(&mut bytes, within)?;
    bytes.truncate(read);
    Ok((read > 0).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_read_through_and_gaps_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::write(path.join("stdout.0"), b"0123").unwrap();
        fs::write(path.join("stdout.4"), b"45").unwrap();
        fs::write(path.join("stdout.10"), b"ab").unwrap();
        let source = Source::files(path.to_owned());
        let read = |stream, offset, most| source.read(stream, offset, most).unwrap();
        assert_eq!(read(0, 1, 2), At::Bytes(b"12".to_vec()));
        assert_eq!(read(0, 4, 9), At::Bytes(b"45".to_vec()));
        assert_eq!(read(0, 6, 9), At::Gap(10));
        assert_eq!(read(0, 10, 9), At::Bytes(b"ab".to_vec()));
        assert_eq!(read(0, 12, 9), At::End);
        assert_eq!(read(1, 0, 9), At::End);
    }

    #[test]
    fn what_cannot_be_read_is_no_end() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("stdout.0")).unwrap();
        assert!(Source::files(folder.path().to_owned()).read(0, 0, 9).is_err());
        let gone = Source::files(folder.path().join("gone"));
        assert_eq!(gone.read(0, 0, 9).unwrap(), At::End);
        assert_eq!(gone.order(0, 9).unwrap(), []);
    }
}
