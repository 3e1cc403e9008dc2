//! Read-only database connections, opened when first needed, at most as many as the limit says (R4.4).

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chitin_store::{Reader, StoreError, StoreOptions, Verdict};
use tokio::sync::Semaphore;

use crate::engine::EngineStatus;
use crate::tasks::Tasks;

/// The pool.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: PathBuf,
    options: StoreOptions,
    status: Arc<EngineStatus>,
    idle: Mutex<Vec<Reader>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn new(
        database: PathBuf,
        options: StoreOptions,
        most: u64,
        status: Arc<EngineStatus>,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1).max(1)));
        Self { shared: Arc::new(Shared { database, options, status, idle: Mutex::default(), permits }) }
    }

    /// Reads on this thread, which may block. For the few threads that start processes; each holds one connection at a
    /// time.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = self.shared.idle.lock().ok().and_then(|mut idle| idle.pop());
        let reader = match idle {
            Some(reader) => Ok(reader),
            None => Reader::open(&self.shared.database, &self.shared.options),
        };
        let result = reader.and_then(|reader| work(&reader).map(|answer| (answer, reader)));
        match result {
            Ok((answer, reader)) => {
                if let Ok(mut idle) = self.shared.idle.lock() {
                    idle.push(reader);
                }
                Ok(answer)
            }
            Err(error) => {
                if error.verdict() == Verdict::Corrupt {
                    self.shared.status.set_damaged(&error);
                }
                Err(error)
            }
        }
    }

    /// Reads off the async threads. `None`: the read panicked.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        tasks: &Tasks,
        work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Option<Result<T, StoreError>> {
        let permit = Arc::clone(&self.shared.permits).acquire_owned().await.ok()?;
        let readers = self.clone();
        let read = move || {
            let result = readers.with(work);
            // Here, not where it is waited for: whoever asked may be gone, and the connection is still in use.
            drop(permit);
            result
        };
        tasks.blocking(read).await
    }
}
