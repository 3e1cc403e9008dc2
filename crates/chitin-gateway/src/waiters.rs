//! Who waits for which task. A wake-up carries nothing: whoever is woken looks at the store, which is the truth.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use chitin_core::TaskId;
use tokio::sync::Notify;

/// The waiting, by task. Bounded by the budget of long polls and streams.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    /// Each with how many wait for it.
    by_task: Mutex<HashMap<TaskId, (Arc<Notify>, usize)>>,
    waiting: AtomicUsize,
}

impl Waiters {
    /// Begins to wait; to be called before the task is looked at, so that no change falls between.
    pub(crate) fn watch(self: &Arc<Self>, id: TaskId) -> Watch {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let notify = match self.by_task.lock() {
            Ok(mut by_task) => {
                let (notify, waiting) = by_task.entry(id).or_default();
                *waiting = waiting.saturating_add(1);
                Arc::clone(notify)
            }
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
            && let Some((notify, _)) = by_task.get(&id)
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
        if let Ok(mut by_task) = self.waiters.by_task.lock()
            && let Entry::Occupied(mut place) = by_task.entry(self.id)
        {
            let (_, waiting) = place.get_mut();
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                place.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_those_who_waited() {
        let waiters = Arc::new(Waiters::default());
        let [one, two] = [1, 2].map(|_| waiters.watch(TaskId([7; 16])));
        drop(one);
        assert_eq!(waiters.by_task.lock().unwrap().len(), 1, "one still waits");
        drop(two);
        assert!(waiters.by_task.lock().unwrap().is_empty());
        assert_eq!(waiters.waiting.load(Ordering::SeqCst), 0);
    }
}
