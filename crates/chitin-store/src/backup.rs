//! A copy of the whole store: taken from a database that others write to, and made ready to be served from.
//!
//! Owns: [`copy`], which reads one snapshot page by page, so that the writer never waits and what is copied is what
//! stood there at one moment; and [`adopt`], which turns a copy into a store of its own. The files around them — drafts,
//! names, what stood there before — are the caller's. Stands beside the verbs.
//!
//! Invariant: a copy that is given out as one was looked through for damage.
//! Invariant: a store that was adopted has another name than the one it was copied from, and no boot of it is a boot of
//! this machine: nothing that was started for the other one is ever taken for its own.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use chitin_core::{AttemptNo, KeptLogs, TaskId};
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use crate::error::sql;
use crate::open::{self, Role, StoreOptions, opening};
use crate::write::all;
use crate::{StoreError, codes, migrate};

/// Between two looks whether to go on while the copy is checked.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Pages between two looks whether to go on: a megabyte.
const PAGES_A_STEP: i32 = 256;

const TASKS: &str = "SELECT count(*) FROM task WHERE ?1 = 0";
/// 4 and 12 are the codes of what has an attempt under way; a test holds the two together.
const TASKS_UNDER_WAY: &str = "SELECT count(*) FROM task WHERE state IN (4, 12) AND ?1 = 0";
const ATTEMPTS_WITH_LOGS: &str = "SELECT count(*) FROM attempt WHERE logs = ?1";
const LOGS_IN_FILES: &str =
    "SELECT t.id, a.attempt FROM attempt AS a JOIN task AS t ON t.seq = a.seq WHERE a.logs = ?1";

fn count(conn: &Connection, text: &str, step: &'static str, value: i64) -> Result<u64, StoreError> {
    let counted: rusqlite::Result<i64> = conn.query_row(text, [value], |row| row.get(0));
    counted.map(|count| u64::try_from(count).unwrap_or(0)).map_err(sql(step))
}

/// What a copy holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// The size of the file.
    pub bytes: u64,
    /// Tasks in it.
    pub tasks: u64,
    /// Attempts whose logs are not in it: they are too large for the database and stand in files.
    pub logs_in_files: u64,
}

/// Copies the database into `draft`, an empty file, and checks the copy. `go_on` is asked after every megabyte, and again
/// and again while the copy is checked; `None`: it said no, and the draft is worth nothing.
///
/// The copy is one snapshot. Until it is done the write-ahead log cannot be begun anew: whoever calls looks at its size.
///
/// # Errors
/// SQLite's, on either side; damage in the copy, which is damage in the database.
pub fn copy(
    database: &Path,
    draft: &Path,
    options: &StoreOptions,
    go_on: &mut (dyn FnMut() -> bool + Send),
) -> Result<Option<Copied>, StoreError> {
    const STEP: &str = "back up";
    let source = open::connect(database, options, Role::Reader)?;
    if migrate::schema(&source, database, migrate::MIGRATIONS.len())? == 0 {
        return Err(StoreError::ForeignFile { path: database.to_owned(), found: 0 });
    }
    source.execute_batch("BEGIN").map_err(sql(STEP))?;
    let tasks = count(&source, TASKS, STEP, 0)?;
    let logs_in_files = count(&source, ATTEMPTS_WITH_LOGS, STEP, codes::of_logs(KeptLogs::Files))?;
    {
        let mut target = draft_of(draft)?;
        let backup = Backup::new(&source, &mut target).map_err(sql(STEP))?;
        loop {
            match backup.step(PAGES_A_STEP).map_err(sql(STEP))? {
                StepResult::Done => break,
                _ if !go_on() => return Ok(None),
                _ => {}
            }
        }
    }
    drop(source);
    let file = |source| StoreError::File { step: "sync", path: draft.to_owned(), source };
    let opened = File::open(draft).map_err(file)?;
    opened.sync_all().map_err(file)?;
    let bytes = opened.metadata().map_err(file)?.len();
    let is_checked = check_unless_stopped(&immutable(draft)?, database, go_on)?;
    Ok(is_checked.then_some(Copied { bytes, tasks, logs_in_files }))
}

/// Checks a copy, which takes as long as reading it, and gives that up as soon as `go_on` says no: false.
fn check_unless_stopped(
    conn: &Connection,
    database: &Path,
    go_on: &mut (dyn FnMut() -> bool + Send),
) -> Result<bool, StoreError> {
    if !go_on() {
        return Ok(false);
    }
    let (handle, done) = (conn.get_interrupt_handle(), AtomicBool::new(false));
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !done.load(Ordering::Acquire) {
                if !go_on() {
                    // Again and again: what has not begun yet is not interrupted.
                    handle.interrupt();
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        let checked = check(conn, database, "PRAGMA quick_check(1)");
        done.store(true, Ordering::Release);
        watch.thread().unpark();
        _ = watch.join();
        match checked {
            Err(error) if was_interrupted(&error) => Ok(false),
            other => other.map(|()| true),
        }
    })
}

