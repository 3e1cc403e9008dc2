//! The SQL of the writer, a file for each verb that writes.
//!
//! Owns: how operations of the core's transaction become statements. Nothing here decides: guards in the SQL are
//! assertions, and one that does not hold is [`StoreError::Fenced`].

pub(crate) mod aside;
pub(crate) mod boot;
pub(crate) mod event;
pub(crate) mod retain;
pub(crate) mod settle;
pub(crate) mod submit;
pub(crate) mod task;

use chitin_core::Seq;
use rusqlite::{Connection, Params, Row};

use crate::StoreError;
use crate::error::sql;

/// Exactly one row must have changed.
fn expect_one(changed: usize, step: &'static str, seq: Seq) -> Result<(), StoreError> {
    if changed == 1 { Ok(()) } else { Err(StoreError::Fenced { step, seq: seq.0 }) }
}

/// Runs a statement that is not hot.
fn execute(
    conn: &Connection,
    text: &'static str,
    step: &'static str,
    params: impl Params,
) -> Result<usize, StoreError> {
    conn.prepare_cached(text).and_then(|mut statement| statement.execute(params)).map_err(sql(step))
}

/// Reads at most one row.
pub(crate) fn one<T>(
    conn: &Connection,
    text: &'static str,
    step: &'static str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut statement = conn.prepare_cached(text).map_err(sql(step))?;
    let mut rows = statement.query(params).map_err(sql(step))?;
    rows.next().map_err(sql(step))?.map(read).transpose()
}

/// Reads all rows; the statement bounds them.
pub(crate) fn all<T>(
    conn: &Connection,
    text: &'static str,
    step: &'static str,
    params: impl Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(text).map_err(sql(step))?;
    let mut rows = statement.query(params).map_err(sql(step))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(sql(step))? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// A bound as SQL takes it.
pub(crate) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}
