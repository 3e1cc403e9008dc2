//! Turns a shim's report and the files beside it into what is stored: the outcome, the result, the logs.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use chitin_core::{AttemptEnd, Limits, Outcome, Produced, StoredOutput, StoredResult};
use chitin_proto::shim::{Cause, ExitReport, NotStarted, PidsRefused, StartStep, StreamReport, names};
use sha2::{Digest, Sha256};

use super::shortage;

const SIGXFSZ: i32 = 25;
const TOO_LARGE_A_FILE: &str = "a file was to grow beyond the largest size that it may have (`task_file_bytes`, unless \
                                the command has set a limit of its own)";

/// The end, what it left, and the bytes that brings to a commit.
///
/// # Errors
/// The machine is short of something for a moment: what the attempt left is as good as before, and is to be read again.
pub(super) fn collect(
    report: &ExitReport,
    folder: &Path,
    limits: &Limits,
) -> io::Result<(AttemptEnd, Produced, u64)> {
    let mut end = attempt_end(report);
    let produced = match produced(report, folder, limits, end.outcome == Outcome::Succeeded) {
        Ok(produced) => produced,
        Err(error) if shortage::is_one(&error) => return Err(error),
        Err(error) => {
            // The command's word without its output would be half an answer.
            end.outcome = Outcome::WorkerLost;
            end.error = Some(format!("its output cannot be read: {error}"));
            Produced::default()
        }
    };
    let bytes = bytes(&produced);
    Ok((end, produced, bytes))
}

