//! Who waits for which task. A wake-up carries nothing: whoever is woken looks at the store, which is the truth.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chitin_core::TaskId;
use tokio::sync::Notify;

/// The waiting, by task. Bounded by the budget of long polls and streams.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    by_task: Mutex<HashMap<TaskId, Arc<Notify>>>,
    waiting: AtomicUsize,
}

impl Waiters {
    /// Begins to wait; to be called before the task is looked at, so that no change falls between.
    pub(crate) fn watch(self: &Arc<Self>, id: TaskId) -> Watch {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let notify = match self.by_task.lock() {
            Ok(mut by_task) => Arc::clone(by_task.entry(id).or_default()),
            Err(_) => Arc::default(),
        };
        Watch { waiters: Arc::clone(self), id, notify }
    }

    /// The task has changed.
    pub(crate) fn wake(&self, id: TaskId) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        if let Ok(by_task) = self.by_task.lock()
            && let Some(notify) = by_task.get(&id)
        {
            notify.notify_waiters();
        }
    }
}

/// One who waits.
#[derive(Debug)]
pub(crate) struct Watch {
    waiters: Arc<Waiters>,
    id: TaskId,
    notify: Arc<Notify>,
}

impl Watch {
    /// Resolves at the first change after this call, whenever it is polled.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.waiters.waiting.fetch_sub(1, Ordering::SeqCst);
        if let Ok(mut by_task) = self.waiters.by_task.lock() {
            // Ours and the map's: nobody else waits.
            let last = by_task.get(&self.id).is_some_and(|notify| Arc::strong_count(notify) <= 2);
            if last {
                by_task.remove(&self.id);
            }
        }
    }
}
