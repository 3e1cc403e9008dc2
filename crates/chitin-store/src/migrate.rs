//! From any schema of ours to the newest.
//!
//! Owns: the list of migrations and their order. Each runs in one transaction together with the number it leads to,
//! so a crash leaves the schema before or the schema after, never half of one. Stands in [`Writer::open`](crate::Writer).

use std::path::Path;

use chitin_failpoints::{failpoint, planted};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, TransactionBehavior, params};

use crate::StoreError;
use crate::open::{APPLICATION_ID, opening};

/// Migration `n` (from 1) leads to schema `n`.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
];

/// Whose file it is, and how far it has come.
pub(crate) fn schema(conn: &Connection, path: &Path, newest: usize) -> Result<usize, StoreError> {
    let pragma = |name| {
        conn.pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            .map_err(opening(path, "read the header of"))
    };
    let application_id = pragma("application_id")?;
    let found = pragma("user_version")?;
    let known = i64::try_from(newest).unwrap_or(i64::MAX);
    if application_id != i64::from(APPLICATION_ID) {
        let objects: i64 = conn
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .map_err(opening(path, "read the schema of"))?;
        if application_id != 0 || found != 0 || objects != 0 {
            let found = i32::try_from(application_id).unwrap_or(0);
            return Err(StoreError::ForeignFile { path: path.to_owned(), found });
        }
    }
    match usize::try_from(found) {
        Ok(schema) if schema <= newest => Ok(schema),
        _ => Err(StoreError::NewerSchema { path: path.to_owned(), found, known }),
    }
}

/// Runs what is missing. A new store gets its name in the transaction that makes it.
pub(crate) fn migrate(
    conn: &mut Connection,
    path: &Path,
    migrations: &[&str],
    store_id: [u8; 16],
) -> Result<(), StoreError> {
    let from = schema(conn, path, migrations.len())?;
    for (to, migration) in (1_i64..).zip(migrations).skip(from) {
        step(conn, to, migration, store_id).map_err(|source| StoreError::Migrate { to, source })?;
    }
    Ok(())
}

fn step(conn: &mut Connection, to: i64, migration: &str, store_id: [u8; 16]) -> rusqlite::Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    failpoint!("migrate.before");
    let mut batch = Batch::new(&tx, migration);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
        failpoint!("migrate.statement");
        if planted!("migrate-by-statement") {
            tx.execute_batch("COMMIT; BEGIN IMMEDIATE")?;
        }
    }
    if to == 1 {
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.execute("INSERT INTO meta (name, value) VALUES ('store_id', ?1)", params![store_id])?;
    }
    tx.pragma_update(None, "user_version", to)?;
    failpoint!("migrate.commit.before");
    tx.commit()?;
    failpoint!("migrate.commit.after");
    Ok(())
}

#[cfg(test)]
mod tests;