/// What it brings to a commit.
pub(super) fn bytes(produced: &Produced) -> u64 {
    let output = produced
        .output
        .as_ref()
        .map_or(0, |output| output.stdout.as_ref().map_or(0, Vec::len) + output.stderr.len());
    let bytes = output + produced.result.as_ref().map_or(0, |result| result.body.len());
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn attempt_end(report: &ExitReport) -> AttemptEnd {
    let mut end = AttemptEnd {
        outcome: Outcome::Failed,
        non_retryable: false,
        put_back: false,
        exit_code: report.exit_code,
        signal: report.signal,
        error: None,
        started_at_ms: report.started_at_ms,
        ended_at_ms: report.ended_at_ms,
        peak_memory_bytes: report.peak_memory_bytes.and_then(|bytes| i64::try_from(bytes).ok()),
        cpu_ms: i64::try_from(report.cpu_ms).ok(),
    };
    match &report.cause {
        Cause::Exited if report.exit_code == Some(0) => end.outcome = Outcome::Succeeded,
        Cause::Exited => end.error = report.pids_refused.map(too_many_processes),
        Cause::Signalled => {
            end.outcome = Outcome::Signalled;
            // The kernel's word for a file that may not grow further.
            end.error = (report.signal == Some(SIGXFSZ)).then(|| TOO_LARGE_A_FILE.to_owned());
        }
        Cause::TimedOut => {
            end.outcome = Outcome::TimedOut;
            end.error = Some(format!("ran {:.1} s, longer than its timeout", seconds(report.running_ms)));
        }
        Cause::Cancelled => end.outcome = Outcome::Cancelled,
        Cause::OomKilled { limit_bytes } => {
            end.outcome = Outcome::OomKilled;
            let peak =
                report.peak_memory_bytes.map_or_else(|| "unknown".to_owned(), |peak| format!("{peak} bytes"));
            end.error = Some(format!("out of memory: the limit is {limit_bytes} bytes, the peak was {peak}"));
        }
        Cause::NotStarted(why) => not_started(&mut end, why),
    }
    end
}

/// The command was refused a process and ended in its own way, for which this is the likely reason.
fn too_many_processes(PidsRefused { limit, times }: PidsRefused) -> String {
    let were = if times == 1 { "was" } else { "were" };
    format!("its limit of {limit} processes and threads was met: {times} more {were} refused")
}

fn not_started(end: &mut AttemptEnd, why: &NotStarted) {
    let (exit_code, non_retryable) = match why.step {
        StartStep::NotFound => (127, true),
        StartStep::NotExecutable => (126, true),
        StartStep::Directory => (125, true),
        StartStep::Machinery => (125, false),
    };
    end.exit_code = Some(exit_code);
    end.non_retryable = non_retryable;
    end.error = Some(why.message.clone());
}

fn seconds(ms: u64) -> f64 {
    std::time::Duration::from_millis(ms).as_secs_f64()
}

fn produced(report: &ExitReport, folder: &Path, limits: &Limits, succeeded: bool) -> io::Result<Produced> {
    let kept = kept_bytes(&report.stdout) + kept_bytes(&report.stderr);
    let inline = kept <= limits.inline_log_bytes && is_whole(&report.stdout) && is_whole(&report.stderr);
    let (result, is_stdout) = if succeeded { result(report, folder, limits)? } else { (None, false) };
    let output = if !inline || kept == 0 {
        None
    } else {
        let stdout = if is_stdout { None } else { Some(read_stream("stdout", &report.stdout, folder)?) };
        let stderr = read_stream("stderr", &report.stderr, folder)?;
        let interleave = match report.interleave_bytes {
            0 => Vec::new(),
            len => read_checked(&folder.join(names::INTERLEAVE), len, None)?,
        };
        Some(StoredOutput { stdout, stderr, interleave })
    };
    Ok(Produced { result, output, log_bytes_in_files: if inline { 0 } else { kept } })
}

/// The result, and whether it is standard output byte for byte.
fn result(report: &ExitReport, folder: &Path, limits: &Limits) -> io::Result<(Option<StoredResult>, bool)> {
    if let Some(file) = &report.result {
        let body = read_checked(&folder.join(names::RESULT), file.len, Some(file.crc32))?;
        return Ok((Some(stored(body, file.truncated)), false));
    }
    let head = match report.stdout.segments.first() {
        Some(first) if first.start == 0 => {
            read_checked(&folder.join(names::segment("stdout", 0)), first.len, Some(first.crc32))?
        }
        _ => Vec::new(),
    };
    let mut body = head;
    body.truncate(usize::try_from(limits.result_bytes).unwrap_or(usize::MAX));
    let truncated = u64::try_from(body.len()).unwrap_or(0) < report.stdout.total_bytes;
    Ok((Some(stored(body, truncated)), !truncated))
}

fn stored(body: Vec<u8>, truncated: bool) -> StoredResult {
    StoredResult {
        content_type: content_type(&body, truncated).to_owned(),
        sha256: Sha256::digest(&body).into(),
        body,
        truncated,
    }
}

/// JSON if all of it is one JSON value, else text if it is UTF-8, else bytes.
fn content_type(body: &[u8], truncated: bool) -> &'static str {
    if !truncated && serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok() {
        return "application/json";
    }
    let is_text = match std::str::from_utf8(body) {
        Ok(_) => true,
        // A cut may fall inside a character.
        Err(error) => truncated && error.error_len().is_none(),
    };
    if is_text { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}

fn kept_bytes(stream: &StreamReport) -> u64 {
    stream.segments.iter().map(|segment| segment.len).sum()
}

fn is_whole(stream: &StreamReport) -> bool {
    kept_bytes(stream) == stream.total_bytes
}

fn read_stream(name: &str, stream: &StreamReport, folder: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for segment in &stream.segments {
        let path = folder.join(names::segment(name, segment.start));
        bytes.extend(read_checked(&path, segment.len, Some(segment.crc32))?);
    }
    Ok(bytes)
}

/// A file's first `len` bytes, which must be there and be the ones that were reported.
fn read_checked(path: &Path, len: u64, crc32: Option<u32>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    let file = File::open(path)?;
    file.take(len).read_to_end(&mut bytes)?;
    let torn = u64::try_from(bytes.len()).unwrap_or(0) < len;
    if torn || crc32.is_some_and(|crc32| crc32fast::hash(&bytes) != crc32) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("`{name}` is not what was written")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_called_what_it_is() {
        let cases: [(&[u8], bool, &str); 8] = [
            (b"{\"a\": 1}\n", false, "application/json"),
            (b"42", false, "application/json"),
            (b"{\"a\": 1}{}", false, "text/plain; charset=utf-8"),
            (b"hello\n", false, "text/plain; charset=utf-8"),
            (b"", false, "text/plain; charset=utf-8"),
            (b"\xff\x00", false, "application/octet-stream"),
            (b"[1, 2", true, "text/plain; charset=utf-8"),
            (b"caf\xc3", true, "text/plain; charset=utf-8"),
        ];
        for (body, truncated, expected) in cases {
            assert_eq!(content_type(body, truncated), expected, "{body:?}");
        }
    }

    #[test]
    fn changed_bytes_are_never_a_result() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stdout.0");
        std::fs::write(&path, b"abc").unwrap();
        let crc = crc32fast::hash(b"abc");
        assert_eq!(read_checked(&path, 3, Some(crc)).unwrap(), b"abc");
        assert!(read_checked(&path, 4, None).is_err(), "shorter than reported");
        std::fs::write(&path, b"abd").unwrap();
        assert!(read_checked(&path, 3, Some(crc)).is_err(), "other bytes");
    }
}
