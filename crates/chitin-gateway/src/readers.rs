//! Read-only database connections, opened when first needed, at most as many as the limit says (R4.4), whoever reads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use chitin_store::{Reader, StoreError, StoreOptions, Verdict};
use tokio::runtime::Handle;
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
    handle: Handle,
}

impl Readers {
    pub(crate) fn new(
        database: PathBuf,
        options: StoreOptions,
        most: u64,
        status: Arc<EngineStatus>,
        handle: Handle,
    ) -> Self {
        let permits = Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(1).max(1)));
        let idle = Mutex::default();
        Self { shared: Arc::new(Shared { database, options, status, idle, permits, handle }) }
    }

    /// Reads on this thread, which may block, and is none of the async ones: for those that start processes and sweep.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Reader) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let permits = &self.shared.permits;
        // Nobody closes it, so there is a permit in the end.
        let _permit = permits.try_acquire().or_else(|_| self.shared.handle.block_on(permits.acquire()));
        self.using(work)
    }

    /// With a permit in hand.
    fn using<T>(&self, work: impl FnOnce(&Reader) -> Result<T, StoreError>) -> Result<T, StoreError> {
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
            let result = readers.using(work);
            // Here, not where it is waited for: whoever asked may be gone, and the connection is still in use.
            drop(permit);
            result
        };
        tasks.blocking(read).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::thread;
    use std::time::Duration;

    use chitin_core::Limits;
    use chitin_store::Writer;
    use tokio::sync::watch;

    use super::*;

    const MOST: u64 = 3;

    /// Who reads at the moment, and how many did at most; nobody is done before they are let go.
    #[derive(Default)]
    struct Hall {
        inside: Mutex<(u64, u64, bool)>,
        changed: Condvar,
    }

    impl Hall {
        fn stay(&self) {
            let mut inside = self.inside.lock().unwrap();
            inside.0 += 1;
            inside.1 = inside.1.max(inside.0);
            self.changed.notify_all();
            let mut inside = self.changed.wait_while(inside, |(_, _, go)| !*go).unwrap();
            inside.0 -= 1;
        }

        fn until_full(&self) {
            drop(self.changed.wait_while(self.inside.lock().unwrap(), |(now, ..)| *now < MOST).unwrap());
        }

        fn let_go(&self) -> u64 {
            let mut inside = self.inside.lock().unwrap();
            inside.2 = true;
            self.changed.notify_all();
            inside.1
        }
    }

    #[test]
    fn no_more_read_at_once_than_may_whoever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("chitin.db");
        let options = StoreOptions::new([1; 16], &Limits::default());
        drop(Writer::open(&database, &options).unwrap());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let (_stop, stopped) = watch::channel(false);
        let tasks = Tasks::new(runtime.handle().clone(), stopped);
        let readers = Readers::new(database, options, MOST, Arc::default(), runtime.handle().clone());
        let hall = Arc::new(Hall::default());
        let visit = {
            let hall = Arc::clone(&hall);
            move |_: &Reader| {
                hall.stay();
                Ok(())
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| readers.with(visit.clone()).unwrap())).collect();
            let asked: Vec<_> = (0..8)
                .map(|_| {
                    let (readers, tasks, visit) = (readers.clone(), tasks.clone(), visit.clone());
                    scope.spawn(|| {
                        let handle = readers.shared.handle.clone();
                        handle.block_on(async move { readers.read(&tasks, visit).await.unwrap().unwrap() })
                    })
                })
                .collect();
            hall.until_full();
            // Whoever else could come in has had the time for it.
            thread::sleep(Duration::from_millis(50));
            hall.let_go();
            threads.into_iter().chain(asked).for_each(|one| one.join().unwrap());
        });
        assert_eq!(hall.let_go(), MOST);
        assert!(readers.shared.idle.lock().unwrap().len() <= usize::try_from(MOST).unwrap(), "connections");
    }
}
