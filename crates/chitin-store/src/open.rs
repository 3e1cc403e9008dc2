//! Opening the database: what must hold before anybody reads or writes.
//!
//! Owns: the settings that durability hangs on, and the refusal of files that are not ours. Stands at the start of a
//! gateway's life, before the core's first step.

use std::path::Path;
use std::time::Duration;

use chitin_core::Limits;
use chitin_failpoints::planted;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use crate::StoreError;
use crate::wal::{self, Synced};

/// The first SQLite without the fault that could damage a log reset while a checkpoint ran.
const OLDEST_SQLITE: i32 = 3_051_003;

/// "Chtn": in the header of every database of ours.
pub(crate) const APPLICATION_ID: i32 = 0x4368_746e;

/// Enough for all statements of a connection, so that each is prepared once.
const STATEMENTS: usize = 96;

/// How whoever had the database open before has left it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Nobody knows: its process ended by itself, or in another boot, or there was none.
    Unknown,
    /// Its process was killed from outside, in this boot, and had met no error. The page cache is as it was, and what its
    /// index of the log says of syncs holds.
    Killed,
}

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Names a new store, at random; an existing one keeps its name.
    pub store_id: [u8; 16],
    /// How long a busy database is waited for (R4.4).
    pub busy_timeout_ms: u64,
    /// Pages the writer holds in memory. Its index pages fit in a few megabytes; payloads pass through.
    pub writer_cache_bytes: u64,
    /// Pages each reader holds in memory: few, as the kernel's page cache serves them all.
    pub reader_cache_bytes: u64,
    /// The log file is cut back to this size when it is begun anew.
    pub wal_keep_bytes: u64,
    /// A database up to this size is checked whole when it is opened; that takes some ten milliseconds. A larger one would
    /// delay the start: `Writer::quick_check` is for whoever has the time. After a kill none is: whoever was killed had
    /// looked through it, or lived with it.
    pub check_up_to_bytes: u64,
    /// How it was left.
    pub left: Left,
}

impl StoreOptions {
    /// The options that follow from the gateway's limits.
    #[must_use]
    pub fn new(store_id: [u8; 16], limits: &Limits) -> Self {
        Self {
            store_id,
            busy_timeout_ms: limits.busy_timeout_ms,
            writer_cache_bytes: 6_000_000,
            reader_cache_bytes: 1_000_000,
            wal_keep_bytes: limits.wal_restart_bytes,
            check_up_to_bytes: 16_000_000,
            left: Left::Unknown,
        }
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Checkpointer,
    Reader,
}

/// Names the step of opening for an error of SQLite.
pub(crate) fn opening<'p>(
    path: &'p Path,
    step: &'static str,
) -> impl Fn(rusqlite::Error) -> StoreError + use<'p> {
    move |source| StoreError::Open { path: path.to_owned(), step, source }
}

/// Opens a connection with every setting its role needs. Reads nothing but the file's header.
pub(crate) fn connect(path: &Path, options: &StoreOptions, role: Role) -> Result<Connection, StoreError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(StoreError::SqliteTooOld { found: rusqlite::version() });
    }
    let access = match role {
        Role::Writer => OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
        Role::Checkpointer => OpenFlags::SQLITE_OPEN_READ_WRITE,
        Role::Reader => OpenFlags::SQLITE_OPEN_READ_ONLY,
    };
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(path, flags).map_err(opening(path, "open"))?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms.min(60_000)))
        .map_err(opening(path, "set the busy timeout of"))?;

    let cache_bytes = match role {
        Role::Writer => options.writer_cache_bytes,
        Role::Checkpointer => 256_000,
        Role::Reader => options.reader_cache_bytes,
    };
    // Damage is to be an error: pages are checked when they are read, and schemas are not trusted to be ours.
    for (pragma, value) in [
        ("cell_size_check", 1),
        ("trusted_schema", 0),
        ("foreign_keys", 0),
        ("mmap_size", 0),
        ("temp_store", 2),
        ("cache_size", -signed(cache_bytes / 1_024)),
    ] {
        set(&conn, path, pragma, value)?;
    }
    match role {
        Role::Reader => set(&conn, path, "query_only", 1)?,
        Role::Writer | Role::Checkpointer => {
            set(&conn, path, "synchronous", if planted!("synchronous-normal") { 1 } else { 2 })?;
            set(&conn, path, "wal_autocheckpoint", 0)?;
        }
    }
    if role == Role::Writer && conn.is_readonly(MAIN_DB).map_err(opening(path, "open"))? {
        return Err(StoreError::ReadOnly { path: path.to_owned() });
    }
    Ok(conn)
}

pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn set(conn: &Connection, path: &Path, pragma: &str, value: i64) -> Result<(), StoreError> {
    // Some pragmas answer with their new value, some with nothing.
    conn.pragma(None, pragma, value, |_| Ok(())).map_err(opening(path, "set up"))
}

/// Turns a new file, or one of ours, into a database in WAL mode of which all that can be read is on disk.
///
/// Must come before any other read: after a failed sync the page cache may show what the disk does not have. Where it is
/// known what was synced, only the rest of the log is written again. Otherwise all of it is worked into the file: the
/// checkpoint writes and syncs it. Where there is no room for that, the log itself is written again, in its place.
pub(crate) fn settle_log(
    conn: &Connection,
    path: &Path,
    options: &StoreOptions,
    synced: Option<Synced>,
) -> Result<(), StoreError> {
    set(conn, path, "page_size", 4_096)?;
    let mode: String = conn
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(opening(path, "set the journal mode of"))?;
    if mode != "wal" {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            detail: format!("its journal mode stays `{mode}`"),
        });
    }
    set(conn, path, "journal_size_limit", signed(options.wal_keep_bytes))?;
    if planted!("trust-page-cache") {
        return Ok(());
    }
    let log = wal::file(path);
    if let Some(synced) = synced {
        let state = wal::state(conn)?;
        // Beyond that size it costs every start more to recover than to work it off once.
        if state.bytes <= options.wal_keep_bytes.saturating_mul(4)
            && synced.complete(&log, state.log_frames)?
        {
            return Ok(());
        }
    }
    let busy = match conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)) {
        Ok(busy) => busy,
        // A full disk has no room for the log's pages in the file, but it must not keep a gateway from starting (R5.3).
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DiskFull) => {
            wal::write_again(&log, 0..wal::file_bytes(&log)?)?;
            0
        }
        Err(error) => return Err(opening(path, "work off the log of")(error)),
    };
    if busy != 0 {
        let source =
            rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None);
        return Err(opening(path, "work off the log of")(source));
    }
    Ok(())
}

/// Reads back what durability hangs on.
pub(crate) fn assert_durable(conn: &Connection, path: &Path) -> Result<(), StoreError> {
    for (pragma, wanted) in [("synchronous", 2), ("wal_autocheckpoint", 0)] {
        let found: i64 =
            conn.pragma_query_value(None, pragma, |row| row.get(0)).map_err(opening(path, "set up"))?;
        if found != wanted && !planted!("synchronous-normal") {
            return Err(StoreError::Setting { path: path.to_owned(), pragma, wanted, found });
        }
    }
    Ok(())
}
