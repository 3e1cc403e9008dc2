//! What a gateway is measured against: the stack it stands on, with nothing of a gateway in it. Used by `chitin bench`
//! alone; nothing of it runs in a gateway.

mod echo;

use std::path::Path;

use chitin_core::Payload;
use chitin_store::StoreError;

pub use echo::echo;

/// Stores tasks in SQLite alone, in a new database at `path`, so many in each transaction, until told otherwise; says
/// how many. `command` and `env` are JSON, as a submission carries them.
///
/// # Errors
/// SQLite's.
pub fn sqlite(
    path: &Path,
    tasks_per_commit: u32,
    command: String,
    env: String,
    go_on: impl FnMut() -> bool,
) -> Result<u64, StoreError> {
    let payload = Payload { command, env, ..Payload::default() };
    chitin_store::bench::rows(path, tasks_per_commit, &payload, go_on)
}
