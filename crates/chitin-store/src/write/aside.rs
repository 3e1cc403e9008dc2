//! What a careful recovery needs: which task is being tried, and setting one aside that cannot be.
//!
//! Owns: ending a task without reading its row. Stands before every verb, beside `boot`.

use chitin_core::{Outcome, Seq, Suspect, TaskId, TaskState};
use rusqlite::{Connection, params};

use super::{all, execute, one};
use crate::StoreError;
use crate::codes;
use crate::error::sql;

const NEXT_OPEN: &str = "SELECT seq FROM task INDEXED BY task_open \
     WHERE ended_at_ms IS NULL AND seq > ?1 ORDER BY seq LIMIT 1";

pub(crate) fn next_open(conn: &Connection, after: Seq) -> Result<Option<Seq>, StoreError> {
    const STEP: &str = "next_open";
    one(conn, NEXT_OPEN, STEP, [after.0], |row| row.get(0).map(Seq).map_err(sql(STEP)))
}

const SUSPECT: &str = "SELECT s.value, l.value FROM counter AS s, counter AS l \
     WHERE s.name = 'suspect' AND l.name = 'suspect_lives'";

pub(crate) fn suspect(conn: &Connection) -> Result<Option<Suspect>, StoreError> {
    const STEP: &str = "suspect";
    one(conn, SUSPECT, STEP, [], |row| {
        let read = || Ok(Suspect { seq: Seq(row.get(0)?), lives: row.get(1)? });
        read().map_err(sql(STEP))
    })
}

const NOTE: &str = "INSERT INTO counter (name, value) VALUES ('suspect', ?1), ('suspect_lives', ?2) \
     ON CONFLICT (name) DO UPDATE SET value = excluded.value";
const CLEAR: &str = "DELETE FROM counter WHERE name IN ('suspect', 'suspect_lives')";

pub(crate) fn set_suspect(conn: &Connection, suspect: Option<Suspect>) -> Result<(), StoreError> {
    const STEP: &str = "set_suspect";
    match suspect {
        Some(Suspect { seq, lives }) => execute(conn, NOTE, STEP, params![seq.0, lives]),
        None => execute(conn, CLEAR, STEP, []),
    }
    .map(drop)
}

/// Whatever a listing or a retry by hand would read again is made readable: the row is the last that is known of the task.
const SET_ASIDE: &str = "UPDATE task SET state = ?2, ended_at_ms = ?3, \
     due_wall_ms = NULL, due_boot = NULL, due_boottime_ms = NULL, due_delay_ms = NULL, \
     expires_wall_ms = NULL, expires_boot = NULL, expires_boottime_ms = NULL, expires_delay_ms = NULL, \
     priority = min(max(priority, 0), 9), \
     queue = ifnull((SELECT id FROM queue WHERE queue.id = task.queue), 1) \
     WHERE seq = ?1 AND ended_at_ms IS NULL RETURNING id";
const LOSE_ATTEMPT: &str = "UPDATE attempt SET outcome = ?2, ended_at_ms = ?3, error = ?4 \
     WHERE seq = ?1 AND outcome IS NULL";

pub(crate) fn set_aside(
    conn: &Connection,
    seq: Seq,
    state: TaskState,
    wall_ms: i64,
    why: &str,
) -> Result<Option<TaskId>, StoreError> {
    const STEP: &str = "set_aside";
    let values = params![seq.0, codes::of_state(state), wall_ms];
    let set_aside = all(conn, SET_ASIDE, STEP, values, |row| row.get(0).map(TaskId).map_err(sql(STEP)))?;
    let id = set_aside.into_iter().next();
    if id.is_some() {
        let lost = codes::of_outcome(Outcome::WorkerLost);
        execute(conn, LOSE_ATTEMPT, STEP, params![seq.0, lost, wall_ms, why])?;
    }
    Ok(id)
}
