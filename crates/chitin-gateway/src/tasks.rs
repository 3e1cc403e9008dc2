//! The one place that starts async tasks. Each has a kind, is counted, hears when the gateway stops, and if it panics,
//! that is said once, here, and nothing else falls.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

/// What a task is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskKind {
    /// Accepts connections; ends with the gateway.
    Accept,
    /// Looks after the connections; ends with the runtime, after the last of them.
    Watch,
    /// Carries commands to the writer, and answers back; ends with the runtime.
    Post,
    /// Serves one connection; drained at the end, under a deadline.
    Connection,
    /// Feeds one stream of log bytes; ends with its reader or the gateway.
    Stream,
    /// Listens to one shim; ends with it, or is dropped with the gateway: the shim goes on.
    Attempt,
    /// Fills the cache; ends with the gateway.
    Cache,
    /// Housekeeping; ends with the gateway.
    Upkeep,
}

const KINDS: usize = 8;

/// Starts tasks and knows how many there are.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    handle: Handle,
    live: Arc<[AtomicUsize; KINDS]>,
    stop: watch::Receiver<bool>,
}

impl Tasks {
    /// `stop` turns true when the gateway stops.
    pub(crate) fn new(handle: Handle, stop: watch::Receiver<bool>) -> Self {
        Self { handle, live: Arc::new(Default::default()), stop }
    }

    pub(crate) fn spawn(&self, kind: TaskKind, work: impl Future<Output = ()> + Send + 'static) {
        let counted = Counted::new(kind, Arc::clone(&self.live));
        #[expect(clippy::disallowed_methods, reason = "the one place that starts tasks")]
        let _detached = self.handle.spawn(async move {
            work.await;
            drop(counted);
        });
    }

    /// A blocking read of files or database, on the runtime's bounded pool; `None` if it panicked.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn_blocking(work).await.ok()
    }

    pub(crate) fn live(&self, kind: TaskKind) -> usize {
        self.live.get(kind as usize).map_or(0, |live| live.load(Ordering::Relaxed))
    }

    /// Whether the gateway stops, for threads that cannot wait for it.
    pub(crate) fn are_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Resolves when the gateway stops.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.clone();
        _ = stop.wait_for(|stop| *stop).await;
    }

    /// Waits until no task of `kind` is left, at most `patience`. How many are left then.
    pub(crate) async fn drained(&self, kind: TaskKind, patience: Duration) -> usize {
        let gone = async {
            while self.live(kind) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        _ = tokio::time::timeout(patience, gone).await;
        self.live(kind)
    }
}

struct Counted {
    kind: TaskKind,
    live: Arc<[AtomicUsize; KINDS]>,
}

impl Counted {
    fn new(kind: TaskKind, live: Arc<[AtomicUsize; KINDS]>) -> Self {
        if let Some(count) = live.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Self { kind, live }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(count) = self.live.get(self.kind as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if std::thread::panicking() {
            tracing::error!(kind = ?self.kind, "a task panicked");
        }
    }
}
