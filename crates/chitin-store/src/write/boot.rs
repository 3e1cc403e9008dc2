//! What a starting gateway asks: the epoch, and everything that is open.
//!
//! Owns: taking a database over. Stands before every verb; it runs once in a gateway's life.

use chitin_core::{AttemptNo, BootNo, Epoch, OpenRow, PrincipalId, Priority, QueueId, QueueRow, Seq, Token};
use rusqlite::{Connection, params};

use super::{all, execute, limit, one};
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row::Taker;

const RAISE_EPOCH: &str = "UPDATE counter SET value = value + 1 WHERE name = 'epoch' RETURNING value";
const FIND_BOOT: &str = "SELECT no FROM boot WHERE boot_id = ?1";
const INSERT_BOOT: &str = "INSERT INTO boot (boot_id) VALUES (?1)";

/// One row says who owns the store, so that this costs the same however many tasks are open.
pub(crate) fn begin_epoch(conn: &Connection, boot_id: &str) -> Result<(Epoch, BootNo), StoreError> {
    const STEP: &str = "begin_epoch";
    let epoch: i64 = one(conn, RAISE_EPOCH, STEP, [], |row| row.get(0).map_err(sql(STEP)))?
        .ok_or(StoreError::Meaningless { column: "counter.epoch", seq: 0 })?;
    let boot = match one(conn, FIND_BOOT, STEP, [boot_id], |row| row.get(0).map_err(sql(STEP)))? {
        Some(no) => no,
        None => {
            execute(conn, INSERT_BOOT, STEP, [boot_id])?;
            conn.last_insert_rowid()
        }
    };
    Ok((Epoch(epoch), BootNo(boot)))
}

const EPOCH: &str = "SELECT value FROM counter WHERE name = 'epoch'";

/// The newest life's epoch: the store is its.
pub(crate) fn epoch(conn: &Connection) -> Result<Epoch, StoreError> {
    const STEP: &str = "epoch";
    let epoch = one(conn, EPOCH, STEP, [], |row| row.get(0).map_err(sql(STEP)))?;
    epoch.map(Epoch).ok_or(StoreError::Meaningless { column: "counter.epoch", seq: 0 })
}

/// 4 and 12 are the codes of what has an attempt under way; a test holds the two together.
const OPEN_TASKS: &str = "SELECT t.seq, t.id, t.state, t.principal, t.queue, t.priority, t.attempt, \
     t.cancel_requested, t.payload_bytes, t.due_wall_ms, t.due_boot, t.due_boottime_ms, t.due_delay_ms, \
     t.expires_wall_ms, t.expires_boot, t.expires_boottime_ms, t.expires_delay_ms, a.token, a.boot, a.evicted \
     FROM task AS t INDEXED BY task_open \
     LEFT JOIN attempt AS a ON t.state IN (4, 12) AND a.seq = t.seq AND a.attempt = t.attempt \
     WHERE t.ended_at_ms IS NULL AND t.seq > ?1 ORDER BY t.seq LIMIT ?2";

pub(crate) fn open_tasks(conn: &Connection, after: Seq, rows: usize) -> Result<Vec<OpenRow>, StoreError> {
    const STEP: &str = "open_tasks";
    all(conn, OPEN_TASKS, STEP, params![after.0, limit(rows)], |row| {
        let mut take = Taker::new(row, STEP)?;
        let seq = take.seq();
        let id = take.task_id()?;
        let state = take.take_as("task.state", codes::to_state)?;
        let (principal, queue) = (PrincipalId(take.take()?), QueueId(take.take()?));
        let priority = take.take_as("task.priority", |raw| Priority::new(raw).ok())?;
        let attempt = AttemptNo(take.take()?);
        let (cancel_requested, payload_bytes) = (take.take()?, take.take()?);
        let (due, expires) = (take.due()?, take.deadline()?);
        let token: Option<[u8; 16]> = take.take()?;
        let boot: Option<i64> = take.take()?;
        let evicted = take.take::<Option<bool>>()?.unwrap_or(false);
        let running = match (state, token, boot) {
            (state, Some(token), Some(boot)) if state.is_under_way() => {
                Some((attempt, Token(token), BootNo(boot)))
            }
            (state, ..) if state.is_under_way() => {
                return Err(StoreError::Meaningless { column: "task.attempt", seq: seq.0 });
            }
            _ => None,
        };
        Ok(OpenRow {
            seq,
            id,
            principal,
            queue,
            priority,
            state,
            due,
            expires,
            cancel_requested,
            payload_bytes,
            evicted,
            running,
        })
    })
}

const LAST_SEQ: &str = "SELECT max(ifnull((SELECT max(seq) FROM task), 0), \
     (SELECT value FROM counter WHERE name = 'seq_floor'))";

pub(crate) fn last_seq(conn: &Connection) -> Result<Seq, StoreError> {
    const STEP: &str = "last_seq";
    let last = one(conn, LAST_SEQ, STEP, [], |row| row.get(0).map_err(sql(STEP)))?;
    last.map(Seq).ok_or(StoreError::Meaningless { column: "counter.seq_floor", seq: 0 })
}

const QUEUES: &str = "SELECT id, name, paused FROM queue ORDER BY id";

pub(crate) fn queues(conn: &Connection) -> Result<Vec<QueueRow>, StoreError> {
    const STEP: &str = "queues";
    all(conn, QUEUES, STEP, [], |row| {
        let read = || Ok(QueueRow { id: QueueId(row.get(0)?), name: row.get(1)?, paused: row.get(2)? });
        read().map_err(sql(STEP))
    })
}

const PRINCIPALS: &str = "SELECT id, name FROM principal ORDER BY id";

pub(crate) fn principals(conn: &Connection) -> Result<Vec<(PrincipalId, String)>, StoreError> {
    const STEP: &str = "principals";
    all(conn, PRINCIPALS, STEP, [], |row| {
        let read = || Ok((PrincipalId(row.get(0)?), row.get(1)?));
        read().map_err(sql(STEP))
    })
}
