//! Works the write-ahead log off in the background, on a connection of its own, so that commits never do.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chitin_store::{Checkpointer, StoreError, StoreOptions};

use super::batch::chain;

/// Below this there is nothing worth a sync of the database: four megabytes are some ten thousand small commits.
const WORTH_BYTES: u64 = 4_000_000;
/// How often the log's size is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The thread that checkpoints, until this is dropped.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(crate) fn spawn(database: PathBuf, options: &StoreOptions) -> Result<Self, StoreError> {
        let mut checkpointer = Checkpointer::open(&database, options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut wal = database.into_os_string();
        wal.push("-wal");
        let wal = PathBuf::from(wal);
        let thread = thread::Builder::new().name("chitin-checkpoint".to_owned()).spawn(move || {
            let mut seen = 0;
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK_EVERY);
                let bytes = std::fs::metadata(&wal).map_or(0, |meta| meta.len());
                if bytes < WORTH_BYTES && bytes == seen {
                    continue;
                }
                seen = bytes;
                if bytes >= WORTH_BYTES
                    && let Err(error) = checkpointer.passive()
                {
                    tracing::warn!(error = %chain(&error), "a checkpoint failed; the next one tries again");
                }
            }
        });
        let thread = thread.map_err(|source| StoreError::File {
            step: "start the checkpoint thread for",
            path: PathBuf::from("chitin.db"),
            source,
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            _ = thread.join();
        }
    }
}
