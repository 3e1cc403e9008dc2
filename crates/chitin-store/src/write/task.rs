//! enqueue, lease, settle: the moves of a task's own row.
//!
//! Owns: finding, loading and changing it. Three statements change it, by where the row was and where it goes: one
//! that leaves it open, and so touches no index, one that ends it, and one that opens it again. Each asserts that no
//! later epoch has written it, and leaves the writer's own.

use chitin_core::{QueueRow, Seq, TaskId, TaskRow};
use rusqlite::{Connection, params};

use super::{execute, expect_one, one};
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row::{self, Binder, task_columns};
use crate::tx::{Hot, Slot};

pub(crate) const LOAD_TASK: &str = concat!("SELECT ", task_columns!(), " FROM task AS t WHERE t.seq = ?1");

pub(crate) fn load_task<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    seq: Seq,
) -> Result<Option<TaskRow>, StoreError> {
    const STEP: &str = "load_task";
    let statement = hot.load_task.of(conn, LOAD_TASK, STEP)?;
    let mut rows = statement.query([seq.0]).map_err(sql(STEP))?;
    rows.next().map_err(sql(STEP))?.map(|found| row::task(found, STEP)).transpose()
}

const FIND_TASK: &str = "SELECT seq FROM task WHERE id = ?1";

pub(crate) fn find_task(conn: &Connection, id: TaskId) -> Result<Option<Seq>, StoreError> {
    const STEP: &str = "find_task";
    one(conn, FIND_TASK, STEP, [id.0], |row| row.get(0).map(Seq).map_err(sql(STEP)))
}

/// What changes in every case; 18 values after the key and the epoch.
macro_rules! changed_columns {
    () => {
        "state = ?3, due_wall_ms = ?4, due_boot = ?5, due_boottime_ms = ?6, due_delay_ms = ?7, \
         expires_wall_ms = ?8, expires_boot = ?9, expires_boottime_ms = ?10, expires_delay_ms = ?11, \
         started_at_ms = ?12, round = ?13, attempt = ?14, retries = ?15, poison = ?16, cancel_requested = ?17"
    };
}

/// An open task keeps nothing yet that retention counts, but what it keeps is remembered.
const UPDATE_OPEN: &str = concat!(
    "UPDATE task SET ",
    changed_columns!(),
    ", kept_bytes = ?18, owner_epoch = ?2 WHERE seq = ?1 AND owner_epoch <= ?2 AND ended_at_ms IS NULL"
);
const UPDATE_ENDED: &str = concat!(
    "UPDATE task SET ",
    changed_columns!(),
    ", kept_bytes = ?18, ended_at_ms = ?19, owner_epoch = ?2 WHERE seq = ?1 AND owner_epoch <= ?2"
);
const REOPEN: &str = concat!(
    "UPDATE task SET ",
    changed_columns!(),
    ", kept_bytes = ?18, ended_at_ms = NULL, owner_epoch = ?2 \
     WHERE seq = ?1 AND ended_at_ms IS NOT NULL AND owner_epoch <= ?2"
);

pub(crate) fn update_task<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    row: &TaskRow,
) -> Result<(), StoreError> {
    const STEP: &str = "update_task";
    if row.ended_at_ms.is_some() != row.state.has_ended() {
        return Err(StoreError::Meaningless { column: "task.ended_at_ms", seq: row.seq.0 });
    }
    let changed = if row.ended_at_ms.is_some() {
        change(conn, &mut Slot::default(), UPDATE_ENDED, row)?
    } else {
        match change(conn, &mut hot.update_open, UPDATE_OPEN, row)? {
            0 => change(conn, &mut Slot::default(), REOPEN, row)?,
            changed => changed,
        }
    };
    expect_one(changed, STEP, row.seq)
}

fn change<'w>(
    conn: &'w Connection,
    slot: &mut Slot<'w>,
    text: &'static str,
    row: &TaskRow,
) -> Result<usize, StoreError> {
    const STEP: &str = "update_task";
    let mut bind = Binder::new(slot.of(conn, text, STEP)?, STEP);
    bind.put(row.seq.0)?;
    bind.put(row.owner_epoch.0)?;
    bind.put(codes::of_state(row.state))?;
    row::put_due(&mut bind, row.due.as_ref())?;
    row::put_deadline(&mut bind, row.expires.as_ref())?;
    bind.put(row.started_at_ms)?;
    bind.put(row.round)?;
    bind.put(row.attempt.0)?;
    bind.put(row.retries)?;
    bind.put(row.poison)?;
    bind.put(row.cancel_requested)?;
    bind.put(row.kept_bytes)?;
    if let Some(ended_at_ms) = row.ended_at_ms {
        bind.put(ended_at_ms)?;
    }
    bind.execute()
}

const UPDATE_QUEUE: &str = "UPDATE queue SET paused = ?2 WHERE id = ?1";

pub(crate) fn update_queue(conn: &Connection, queue: &QueueRow) -> Result<(), StoreError> {
    const STEP: &str = "update_queue";
    expect_one(execute(conn, UPDATE_QUEUE, STEP, params![queue.id.0, queue.paused])?, STEP, Seq(queue.id.0))
}
