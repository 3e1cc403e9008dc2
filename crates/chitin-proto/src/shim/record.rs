//! The exit record: an [`ExitReport`] on disk, for a gateway that was not there to hear it.
//!
//! A first line `chitin-exit 1 <length> <crc32>`, then the report's JSON, in a file of fixed size that was allocated
//! before the command started, so that a full disk cannot keep an attempt from ending. Torn or foreign content is
//! never taken for a report: length and checksum decide.

use super::{ExitReport, MAX_FRAME_BYTES};

/// The size that is allocated for a record: a frame's bound and the first line.
pub const EXIT_RECORD_BYTES: usize = MAX_FRAME_BYTES + 64;

const MAGIC: &str = "chitin-exit";

/// The version of the record's first line and of the report in it. It is the record's own: a gateway of any age that finds
/// one reads it for as long as nothing of it changes but what may be passed over or be missing.
const RECORD_VERSION: u16 = 1;

/// Why bytes are no exit record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// No first line as it should be.
    #[error("not an exit record")]
    NotARecord,
    /// Written by another version.
    #[error("the record has version {found}; this program reads {RECORD_VERSION}")]
    Version {
        /// The record's version.
        found: u16,
    },
    /// Shorter than it says, or with other bytes.
    #[error("the record is torn")]
    Torn,
    /// The bytes are whole and are not a report.
    #[error("the record is not readable")]
    Malformed(#[from] serde_json::Error),
    /// The report does not fit the place that was allocated.
    #[error("the report has {bytes} bytes; {EXIT_RECORD_BYTES} were allocated")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

/// The bytes of the record.
///
/// # Errors
/// A report that does not fit [`EXIT_RECORD_BYTES`].
pub fn encode_exit_record(report: &ExitReport) -> Result<Vec<u8>, RecordError> {
    let body = serde_json::to_vec(report)?;
    let mut record =
        format!("{MAGIC} {RECORD_VERSION} {} {:08x}\n", body.len(), crc32fast::hash(&body)).into_bytes();
    record.extend_from_slice(&body);
    if record.len() > EXIT_RECORD_BYTES {
        return Err(RecordError::TooLong { bytes: record.len() });
    }
    Ok(record)
}

/// Reads a record; bytes after its stated length (the rest of the allocation) are ignored.
///
/// # Errors
/// See [`RecordError`].
pub fn decode_exit_record(bytes: &[u8]) -> Result<ExitReport, RecordError> {
    let newline = bytes.iter().take(64).position(|b| *b == b'\n').ok_or(RecordError::NotARecord)?;
    let (head, rest) = bytes.split_at(newline);
    let body = rest.get(1..).ok_or(RecordError::Torn)?;
    let head = std::str::from_utf8(head).map_err(|_| RecordError::NotARecord)?;
    let mut words = head.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(RecordError::NotARecord);
    }
    let found = words.next().and_then(|w| w.parse().ok()).ok_or(RecordError::NotARecord)?;
    if found != RECORD_VERSION {
        return Err(RecordError::Version { found });
    }
    let len: usize = words.next().and_then(|w| w.parse().ok()).ok_or(RecordError::NotARecord)?;
    let crc = words.next().and_then(|w| u32::from_str_radix(w, 16).ok()).ok_or(RecordError::NotARecord)?;
    let body = body.get(..len).ok_or(RecordError::Torn)?;
    if crc32fast::hash(body) != crc {
        return Err(RecordError::Torn);
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Cause, StreamReport};
    use super::*;

    fn report() -> ExitReport {
        ExitReport {
            v: super::super::PROTOCOL_VERSION,
            task: "0190".into(),
            attempt: 1,
            token: "ab".into(),
            cause: Cause::Exited,
            exit_code: Some(3),
            signal: None,
            started_at_ms: Some(1),
            ended_at_ms: 2,
            running_ms: 1,
            peak_memory_bytes: None,
            cpu_ms: 0,
            pids_refused: None,
            stdout: StreamReport::default(),
            stderr: StreamReport::default(),
            interleave_bytes: 0,
            result: None,
        }
    }

    #[test]
    fn a_record_comes_back_from_a_longer_file() {
        let mut bytes = encode_exit_record(&report()).unwrap();
        bytes.resize(EXIT_RECORD_BYTES, 0);
        assert_eq!(decode_exit_record(&bytes).unwrap(), report());
    }

    #[test]
    fn no_torn_or_changed_record_is_taken_for_a_report() {
        let whole = encode_exit_record(&report()).unwrap();
        for cut in 0..whole.len() {
            assert!(decode_exit_record(&whole[..cut]).is_err(), "cut at {cut}");
            let mut holed = whole.clone();
            holed[cut] ^= 0x01;
            assert!(decode_exit_record(&holed).is_err(), "flipped at {cut}");
        }
    }
}
