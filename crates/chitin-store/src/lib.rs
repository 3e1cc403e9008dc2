//! chitin on SQLite: the store behind the core's [`Tx`](chitin_core::Tx), the read side, and the files' upkeep.
//!
//! One [`Writer`] holds the only connection that changes tasks; its transactions are the core's. A [`Checkpointer`]
//! works the write-ahead log off beside it, [`Reader`]s answer questions from snapshots, and a [`Ballast`] keeps some
//! room on a full disk. Only this crate knows SQL, and it decides nothing: states, order and retries are the core's.
//!
//! Invariant: what [`Writer::open`] lets anyone read has been worked into the database file and synced.
//! Invariant: an error is a *no* only when the transaction is known to be rolled back; see [`Verdict`].

mod backup;
mod ballast;
pub mod bench;
mod codes;
mod error;
mod migrate;
mod open;
mod read;
mod row;
mod tx;
mod wal;
mod write;
mod writer;

pub use backup::{Adopted, Copied, adopt, copy};
pub use ballast::Ballast;
pub use error::{NoReason, StoreError, Verdict};
pub use open::{Left, StoreOptions};
pub use read::{
    Counts, EndMeta, EventBounds, EventPlace, Filter, ListedTask, Page, Reader, Resolved, ResultMeta,
    SpoolVerdict, StateFilter, StoredEnd, StoredEvent, TaskDetail,
};
pub use tx::{Commit, WriteTx};
pub use wal::{Checkpointer, Restart, WalState};
pub use writer::{TokenRow, Writer};
