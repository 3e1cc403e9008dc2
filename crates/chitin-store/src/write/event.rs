//! publish: what happened, written in the transaction that makes it true.
//!
//! Owns: the table of events. They stand behind one another, and the earliest go when there are too many or they are old.

use chitin_core::EventRow;
use rusqlite::{Connection, params};

use super::{execute, limit};
use crate::StoreError;
use crate::open::signed;
use crate::row::Binder;
use crate::tx::Hot;

const INSERT_EVENT: &str =
    "INSERT INTO event (after_seq, at_ms, name, task, attempt, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(crate) fn insert_event<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    row: &EventRow,
) -> Result<(), StoreError> {
    const STEP: &str = "insert_event";
    let mut bind = Binder::new(hot.insert_event.of(conn, INSERT_EVENT, STEP)?, STEP);
    bind.put(row.after.0)?;
    bind.put(row.at_ms)?;
    bind.put(row.name.as_str())?;
    bind.put(row.task.map(|id| id.0))?;
    bind.put(row.attempt.map(|attempt| attempt.0))?;
    bind.put(row.detail.as_deref())?;
    bind.execute().map(drop)
}

const SWEEP: &str = "DELETE FROM event WHERE no IN ( \
     SELECT e.no FROM (SELECT no, at_ms FROM event ORDER BY no LIMIT ?3) AS e, \
     (SELECT max(no) AS no FROM event) AS newest \
     WHERE e.no < newest.no AND (e.no <= newest.no - ?2 OR e.at_ms < ?1))";

pub(crate) fn sweep_events(
    conn: &Connection,
    before_ms: i64,
    keep: u64,
    rows: usize,
) -> Result<usize, StoreError> {
    execute(conn, SWEEP, "sweep_events", params![before_ms, signed(keep), limit(rows)])
}
