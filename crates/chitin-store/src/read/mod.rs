//! The read side: answers from snapshots, on connections that cannot write.
//!
//! Owns: [`Reader`] and what it hands out. Every answer comes from one short read transaction — a reader that stays
//! in one keeps the log from being begun anew — and every scan is bounded. Stands beside the verbs; states are as of
//! the last commit.

mod detail;
mod events;
mod ids;
mod keys;
mod list;
mod parts;

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use detail::{ResultMeta, TaskDetail};
pub use events::{EventBounds, EventPlace, StoredEvent};
pub use ids::Resolved;
pub use list::{Filter, ListedTask, Page, StateFilter};
pub use parts::{Counts, EndMeta, SpoolVerdict, StoredEnd};

use crate::StoreError;
use crate::error::sql;
use crate::open::{self, Role, StoreOptions};

/// A read-only connection.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
}

impl Reader {
    /// Opens a database that [`Writer::open`](crate::Writer::open) has opened before: only then does the disk hold what
    /// is read.
    ///
    /// # Errors
    /// It cannot be opened or set up.
    pub fn open(path: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        open::connect(path, options, Role::Reader).map(|conn| Self { conn })
    }

    /// Looks through a whole database that nobody writes, indexes against tables too. Takes as long as reading it, and more.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] with the first finding, or SQLite's.
    pub fn integrity_check(path: &Path) -> Result<(), StoreError> {
        let options = StoreOptions::new([0; 16], &chitin_core::Limits::default());
        let reader = Self::open(path, &options)?;
        let finding: String = reader
            .conn
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(open::opening(path, "check"))?;
        if finding == "ok" {
            return Ok(());
        }
        Err(StoreError::Damaged { path: path.to_owned(), detail: finding.replace('\n', " ") })
    }

    /// Runs one answer on one snapshot.
    fn snapshot<T>(
        &self,
        step: &'static str,
        answer: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let tx = Transaction::new_unchecked(&self.conn, TransactionBehavior::Deferred).map_err(sql(step))?;
        answer(&tx)
    }
}
