//! lease and settle: attempts, and what they leave.
//!
//! Owns: the attempt's row, committed before its shim is started, and the result and logs that are committed with
//! its end.

use chitin_core::{AttemptNo, AttemptRow, Seq, StoredOutput, StoredResult};
use rusqlite::{Connection, params};

use super::{execute, expect_one, one};
use crate::StoreError;
use crate::codes;
use crate::row::{self, Binder, attempt_columns};
use crate::tx::{Hot, Slot};

const INSERT_ATTEMPT: &str = concat!(
    "INSERT INTO attempt (",
    attempt_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
);
const UPDATE_ATTEMPT: &str = "UPDATE attempt SET round = ?3, token = ?4, epoch = ?5, boot = ?6, leased_at_ms = ?7, \
     started_at_ms = ?8, ended_at_ms = ?9, outcome = ?10, exit_code = ?11, signal = ?12, error = ?13, \
     peak_memory_bytes = ?14, cpu_ms = ?15, logs = ?16, evicted = ?17 WHERE seq = ?1 AND attempt = ?2";
pub(crate) const LOAD_ATTEMPT: &str =
    concat!("SELECT ", attempt_columns!(), " FROM attempt WHERE seq = ?1 AND attempt = ?2");

pub(crate) fn insert_attempt<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    row: &AttemptRow,
) -> Result<(), StoreError> {
    put_attempt(conn, &mut hot.insert_attempt, INSERT_ATTEMPT, "insert_attempt", row)?;
    Ok(())
}

pub(crate) fn update_attempt(conn: &Connection, row: &AttemptRow) -> Result<(), StoreError> {
    const STEP: &str = "update_attempt";
    expect_one(put_attempt(conn, &mut Slot::default(), UPDATE_ATTEMPT, STEP, row)?, STEP, row.seq)
}

pub(crate) fn load_attempt(
    conn: &Connection,
    seq: Seq,
    attempt: AttemptNo,
) -> Result<Option<AttemptRow>, StoreError> {
    const STEP: &str = "load_attempt";
    one(conn, LOAD_ATTEMPT, STEP, params![seq.0, attempt.0], |found| row::attempt(found, STEP))
}

fn put_attempt<'w>(
    conn: &'w Connection,
    slot: &mut Slot<'w>,
    text: &'static str,
    step: &'static str,
    row: &AttemptRow,
) -> Result<usize, StoreError> {
    let mut bind = Binder::new(slot.of(conn, text, step)?, step);
    bind.put(row.seq.0)?;
    bind.put(row.attempt.0)?;
    bind.put(row.round)?;
    bind.put(row.token.0)?;
    bind.put(row.epoch.0)?;
    bind.put(row.boot.0)?;
    bind.put(row.leased_at_ms)?;
    bind.put(row.started_at_ms)?;
    bind.put(row.ended_at_ms)?;
    bind.put(row.outcome.map(codes::of_outcome))?;
    bind.put(row.exit_code)?;
    bind.put(row.signal)?;
    bind.put(row.error.as_deref())?;
    bind.put(row.peak_memory_bytes)?;
    bind.put(row.cpu_ms)?;
    bind.put(codes::of_logs(row.logs))?;
    bind.put(row.evicted)?;
    bind.execute()
}

/// A result of an earlier round or attempt never replaces a newer one (R4.5).
const PUT_RESULT: &str = "INSERT INTO result (seq, round, attempt, truncated, content_type, sha256, body) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
     ON CONFLICT (seq) DO UPDATE SET round = ?2, attempt = ?3, truncated = ?4, content_type = ?5, sha256 = ?6, \
     body = ?7 WHERE (result.round, result.attempt) <= (?2, ?3)";

pub(crate) fn put_result(
    conn: &Connection,
    seq: Seq,
    round: u32,
    attempt: AttemptNo,
    result: &StoredResult,
) -> Result<(), StoreError> {
    const STEP: &str = "put_result";
    let StoredResult { content_type, sha256, body, truncated } = result;
    let values = params![seq.0, round, attempt.0, truncated, content_type, sha256, body];
    expect_one(execute(conn, PUT_RESULT, STEP, values)?, STEP, seq)
}

const PUT_OUTPUT: &str =
    "INSERT OR REPLACE INTO output (seq, attempt, interleave, stderr, stdout) VALUES (?1, ?2, ?3, ?4, ?5)";

pub(crate) fn put_output(
    conn: &Connection,
    seq: Seq,
    attempt: AttemptNo,
    output: &StoredOutput,
) -> Result<(), StoreError> {
    let StoredOutput { stdout, stderr, interleave } = output;
    execute(conn, PUT_OUTPUT, "put_output", params![seq.0, attempt.0, interleave, stderr, stdout])?;
    Ok(())
}
