//! What ends a stored thing's life: retention of ended tasks, and forgetting idempotency keys.
//!
//! Owns: deleting. Stands behind settle, and runs in the sweep; every call is bounded by its caller's limit.

use chitin_core::{Seq, TaskId, TaskState};
use rusqlite::{Connection, params};

use super::{all, execute, expect_one, limit, one};
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row;

const KEPT_BYTES: &str = "SELECT ifnull(sum(payload_bytes + kept_bytes), 0) FROM task INDEXED BY task_ended \
     WHERE ended_at_ms IS NOT NULL";

pub(crate) fn kept_bytes(conn: &Connection) -> Result<u64, StoreError> {
    const STEP: &str = "kept_bytes";
    Ok(one(conn, KEPT_BYTES, STEP, [], |found| row::count(found, 0).map_err(sql(STEP)))?.unwrap_or(0))
}

const ENDED_BEFORE: &str = "SELECT seq, id, payload_bytes + kept_bytes FROM task INDEXED BY task_ended \
     WHERE ended_at_ms IS NOT NULL AND ended_at_ms < ?1 ORDER BY ended_at_ms, seq LIMIT ?2";

pub(crate) fn ended_before(
    conn: &Connection,
    wall_ms: i64,
    rows: usize,
) -> Result<Vec<(Seq, TaskId, u64)>, StoreError> {
    const STEP: &str = "ended_before";
    all(conn, ENDED_BEFORE, STEP, params![wall_ms, limit(rows)], |found| {
        let read = || Ok((Seq(found.get(0)?), TaskId(found.get(1)?), row::count(found, 2)?));
        read().map_err(sql(STEP))
    })
}

/// The floor must be raised before the newest task goes.
const RAISE_FLOOR: &str = "UPDATE counter SET value = ?1 \
     WHERE name = 'seq_floor' AND value < ?1 AND ?1 = (SELECT max(seq) FROM task)";
const DELETE_TASK: &str = "DELETE FROM task WHERE seq = ?1 AND ended_at_ms IS NOT NULL RETURNING tags";
const DELETE_TAG: &str = "DELETE FROM task_tag WHERE tag = ?1 AND seq = ?2";
const DELETE_REST: [&str; 4] = [
    "DELETE FROM payload WHERE seq = ?1",
    "DELETE FROM attempt WHERE seq = ?1",
    "DELETE FROM result WHERE seq = ?1",
    "DELETE FROM output WHERE seq = ?1",
];

pub(crate) fn delete_task(conn: &Connection, seq: Seq) -> Result<(), StoreError> {
    const STEP: &str = "delete_task";
    execute(conn, RAISE_FLOOR, STEP, [seq.0])?;
    let deleted =
        all(conn, DELETE_TASK, STEP, [seq.0], |row| row.get::<_, Option<String>>(0).map_err(sql(STEP)))?;
    expect_one(deleted.len(), STEP, seq)?;
    for tag in deleted.into_iter().flatten().flat_map(|tags| row::tags_from(&tags)) {
        execute(conn, DELETE_TAG, STEP, params![tag, seq.0])?;
    }
    for text in DELETE_REST {
        execute(conn, text, STEP, [seq.0])?;
    }
    Ok(())
}

const SUBMISSION_ENDED: &str =
    "UPDATE submission SET ended_state = ?2, forget_at_ms = ?3 WHERE first_seq = ?1 AND length(ids) = 16";

pub(crate) fn submission_ended(
    conn: &Connection,
    first_seq: Seq,
    ended: Option<(TaskState, i64)>,
) -> Result<(), StoreError> {
    let (state, forget_at_ms) = ended.unzip();
    let values = params![first_seq.0, state.map(codes::of_state), forget_at_ms];
    execute(conn, SUBMISSION_ENDED, "submission_ended", values)?;
    Ok(())
}

/// The tasks of a submission stand side by side in the admission sequence.
const DATE_SEVERAL: &str = "UPDATE submission SET forget_at_ms = ?1 WHERE first_seq IN ( \
     SELECT s.first_seq FROM submission AS s INDEXED BY submission_several \
     WHERE s.forget_at_ms IS NULL AND length(s.ids) > 16 AND NOT EXISTS ( \
         SELECT 1 FROM task AS t INDEXED BY task_open WHERE t.ended_at_ms IS NULL \
         AND t.seq >= s.first_seq AND t.seq < s.first_seq + length(s.ids) / 16) \
     ORDER BY s.first_seq LIMIT ?2)";
const FORGET: &str = "DELETE FROM submission WHERE first_seq IN ( \
     SELECT first_seq FROM submission INDEXED BY submission_forget \
     WHERE forget_at_ms IS NOT NULL AND forget_at_ms <= ?1 ORDER BY forget_at_ms LIMIT ?2)";

pub(crate) fn sweep_submissions(
    conn: &Connection,
    now_ms: i64,
    keep_ms: i64,
    rows: usize,
) -> Result<usize, StoreError> {
    const STEP: &str = "sweep_submissions";
    let dated = execute(conn, DATE_SEVERAL, STEP, params![now_ms.saturating_add(keep_ms), limit(rows)])?;
    let forgotten = execute(conn, FORGET, STEP, params![now_ms, limit(rows)])?;
    Ok(dated.max(forgotten))
}
