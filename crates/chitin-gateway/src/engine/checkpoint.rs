//! Works the write-ahead log off in the background, on a connection of its own, so that commits never do; and says
//! when the log has outgrown its cap, so that submissions are refused before the disk is full of it.
//!
//! An I/O error here is as much an *unknown* as in a commit: SQLite counts pages as worked off before they are synced, and a
//! sync that failed may succeed the next time without them. The next life works the whole log off anew; this one must not
//! begin it anew, and ends.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chitin_failpoints::failpoint;
use chitin_store::{Checkpointer, StoreError, StoreOptions, Verdict};

use super::batch::{chain, die};
use super::{EngineStatus, PROBE_EVERY, read_only};

/// Below this there is nothing worth a sync of the database: four megabytes are some thousand small commits.
const WORTH_BYTES: u64 = 4_000_000;
/// How often the log is looked at while there was something to do, and while there was not.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_IDLE: Duration = Duration::from_secs(1);

/// The thread that checkpoints, until this is dropped.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(crate) fn spawn(
        database: PathBuf,
        options: &StoreOptions,
        cap_bytes: u64,
        status: Arc<EngineStatus>,
    ) -> Result<Self, StoreError> {
        let mut checkpointer = Checkpointer::open(&database, options)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut log = database.clone().into_os_string();
        log.push("-wal");
        let folder = database.parent().unwrap_or(&database).to_owned();
        let work = move || {
            let mut pause = LOOK_EVERY;
            let mut worked_off = 0;
            while !stopped.load(Ordering::Relaxed) {
                thread::park_timeout(pause);
                pause = LOOK_IDLE;
                // The file keeps its length when the log in it begins anew: what stands in it, the checkpoint tells.
                let bytes = std::fs::metadata(&log).map_or(0, |meta| meta.len());
                if bytes < WORTH_BYTES {
                    status.set_log_bytes(bytes, cap_bytes);
                    continue;
                }
                failpoint!("checkpoint.before");
                match checkpointer.passive() {
                    Ok(state) => {
                        status.set_log_bytes(state.bytes, cap_bytes);
                        if state.checkpointed_frames != worked_off {
                            worked_off = state.checkpointed_frames;
                            pause = LOOK_EVERY;
                        }
                    }
                    Err(error) if !matches!(error.verdict(), Verdict::No(_)) => {
                        give_up(&folder, &error, &stopped);
                    }
                    Err(error) => {
                        tracing::warn!(error = %chain(&error), "a checkpoint failed; the next one tries again");
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("chitin-checkpoint".to_owned()).spawn(work);
        let thread = thread.map_err(|source| StoreError::File {
            step: "start the checkpoint thread for",
            path: database,
            source,
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

/// What the database's file holds is not known. As in a commit: where the file system has become read-only, what was committed
/// can still be read here, and could not be elsewhere; then this is put off until it can be written to.
fn give_up(folder: &Path, error: &StoreError, stopped: &AtomicBool) {
    if error.verdict() == Verdict::Unknown {
        while read_only::is_read_only(folder) {
            if stopped.load(Ordering::Relaxed) {
                return;
            }
            thread::park_timeout(PROBE_EVERY);
        }
    }
    die(error)
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
