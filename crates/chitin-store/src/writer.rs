//! The one connection that changes tasks.
//!
//! Owns: opening — which ends with a database whose log is worked off, whose schema is ours, and whose folder entry
//! is on disk — and handing out transactions, one at a time. Stands between the engine and the disk.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chitin_core::Epoch;
use rusqlite::{Connection, OptionalExtension, params};

use crate::error::sql;
use crate::open::{self, Left, Role, StoreOptions, opening};
use crate::tx::{Commit, WriteTx};
use crate::wal::{self, Restart, Synced, WalState};
use crate::{StoreError, migrate};

/// The writing connection.
#[derive(Debug)]
pub struct Writer {
    conn: Connection,
    path: PathBuf,
    log: PathBuf,
    store_id: [u8; 16],
    busy_timeout: Duration,
    /// The epoch that was begun through it.
    owner: Cell<Option<Epoch>>,
}

/// A token's row; the token itself is never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// What people call it.
    pub name: String,
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What it allows, as whoever made it wrote it.
    pub scopes: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created_at_ms: i64,
}

impl Writer {
    /// Opens the database at `path`, and makes it if there is none. Whoever calls holds the gateway's lock.
    ///
    /// # Errors
    /// See [`StoreError`]: a file that is damaged, foreign or newer than this program is refused.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::prepare(path, options).map_err(|error| error.or_damaged(path))
    }

    fn prepare(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
        let was_killed = options.left == Left::Killed;
        // Before the database is opened: that rebuilds what is read here.
        let synced = if was_killed { Synced::left_at(path) } else { None };
        wal::room_for_index(path)?;
        let mut conn = open::connect(path, options, Role::Writer)?;
        open::settle_log(&conn, path, options, synced)?;
        open::assert_durable(&conn, path)?;
        migrate::migrate(&mut conn, path, migrate::MIGRATIONS, options.store_id)?;
        if !was_killed {
            sync_folder(path)?;
        }
        let store_id = conn
            .query_row("SELECT value FROM meta WHERE name = 'store_id'", [], |row| row.get(0))
            .map_err(opening(path, "read the name of"))?;
        let busy_timeout = Duration::from_millis(options.busy_timeout_ms);
        let writer = Self {
            conn,
            path: path.to_owned(),
            log: wal::file(path),
            store_id,
            busy_timeout,
            owner: Cell::new(None),
        };
        if bytes <= options.check_up_to_bytes && !was_killed {
            writer.quick_check()?;
        }
        Ok(writer)
    }

    /// The store's name: what was kept elsewhere under another name is not this store's.
    #[must_use]
    pub fn store_id(&self) -> [u8; 16] {
        self.store_id
    }

    /// Begins a transaction; nobody else writes until it ends.
    ///
    /// # Errors
    /// SQLite's; nothing was begun.
    pub fn begin(&mut self) -> Result<WriteTx<'_>, StoreError> {
        WriteTx::begin(&self.conn, &self.log, &self.owner)
    }

    /// Looks through the whole file for damage. Takes as long as reading it.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first finding, or SQLite's.
    pub fn quick_check(&self) -> Result<(), StoreError> {
        let finding: String = self
            .conn
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(opening(&self.path, "check"))?;
        if finding == "ok" {
            Ok(())
        } else {
            Err(StoreError::Damaged { path: self.path.clone(), detail: finding.replace('\n', " ") })
        }
    }

    /// A commit as small as can be, to see whether the store works again.
    pub fn probe(&mut self) -> Commit {
        self.change("UPDATE counter SET value = value + 1 WHERE name = 'probe'", "probe", [])
    }

    /// A small value by its name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn get_meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.conn
            .prepare_cached("SELECT value FROM meta WHERE name = ?1")
            .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
            .map_err(sql("get_meta"))
    }

    /// Stores a small value under its name, in a commit of its own. `store_id` is the store's own.
    pub fn set_meta(&mut self, name: &str, value: &[u8]) -> Commit {
        self.change(
            "INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)",
            "set_meta",
            params![name, value],
        )
    }

    /// Stores a token, in a commit of its own; a token of the same name is replaced.
    pub fn insert_token(&mut self, token: &TokenRow) -> Commit {
        let TokenRow { name, sha256, scopes, created_at_ms } = token;
        self.change(
            "INSERT OR REPLACE INTO token (name, sha256, scopes, created_at_ms) VALUES (?1, ?2, ?3, ?4)",
            "insert_token",
            params![name, sha256, scopes, created_at_ms],
        )
    }

    /// Removes a token, in a commit of its own; one that is gone stays gone.
    pub fn delete_token(&mut self, name: &str) -> Commit {
        self.change("DELETE FROM token WHERE name = ?1", "delete_token", [name])
    }

    /// All tokens, by name.
    ///
    /// # Errors
    /// SQLite's.
    pub fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        let read = |row: &rusqlite::Row<'_>| {
            Ok(TokenRow {
                name: row.get(0)?,
                sha256: row.get(1)?,
                scopes: row.get(2)?,
                created_at_ms: row.get(3)?,
            })
        };
        self.conn
            .prepare_cached("SELECT name, sha256, scopes, created_at_ms FROM token ORDER BY name")
            .and_then(|mut statement| statement.query_map([], read)?.collect())
            .map_err(sql("tokens"))
    }

    /// How full the log is; costs microseconds.
    ///
    /// # Errors
    /// SQLite's.
    pub fn wal_state(&self) -> Result<WalState, StoreError> {
        wal::state(&self.conn)
    }

    /// The size of the log's file.
    ///
    /// # Errors
    /// The system's.
    pub fn wal_bytes(&self) -> Result<u64, StoreError> {
        wal::file_bytes(&self.log)
    }

    /// Begins the log anew if it is above `bytes` and nobody stands in the way. Waits for nobody.
    ///
    /// # Errors
    /// SQLite's; an I/O error is an *unknown*.
    pub fn restart_wal_if_above(&mut self, bytes: u64) -> Result<Restart, StoreError> {
        wal::restart_if_above(&self.conn, bytes, self.busy_timeout)
    }

    /// Bounds the database's pages, so that a test can see what a full disk does.
    #[doc(hidden)]
    pub fn set_max_pages(&mut self, pages: i64) -> Result<i64, StoreError> {
        self.conn
            .pragma_update_and_check(None, "max_page_count", pages, |row| row.get(0))
            .map_err(sql("set_max_pages"))
    }

    fn change(&mut self, text: &'static str, step: &'static str, values: impl rusqlite::Params) -> Commit {
        let tx = match WriteTx::begin(&self.conn, &self.log, &self.owner) {
            Ok(tx) => tx,
            Err(error) => return no_or_unknown(error),
        };
        let done = self.conn.prepare_cached(text).and_then(|mut statement| statement.execute(values));
        match done.map_err(sql(step)) {
            Ok(_) => tx.commit(),
            Err(error) => match tx.rollback() {
                Ok(()) => no_or_unknown(error),
                Err(_) => Commit::Unknown(error),
            },
        }
    }
}

/// What an error means of which nothing was committed.
fn no_or_unknown(error: StoreError) -> Commit {
    match error.verdict() {
        crate::Verdict::No(_) => Commit::No(error),
        _ => Commit::Unknown(error),
    }
}

/// A new file is only there for sure once its folder is on disk.
fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| StoreError::File {
        step: "sync",
        path: folder.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
