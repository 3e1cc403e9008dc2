//! What can go wrong in the store, and what it means for whoever asked.
//!
//! Owns: [`StoreError`], a variant for each step that can fail, and [`Verdict`], the one question the engine puts to
//! an error. It stands between a failed commit and the answer to a client: a *no* is a clean refusal after which the
//! store goes on, an *unknown* ends the process, so that the next one finds out from the disk what is true.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// A step of the store that failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The SQLite this program was built with has a known fault.
    #[error("SQLite {found} is too old: 3.51.3 or newer is needed, older ones can damage a write-ahead log")]
    SqliteTooOld {
        /// The version found.
        found: &'static str,
    },
    /// The file was made by something else.
    #[error("{} is not chitin's: its application id is {found:#010x}; choose another data directory", path.display())]
    ForeignFile {
        /// The database.
        path: PathBuf,
        /// What stands in its header.
        found: i32,
    },
    /// The file was written by a newer chitin.
    #[error("{} has schema {found}, this chitin knows up to {known}: run a newer chitin", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// A check found damage.
    #[error("{} is damaged: {detail}; put a copy from before in its place", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// The first finding.
        detail: String,
    },
    /// The database cannot be written to.
    #[error("{} cannot be written to: it or its file system is read-only", path.display())]
    ReadOnly {
        /// The database.
        path: PathBuf,
    },
    /// Opening or preparing the database failed.
    #[error("cannot {step} the database {}", path.display())]
    Open {
        /// The database.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A setting of the database is not what it was set to.
    #[error("the database {} does not take {pragma} = {wanted}: it is {found}", path.display())]
    Setting {
        /// The database.
        path: PathBuf,
        /// Which.
        pragma: &'static str,
        /// What was set.
        wanted: i64,
        /// What it is.
        found: i64,
    },
    /// A migration failed; the database is as it was before it.
    #[error("migration to schema {to} failed")]
    Migrate {
        /// The schema it was to lead to.
        to: i64,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// An operation failed in SQLite.
    #[error("{step} failed in the database")]
    Sql {
        /// Which.
        step: &'static str,
        /// SQLite's reason.
        source: rusqlite::Error,
    },
    /// A row is gone, ended, or belongs to another gateway: an invariant is broken.
    #[error("{step}: row {seq} is missing or not this gateway's")]
    Fenced {
        /// Which operation.
        step: &'static str,
        /// The row's key, mostly the task's place in the admission sequence.
        seq: i64,
    },
    /// A stored value means nothing.
    #[error("{column} of row {seq} holds a value that means nothing: the database is damaged")]
    Meaningless {
        /// Table and column.
        column: &'static str,
        /// The row's key.
        seq: i64,
    },
    /// The transaction had failed already; nothing of it was committed.
    #[error("the transaction had failed already, so it was rolled back")]
    Spoiled,
    /// Another file of the store failed.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// What an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was stored, for sure, and the store goes on.
    No(NoReason),
    /// Nobody knows what the disk holds: stop answering, end, and let the next life look.
    Unknown,
    /// The database is damaged.
    Corrupt,
    /// The file or the SQLite is not one this program may work with.
    Foreign,
    /// An invariant is broken: the fault is ours, and the process should end.
    Broken,
}

/// Why nothing was stored: the whole list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoReason {
    /// The disk is full.
    Full,
    /// Somebody else held the database for longer than the busy timeout.
    Busy,
    /// A row that must be unique is there already.
    Constraint,
    /// A value is larger than SQLite takes.
    TooBig,
    /// The file or the file system is read-only, or cannot be opened.
    Unwritable,
}

impl StoreError {
    /// What it means for whoever asked.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::SqliteTooOld { .. } | Self::ForeignFile { .. } | Self::NewerSchema { .. } => {
                Verdict::Foreign
            }
            Self::Damaged { .. } | Self::Meaningless { .. } => Verdict::Corrupt,
            Self::ReadOnly { .. } => Verdict::No(NoReason::Unwritable),
            Self::Open { source, .. } | Self::Migrate { source, .. } | Self::Sql { source, .. } => {
                of_sqlite(source)
            }
            Self::Setting { .. } | Self::Fenced { .. } | Self::Spoiled => Verdict::Broken,
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Verdict::No(NoReason::Full),
                _ => Verdict::Unknown,
            },
        }
    }
}

impl StoreError {
    /// Damage that shows itself while a database is opened is said with what can be done about it.
    pub(crate) fn or_damaged(self, path: &Path) -> Self {
        match (&self, self.verdict()) {
            (
                Self::Open { source, .. } | Self::Migrate { source, .. } | Self::Sql { source, .. },
                Verdict::Corrupt,
            ) => Self::Damaged { path: path.to_owned(), detail: source.to_string() },
            _ => self,
        }
    }
}

fn of_sqlite(error: &rusqlite::Error) -> Verdict {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => Verdict::No(NoReason::Full),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            Verdict::No(NoReason::Busy)
        }
        Some(ErrorCode::ConstraintViolation) => Verdict::No(NoReason::Constraint),
        Some(ErrorCode::TooBig) => Verdict::No(NoReason::TooBig),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            Verdict::No(NoReason::Unwritable)
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Verdict::Corrupt,
        Some(ErrorCode::ApiMisuse | ErrorCode::ParameterOutOfRange | ErrorCode::TypeMismatch) => {
            Verdict::Broken
        }
        // I/O, memory, and whatever a newer SQLite may think of: the commit may or may not have happened.
        Some(_) => Verdict::Unknown,
        None => match error {
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..) => Verdict::Corrupt,
            _ => Verdict::Broken,
        },
    }
}

/// Names the step for an error of SQLite.
pub(crate) fn sql(step: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sql { step, source }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn verdict(code: i32) -> Verdict {
        sql("commit")(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)).verdict()
    }

    #[test]
    fn only_a_clean_refusal_is_a_no() {
        assert_eq!(verdict(ffi::SQLITE_FULL), Verdict::No(NoReason::Full));
        assert_eq!(verdict(ffi::SQLITE_BUSY), Verdict::No(NoReason::Busy));
        assert_eq!(verdict(ffi::SQLITE_BUSY_SNAPSHOT), Verdict::No(NoReason::Busy));
        assert_eq!(verdict(ffi::SQLITE_CONSTRAINT_UNIQUE), Verdict::No(NoReason::Constraint));
        assert_eq!(verdict(ffi::SQLITE_TOOBIG), Verdict::No(NoReason::TooBig));
        assert_eq!(verdict(ffi::SQLITE_READONLY), Verdict::No(NoReason::Unwritable));
    }

    #[test]
    fn whatever_the_disk_says_is_unknown() {
        for code in [
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_SHMSIZE,
            ffi::SQLITE_NOMEM,
            ffi::SQLITE_INTERNAL,
        ] {
            assert_eq!(verdict(code), Verdict::Unknown, "{code}");
        }
        assert_eq!(verdict(ffi::SQLITE_CORRUPT), Verdict::Corrupt);
        assert_eq!(verdict(ffi::SQLITE_NOTADB), Verdict::Corrupt);
    }

    #[test]
    fn a_damaged_database_names_the_way_out() {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_NOTADB), None);
        let error = sql("open")(source).or_damaged(Path::new("/data/chitin.db"));
        assert!(error.to_string().contains("/data/chitin.db"), "{error}");
        assert!(error.to_string().contains("a copy from before"), "{error}");
    }
}
