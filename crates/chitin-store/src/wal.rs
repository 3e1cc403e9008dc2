//! The write-ahead log's upkeep, which SQLite would otherwise do in the middle of a commit.
//!
//! Owns: how much stands in the log, working it off beside the writer, and beginning it anew. A log that could only
//! grow would fill the disk; one that is worked off by the writer would stop it. Stands beside the verbs: the engine
//! calls it between batches.

mod synced;

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::StoreError;
use crate::error::sql;
use crate::open::{self, Role, StoreOptions};

pub(crate) use synced::Synced;

/// A frame: a page and its header.
const FRAME_BYTES: u64 = 4_096 + 24;

/// The log's own header.
const HEADER_BYTES: u64 = 32;

/// So many frames the writer itself works off when it begins the log anew: 8 MB, a few ten milliseconds.
const WRITER_FRAMES: u64 = 2_000;

/// How full the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalState {
    /// Frames since the log was begun anew.
    pub log_frames: u64,
    /// How many of them stand in the database file too.
    pub checkpointed_frames: u64,
    /// What the log's frames take on disk; the file may be longer.
    pub bytes: u64,
}

/// What became of the wish to begin the log anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// The log is small.
    Below(WalState),
    /// Much is still to be worked off: the checkpointer first.
    Behind(WalState),
    /// A reader or a checkpoint stands in the way: at another time.
    Busy(WalState),
    /// The next commit begins the log anew.
    Done,
}

/// Works the log off on a connection of its own, so that the writer need not.
#[derive(Debug)]
pub struct Checkpointer {
    conn: Connection,
}

impl Checkpointer {
    /// Opens a database that [`Writer::open`](crate::Writer::open) has opened before.
    ///
    /// # Errors
    /// It cannot be opened or set up.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let conn = open::connect(path, options, Role::Checkpointer)?;
        open::assert_durable(&conn, path)?;
        Ok(Self { conn })
    }

    /// Works off what no reader holds back, and waits for nobody.
    ///
    /// # Errors
    /// SQLite's; an I/O error is an *unknown*, as everywhere.
    pub fn passive(&mut self) -> Result<WalState, StoreError> {
        checkpoint(&self.conn, "PRAGMA wal_checkpoint(PASSIVE)").map(|(_, state)| state)
    }
}

/// How full the log is; touches nothing.
pub(crate) fn state(conn: &Connection) -> Result<WalState, StoreError> {
    checkpoint(conn, "PRAGMA wal_checkpoint(NOOP)").map(|(_, state)| state)
}

/// Begins the log anew if it is above `above` bytes and that costs the writer little. Above four times that it costs
/// what it costs: a checkpointer that never keeps up must not fill the disk.
pub(crate) fn restart_if_above(
    conn: &Connection,
    above: u64,
    busy_timeout: Duration,
) -> Result<Restart, StoreError> {
    let state = state(conn)?;
    if state.bytes <= above {
        return Ok(Restart::Below(state));
    }
    let behind = state.log_frames.saturating_sub(state.checkpointed_frames);
    if behind > WRITER_FRAMES && state.bytes < above.saturating_mul(4) {
        return Ok(Restart::Behind(state));
    }
    // Readers are not waited for: the next batch tries again.
    conn.busy_timeout(Duration::ZERO).map_err(sql("restart the log"))?;
    let done = checkpoint(conn, "PRAGMA wal_checkpoint(RESTART)");
    conn.busy_timeout(busy_timeout).map_err(sql("restart the log"))?;
    let (busy, state) = done?;
    Ok(if busy { Restart::Busy(state) } else { Restart::Done })
}

fn checkpoint(conn: &Connection, text: &'static str) -> Result<(bool, WalState), StoreError> {
    const STEP: &str = "checkpoint";
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (busy, log, done) = conn
        .prepare_cached(text)
        .and_then(|mut statement| statement.query_row([], read))
        .map_err(sql(STEP))?;
    // -1 stands for "no log".
    let log_frames = u64::try_from(log).unwrap_or(0);
    let bytes = if log_frames == 0 { 0 } else { HEADER_BYTES + log_frames * FRAME_BYTES };
    Ok((busy != 0, WalState { log_frames, checkpointed_frames: u64::try_from(done).unwrap_or(0), bytes }))
}

/// Voids what stands in the log behind its last commit: frames of a commit that was refused. Its last frame may look whole,
/// header and bytes, where the bytes were refused and the log's earlier round left the same ones in their place; whoever
/// recovers the log would take it for committed. Writes over what is there, so it needs no room.
pub(crate) fn void_after(conn: &Connection, log: &Path) -> Result<(), StoreError> {
    let end = HEADER_BYTES + state(conn)?.log_frames.saturating_mul(FRAME_BYTES);
    if file_bytes(log)? <= end {
        return Ok(());
    }
    let failed = |source| StoreError::File { step: "void the end of", path: log.to_owned(), source };
    let file = OpenOptions::new().write(true).open(log).map_err(failed)?;
    file.write_all_at(&[0; 24], end).map_err(failed)?;
    file.sync_data().map_err(failed)
}

/// Sees to it that there is room for the log's index, a file that SQLite maps: where a page of it has no room on the disk, the
/// process is killed that touches it, or what was to be opened fails in a way that says nothing of room. Whoever opens a
/// database first makes that file anew, so what it has now counts as room.
pub(crate) fn room_for_index(database: &Path) -> Result<(), StoreError> {
    let failed =
        |source| StoreError::File { step: "find room for the index of", path: database.to_owned(), source };
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(disk) = rustix::fs::statvfs(folder) else { return Ok(()) };
    let mut index = database.as_os_str().to_owned();
    index.push("-shm");
    let has = fs::metadata(index).map_or(0, |metadata| metadata.blocks().saturating_mul(512));
    let needs = index_bytes(file_bytes(&file(database))? / FRAME_BYTES);
    let there = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(has);
    // One that does not say how large it is, does not know what is left either.
    if disk.f_blocks > 0 && there < needs {
        return Err(failed(io::ErrorKind::StorageFull.into()));
    }
    Ok(())
}

/// What the index of so many frames takes, and one part more for what the first commits bring.
/// <https://www.sqlite.org/walformat.html>, section 2.2.
fn index_bytes(frames: u64) -> u64 {
    const PART_BYTES: u64 = 32_768;
    const PART_FRAMES: u64 = 4_062;
    (frames / PART_FRAMES + 2) * PART_BYTES
}

/// The log's file.
pub(crate) fn file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// The size of the log's file; 0 if there is none.
pub(crate) fn file_bytes(log: &Path) -> Result<u64, StoreError> {
    match fs::metadata(log) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(source) => Err(StoreError::File { step: "look at", path: log.to_owned(), source }),
    }
}

/// Writes a part of the log over itself and syncs it: what the page cache shows of it is on the disk afterwards, and no room
/// was needed.
pub(crate) fn write_again(log: &Path, part: Range<u64>) -> Result<(), StoreError> {
    let failed = |source| StoreError::File { step: "write again", path: log.to_owned(), source };
    let file = OpenOptions::new().read(true).write(true).open(log).map_err(failed)?;
    let mut chunk = vec![0; 1 << 20];
    let mut at = part.start;
    while at < part.end {
        let most = usize::try_from(part.end - at).unwrap_or(usize::MAX).min(chunk.len());
        let read = file.read_at(chunk.get_mut(..most).unwrap_or_default(), at).map_err(failed)?;
        let Some(bytes) = chunk.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        file.write_all_at(bytes, at).map_err(failed)?;
        at = at.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
    }
    file.sync_data().map_err(failed)
}
