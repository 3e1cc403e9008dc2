//! What a killed shim had kept of an attempt's output. It said nothing of it any more, but within the same boot every byte
//! that was written is there: it is the attempt's log as much as any other.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use chitin_core::{Limits, Produced, StoredOutput};
use chitin_proto::shim::names;

use super::{collect, shortage};

/// One stream's segment files: where each begins and its length, in order.
type Segments = Vec<(u64, u64)>;

/// Small and whole output moves into the store, other output stays where it is, as with a reported end. Gives also the
/// bytes that brings to a commit.
///
/// # Errors
/// The machine is short of something for a moment. What cannot be read for another reason is left out: the attempt is
/// lost anyway.
pub(super) fn salvage(folder: &Path, limits: &Limits) -> io::Result<(Produced, u64)> {
    match look(folder, limits) {
        Ok(produced) => {
            let bytes = collect::bytes(&produced);
            Ok((produced, bytes))
        }
        Err(error) if shortage::is_one(&error) => Err(error),
        Err(error) => {
            tracing::warn!(%error, folder = %folder.display(), "the output of a lost attempt cannot be read");
            Ok((Produced::default(), 0))
        }
    }
}

fn look(folder: &Path, limits: &Limits) -> io::Result<Produced> {
    let (stdout, stderr) = (segments(folder, "stdout")?, segments(folder, "stderr")?);
    let kept = stdout.iter().chain(&stderr).map(|(_, len)| len).sum();
    if kept == 0 {
        return Ok(Produced::default());
    }
    if kept > limits.inline_log_bytes || !is_whole(&stdout) || !is_whole(&stderr) {
        return Ok(Produced { log_bytes_in_files: kept, ..Produced::default() });
    }
    let mut interleave = match fs::read(folder.join(names::INTERLEAVE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    // An entry is written after the bytes it tells of; half a one tells nothing.
    interleave.truncate(interleave.len() / 8 * 8);
    let output = StoredOutput {
        stdout: Some(read(folder, "stdout", &stdout)?),
        stderr: read(folder, "stderr", &stderr)?,
        interleave,
    };
    Ok(Produced { output: Some(output), ..Produced::default() })
}

fn segments(folder: &Path, stream: &str) -> io::Result<Segments> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let start = name.to_str().and_then(|name| name.strip_prefix(stream)?.strip_prefix('.')?.parse().ok());
        if let Some(start) = start {
            found.push((start, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn is_whole(segments: &Segments) -> bool {
    let mut next = 0;
    segments.iter().all(|(start, len)| {
        let follows = *start == next;
        next = start.saturating_add(*len);
        follows
    })
}

fn read(folder: &Path, stream: &str, segments: &Segments) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (start, len) in segments {
        File::open(folder.join(names::segment(stream, *start)))?.take(*len).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salvaged(files: &[(&str, &[u8])]) -> Produced {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let mut limits = Limits::default();
        limits.set("inline_log_bytes", 20).unwrap();
        salvage(folder.path(), &limits).unwrap().0
    }

    #[test]
    fn small_and_whole_output_is_stored() {
        let found = salvaged(&[
            ("stdout.0", b"0123"),
            ("stdout.4", b"45"),
            ("stderr.0", b"e"),
            ("interleave", b"01234567012"),
            ("shim.log", b"a line"),
        ]);
        let output = found.output.unwrap();
        assert_eq!(output.stdout.unwrap(), b"012345");
        assert_eq!((output.stderr.as_slice(), output.interleave.as_slice()), (&b"e"[..], &b"01234567"[..]));
        assert_eq!(found.log_bytes_in_files, 0);
    }

    #[test]
    fn large_output_and_output_with_gaps_stays_in_its_files() {
        for files in
            [&[("stdout.0", &b"0123456789"[..]), ("stderr.0", b"0123456789x")][..], &[("stdout.9", b"9")]]
        {
            let found = salvaged(files);
            assert!(found.output.is_none());
            assert!(found.log_bytes_in_files > 0, "{files:?}");
        }
        let nothing = salvaged(&[("stdout.0", b"")]);
        assert!(nothing.output.is_none() && nothing.log_bytes_in_files == 0);
    }
}
