//! What the store is measured against: SQLite alone, with the rows of a submission and nothing that decides about them.
//!
//! The same schema, settings and rows; the log is worked off by SQLite itself, at the size where a gateway begins it
//! anew. Used by `chitin bench`; nothing of it runs in a gateway.

use std::path::Path;

use chitin_core::{Limits, Payload};
use rusqlite::{Connection, params};

use crate::error::sql;
use crate::open::{self, Role, StoreOptions};
use crate::{StoreError, Writer};

const STEP: &str = "measure";
/// 16 MB of log.
const AUTOCHECKPOINT: &str = "PRAGMA wal_autocheckpoint = 4000";
/// A task with the usual policy, as a submission stores it.
const TASK: &str = "INSERT INTO task (seq, id, state, owner_epoch, principal, queue, priority, attempt, cancel_requested, \
     payload_bytes, expires_wall_ms, expires_boot, expires_boottime_ms, expires_delay_ms, submitted_at_ms, round, \
     retries, poison, kept_bytes, timeout_ms, ttl_ms, retry_max, retry_backoff_ms, retry_jitter, merge) \
     VALUES (?1, ?2, 3, 1, 1, 1, 5, 0, 0, ?3, ?4, 1, ?5, 604800000, ?6, 1, 0, 0, 0, 600000, 604800000, 3, ?7, 100, 0)";
const PAYLOAD: &str = "INSERT INTO payload (seq, command, env, cwd, stdin) VALUES (?1, ?2, ?3, ?4, ?5)";

/// Stores tasks in a new database at `path`, so many in each transaction, until told otherwise; says how many.
///
/// # Errors
/// SQLite's, and those of opening.
pub fn rows(
    path: &Path,
    tasks_per_commit: u32,
    payload: &Payload,
    mut go_on: impl FnMut() -> bool,
) -> Result<u64, StoreError> {
    let options = StoreOptions::new([1; 16], &Limits::default());
    drop(Writer::open(path, &options)?);
    let conn = open::connect(path, &options, Role::Writer)?;
    conn.query_row(AUTOCHECKPOINT, [], |_| Ok(())).map_err(sql(STEP))?;
    let mut stored: u64 = 0;
    while go_on() {
        conn.execute_batch("BEGIN IMMEDIATE").map_err(sql(STEP))?;
        for _ in 0..tasks_per_commit {
            stored = stored.saturating_add(1);
            insert(&conn, i64::try_from(stored).unwrap_or(i64::MAX), payload).map_err(sql(STEP))?;
        }
        conn.execute_batch("COMMIT").map_err(sql(STEP))?;
    }
    Ok(stored)
}

fn insert(conn: &Connection, seq: i64, payload: &Payload) -> rusqlite::Result<()> {
    // As the gateway makes ids: in the order of time, with random ends.
    let wall_ms = 1_700_000_000_000_i64.saturating_add(seq / 100);
    let mut id = [0_u8; 16];
    let (time, chance) = id.split_at_mut(8);
    time.copy_from_slice(&(wall_ms << 16 | 0x7000).to_be_bytes());
    chance.copy_from_slice(&seq.wrapping_mul(0x5DEE_CE66_D1CE_4E5B).to_be_bytes());
    let waits: [u8; 12] = {
        let mut waits = [0; 12];
        for (to, wait) in waits.chunks_mut(4).zip([60_000_u32, 300_000, 900_000]) {
            to.copy_from_slice(&wait.to_le_bytes());
        }
        waits
    };
    let bytes = i64::try_from(payload.bytes()).unwrap_or(i64::MAX);
    let expires = wall_ms.saturating_add(604_800_000);
    conn.prepare_cached(TASK)?.execute(params![seq, id, bytes, expires, 605_000_000, wall_ms, waits])?;
    let env = (!payload.env.is_empty()).then_some(&payload.env);
    let stdin = (!payload.stdin.is_empty()).then_some(&payload.stdin);
    conn.prepare_cached(PAYLOAD)?.execute(params![seq, payload.command, env, payload.cwd, stdin])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chitin_core::TaskState;

    use super::*;
    use crate::Reader;

    #[test]
    fn the_rows_are_a_submissions() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("chitin.db");
        let payload =
            Payload { command: r#"["true"]"#.into(), env: r#"{"A":"b"}"#.into(), ..Payload::default() };
        let mut commits = 0;
        let stored = rows(&path, 10, &payload, || {
            commits += 1;
            commits <= 3
        });
        assert_eq!(stored.unwrap(), 30);
        let reader = Reader::open(&path, &StoreOptions::new([1; 16], &Limits::default())).unwrap();
        let counts = reader.counts().unwrap();
        assert_eq!(counts.open, [(TaskState::Queued, 30)]);
    }
}
