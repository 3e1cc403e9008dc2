//! An attempt's end as its shim tells it, and what the gateway makes of it and of the files beside it.

use chitin_core::{AttemptEnd, AttemptKey, Outcome, Produced, StoredOutput, StoredResult};

/// How an attempt ended, as its shim tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(super) key: AttemptKey,
    pub(super) outcome: Outcome,
    pub(super) exit_code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) non_retryable: bool,
    pub(super) started_at_ms: Option<i64>,
    pub(super) ended_at_ms: i64,
    pub(super) logs: Logs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Logs {
    None,
    Stored,
    Files,
}

impl Report {
    /// The end and what it left, as the gateway's collection makes it of a report.
    pub(super) fn collected(&self) -> (AttemptEnd, Produced) {
        let end = AttemptEnd {
            outcome: self.outcome,
            non_retryable: self.non_retryable,
            put_back: false,
            exit_code: self.exit_code,
            signal: self.signal,
            error: None,
            started_at_ms: self.started_at_ms,
            ended_at_ms: self.ended_at_ms,
            peak_memory_bytes: None,
            cpu_ms: Some(3),
        };
        let result = StoredResult {
            content_type: "application/octet-stream".to_owned(),
            sha256: [7; 32],
            body: self.key.token.0.to_vec(),
            truncated: false,
        };
        let succeeded = self.outcome == Outcome::Succeeded;
        let output = StoredOutput {
            stdout: if succeeded { None } else { Some(b"out".to_vec()) },
            stderr: self.key.token.0.to_vec(),
            interleave: Vec::new(),
        };
        let produced = Produced {
            result: succeeded.then_some(result),
            output: (self.logs == Logs::Stored).then_some(output),
            log_bytes_in_files: if self.logs == Logs::Files { 40 } else { 0 },
        };
        (end, produced)
    }
}
