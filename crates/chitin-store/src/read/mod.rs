//! The read side: answers from snapshots, on connections that cannot write.
//!
//! Owns: [`Reader`] and what it hands out. Every answer comes from one short read transaction — a reader that stays
//! in one keeps the log from being begun anew — and every scan is bounded. Stands beside the verbs; states are as of
//! the last commit.

mod detail;
mod ids;
mod list;
mod parts;

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use detail::{ResultMeta, TaskDetail};
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
