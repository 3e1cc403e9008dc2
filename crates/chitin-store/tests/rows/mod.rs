//! Rows for tests: every field has a value of its own, so that two that were swapped are seen.
#![allow(dead_code, reason = "each test binary uses some of them")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use chitin_core::{
    AttemptNo, AttemptRow, BootNo, Deadline, Due, Epoch, Jitter, KeptLogs, Outcome, Payload, Policy,
    PrincipalId, Priority, QueueId, RetryPolicy, ScheduledReason, Seq, StoredOutput, StoredResult,
    SubmissionRow, TaskId, TaskRow, TaskState, Token,
};

/// Who submits in tests.
pub(crate) const PRINCIPAL: PrincipalId = PrincipalId(3);

/// The id of the n-th task; in the order of `n`.
pub(crate) fn id(n: i64) -> TaskId {
    let mut id = [0x5a; 16];
    id[..8].copy_from_slice(&(0x0190_abcd_0000_7000 + n * 0x1_0000).to_be_bytes());
    TaskId(id)
}

/// A task that is queued, with defaults.
pub(crate) fn queued(seq: i64) -> TaskRow {
    TaskRow {
        seq: Seq(seq),
        id: id(seq),
        principal: PRINCIPAL,
        queue: QueueId(1),
        priority: Priority::DEFAULT,
        state: TaskState::Queued,
        owner_epoch: Epoch(1),
        submitted_at_ms: 1_700_000_000_000 + seq,
        due: None,
        expires: Some(deadline(604_800_000)),
        started_at_ms: None,
        ended_at_ms: None,
        round: 1,
        attempt: AttemptNo(0),
        retries: 0,
        poison: 0,
        cancel_requested: false,
        payload_bytes: 14,
        kept_bytes: 0,
        policy: Policy {
            timeout_ms: None,
            ttl_ms: 604_800_000,
            retry: RetryPolicy {
                max: 3,
                backoff_ms: vec![60_000, 300_000, 900_000],
                jitter: Jitter::from_permille(100).unwrap(),
            },
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            merge: false,
        },
        tags: vec![],
    }
}

/// A task with nothing left at its default.
pub(crate) fn full(seq: i64) -> TaskRow {
    TaskRow {
        priority: Priority::new(8).unwrap(),
        state: TaskState::Scheduled(ScheduledReason::Backoff),
        due: Some(Due::After(deadline(1_234))),
        expires: Some(deadline(77_777)),
        started_at_ms: Some(1_700_000_001_001),
        round: 2,
        attempt: AttemptNo(7),
        retries: 4,
        poison: 1,
        cancel_requested: true,
        payload_bytes: 1_000,
        kept_bytes: 2_000,
        policy: Policy {
            timeout_ms: Some(11_000),
            ttl_ms: 12_000,
            retry: RetryPolicy { max: 99, backoff_ms: (0..40).collect(), jitter: Jitter::NONE },
            memory_bytes: Some(13_000),
            cpu_millis: Some(1_500),
            pids: Some(64),
            merge: true,
        },
        tags: vec!["nightly".into(), "größe: 2".into()],
        ..queued(seq)
    }
}

/// A task that has ended.
pub(crate) fn ended(seq: i64, state: TaskState, ended_at_ms: i64) -> TaskRow {
    TaskRow { state, ended_at_ms: Some(ended_at_ms), expires: None, ..queued(seq) }
}

/// A deadline with four different numbers.
pub(crate) fn deadline(delay_ms: i64) -> Deadline {
    Deadline {
        boot: BootNo(2),
        boottime_ms: 50_000 + delay_ms,
        wall_ms: 1_700_000_000_000 + delay_ms,
        delay_ms,
    }
}

/// A payload.
pub(crate) fn payload() -> Payload {
    Payload { command: r#"["/bin/true"]"#.into(), ..Payload::default() }
}

/// A payload with every part.
pub(crate) fn full_payload() -> Payload {
    Payload {
        command: r#"["/bin/echo","ü"]"#.into(),
        env: r#"{"A":"1"}"#.into(),
        cwd: Some("/tmp".into()),
        stdin: vec![0, 255, 10],
    }
}

/// An attempt under way.
pub(crate) fn attempt(seq: i64, attempt: u32) -> AttemptRow {
    AttemptRow {
        seq: Seq(seq),
        attempt: AttemptNo(attempt),
        round: 1,
        token: token(seq, attempt),
        epoch: Epoch(1),
        boot: BootNo(1),
        leased_at_ms: 1_700_000_002_000,
        started_at_ms: None,
        ended_at_ms: None,
        outcome: None,
        exit_code: None,
        signal: None,
        error: None,
        peak_memory_bytes: None,
        cpu_ms: None,
        logs: KeptLogs::None,
        evicted: false,
    }
}

/// An attempt that has ended, every field set.
pub(crate) fn ended_attempt(seq: i64, number: u32) -> AttemptRow {
    AttemptRow {
        round: 2,
        token: Token([9; 16]),
        epoch: Epoch(5),
        boot: BootNo(6),
        leased_at_ms: 1_700_000_002_001,
        started_at_ms: Some(1_700_000_002_002),
        ended_at_ms: Some(1_700_000_002_003),
        outcome: Some(Outcome::Signalled),
        exit_code: Some(-3),
        signal: Some(11),
        error: Some("segmentation fault".into()),
        peak_memory_bytes: Some(4_096),
        cpu_ms: Some(17),
        logs: KeptLogs::Files,
        evicted: true,
        ..attempt(seq, number)
    }
}

/// The token of an attempt.
pub(crate) fn token(seq: i64, attempt: u32) -> Token {
    let mut token = [0xee; 16];
    token[0] = u8::try_from(seq % 256).unwrap();
    token[1] = u8::try_from(attempt % 256).unwrap();
    Token(token)
}

/// A result.
pub(crate) fn result(body: &[u8]) -> StoredResult {
    StoredResult {
        content_type: "text/plain; charset=utf-8".into(),
        sha256: [u8::try_from(body.len() % 256).unwrap(); 32],
        body: body.to_vec(),
        truncated: true,
    }
}

/// Logs.
pub(crate) fn output() -> StoredOutput {
    StoredOutput { stdout: None, stderr: b"warning\n".to_vec(), interleave: vec![1, 2, 3] }
}

/// A remembered submission of the tasks `first`, `first + 1`, ….
pub(crate) fn submission(first: i64, tasks: i64, key: &str) -> SubmissionRow {
    SubmissionRow {
        first_seq: Seq(first),
        ids: (first..first + tasks).map(id).collect(),
        principal: PRINCIPAL,
        route: "POST /v1/tasks".into(),
        key: key.into(),
        body_sha256: [7; 32],
    }
}