/// A connection to a file that is nothing yet: it is synced once, at the end, and thrown away if that is not reached.
fn draft_of(draft: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let failed = |source| StoreError::Open { path: draft.to_owned(), step: "make", source };
    let conn = Connection::open_with_flags(draft, flags).map_err(failed)?;
    for (pragma, value) in [("journal_mode", "off"), ("synchronous", "off"), ("cache_size", "-1000")] {
        conn.pragma(None, pragma, value, |_| Ok(())).map_err(failed)?;
    }
    Ok(conn)
}

/// A file nobody writes to, read without making others beside it.
fn immutable(path: &Path) -> Result<Connection, StoreError> {
    use std::os::unix::ffi::OsStrExt;

    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let conn = Connection::open_with_flags(uri, flags).map_err(opening(path, "open"))?;
    conn.pragma(None, "cell_size_check", 1, |_| Ok(())).map_err(opening(path, "set up"))?;
    Ok(conn)
}

fn check(conn: &Connection, path: &Path, pragma: &str) -> Result<(), StoreError> {
    let finding: String = conn
        .query_row(pragma, [], |row| row.get(0))
        .map_err(|error| opening(path, "check")(error).or_damaged(path))?;
    if finding == "ok" {
        return Ok(());
    }
    Err(StoreError::Damaged { path: path.to_owned(), detail: finding.replace('\n', " ") })
}

fn was_interrupted(error: &StoreError) -> bool {
    let StoreError::Open { source, .. } = error else { return false };
    source.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// What became a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// Tasks in it.
    pub tasks: u64,
    /// Of these, the ones that ran when the copy was taken. Nobody knows what became of them.
    pub running: u64,
    /// Attempts whose logs stand in files, which a copy does not bring.
    pub logs_in_files: Vec<(TaskId, AttemptNo)>,
}

/// Checks a copy through and through and makes it a store of its own, under the name in `options`: at `path`, whole, in
/// one synced file. What is wrong with it is said of `named`, the file that people know.
///
/// Attempts that ran keep their rows. Their boots are renamed, so that the gateway that takes the store over finds them
/// as attempts of a machine that went down: lost, whatever runs here under the same numbers.
///
/// # Errors
/// Not ours, newer than this program, damaged, or SQLite's.
pub fn adopt(path: &Path, named: &Path, options: &StoreOptions) -> Result<Adopted, StoreError> {
    const STEP: &str = "adopt";
    let mut conn =
        open::connect(path, options, Role::Checkpointer).map_err(|error| error.or_damaged(named))?;
    let schema =
        migrate::schema(&conn, named, migrate::MIGRATIONS.len()).map_err(|error| error.or_damaged(named))?;
    if schema == 0 {
        return Err(StoreError::ForeignFile { path: named.to_owned(), found: 0 });
    }
    check(&conn, named, "PRAGMA integrity_check(1)")?;
    open::settle_log(&conn, path, options, None)?;

    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(sql(STEP))?;
    let name: String = options.store_id.iter().map(|byte| format!("{byte:02x}")).collect();
    tx.execute("UPDATE meta SET value = ?1 WHERE name = 'store_id'", params![options.store_id])
        .and_then(|_| tx.execute("UPDATE boot SET boot_id = 'before-' || ?1 || '-' || no", [name]))
        .map_err(sql(STEP))?;
    let tasks = count(&tx, TASKS, STEP, 0)?;
    let running = count(&tx, TASKS_UNDER_WAY, STEP, 0)?;
    let logs_in_files = all(&tx, LOGS_IN_FILES, STEP, [codes::of_logs(KeptLogs::Files)], |row| {
        let read = || Ok((TaskId(row.get(0)?), AttemptNo(row.get(1)?)));
        read().map_err(sql(STEP))
    })?;
    tx.commit().map_err(sql(STEP))?;
    open::settle_log(&conn, path, options, None)?;
    conn.close().map_err(|(_, error)| sql(STEP)(error))?;
    let file = |source| StoreError::File { step: "sync", path: path.to_owned(), source };
    File::open(path).and_then(|opened| opened.sync_all()).map_err(file)?;
    Ok(Adopted { tasks, running, logs_in_files })
}
