//! All connections: how many there may be, a share for each door, and the one who looks after them, so that those who
//! send, read or idle for too long do not hold what others wait for (R0.4, R1.2).
//!
//! Intuition: patience costs nothing while there is room. Once few places are left, whoever does nothing with theirs
//! gives it up after a second: a thousand slow senders then take turns among themselves, and nobody else notices.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chitin_core::Limits;
use chitin_shim::descriptors;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::line::{Line, Patience};
use crate::clock;

/// Between two looks at all connections: a look costs microseconds, and nobody's time is shorter than a few of them.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The patience with whoever does nothing, where few places are left.
const SCARCE_MS: i64 = 1_000;
/// The part that no door has alone: whoever floods the one leaves the other open.
const OTHERS_PART: u64 = 8;
/// Places are few when fewer than this part of them is left, which a flood at one door alone makes them, too.
const FEW_PART: u64 = 4;

/// A place for a connection, of all and of its door's.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_door: OwnedSemaphorePermit,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Connections {
    most: u64,
    /// What the configuration asks for, if the descriptors do not allow it.
    wanted: Option<u64>,
    of_all: Arc<Semaphore>,
    doors: [Arc<Semaphore>; 2],
    patience: Patience,
    now_ms: Arc<AtomicI64>,
    next: AtomicU64,
    lines: Mutex<Lines>,
    pub(super) turned_away: AtomicU64,
    pub(super) cut: AtomicU64,
}

#[derive(Debug, Default)]
struct Lines {
    by_number: HashMap<u64, Arc<Line>>,
    stopping: bool,
}

/// Over what a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Tcp,
    Unix,
}

/// At most as many as the limit says, and fewer than half of the descriptors: the rest is for what work needs.
pub(crate) fn most_connections(limits: &Limits, descriptors: u64) -> u64 {
    limits.connections.min(descriptors.div_ceil(2).saturating_sub(1)).max(2)
}

impl Connections {
    fn new(limits: &Limits, descriptors: u64) -> Self {
        let most = most_connections(limits, descriptors);
        let permits = |value: u64| usize::try_from(value).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        let of_door = most - (most / OTHERS_PART).max(1);
        let ms = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Self {
            most,
            wanted: (most < limits.connections).then_some(limits.connections),
            of_all: Arc::new(Semaphore::new(permits(most))),
            doors: [(); 2].map(|()| Arc::new(Semaphore::new(permits(of_door)))),
            patience: Patience {
                head_ms: ms(limits.header_timeout_ms),
                idle_ms: ms(limits.idle_timeout_ms),
                stalled_ms: ms(limits.answer_timeout_ms),
            },
            now_ms: Arc::new(AtomicI64::new(clock::boottime_ms())),
            next: AtomicU64::new(0),
            lines: Mutex::default(),
            turned_away: AtomicU64::new(0),
            cut: AtomicU64::new(0),
        }
    }

    /// Those that this process can keep, its descriptors raised to what the system grants.
    pub(crate) fn of_process(limits: &Limits) -> Self {
        if let Err(error) = descriptors::raise() {
            tracing::warn!(%error, "the limit of file descriptors could not be raised");
        }
        let descriptors = descriptors::most();
        let connections = Self::new(limits, descriptors);
        if let Some(wanted) = connections.wanted() {
            let most = connections.most();
            tracing::warn!(wanted, most, descriptors, "file descriptors allow for fewer connections");
        }
        connections
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }

    /// The configured bound, where the descriptors set a lower one.
    pub(crate) fn wanted(&self) -> Option<u64> {
        self.wanted
    }

    fn left(&self) -> u64 {
        u64::try_from(self.of_all.available_permits()).unwrap_or(u64::MAX)
    }

    /// A place for one more; whoever comes meanwhile waits in the backlog.
    pub(super) async fn place(&self, door: Door) -> Option<Place> {
        let of_door = self.doors.get(door as usize)?;
        let of_door = Arc::clone(of_door).acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.of_all).acquire_owned().await.ok()?;
        Some(Place { _of_all: of_all, _of_door: of_door })
    }

    /// Watches over one more, until what is returned is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        let line = Arc::new(Line::new(Arc::clone(&self.now_ms)));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut lines) = self.lines.lock() {
            if lines.stopping {
                line.end();
            }
            lines.by_number.insert(number, Arc::clone(&line));
        }
        Entered { connections: Arc::clone(self), number, line }
    }

    /// A look at all of them, after which those that are overdue end. Where much of the memory for answers is taken, so do
    /// those who take nothing of theirs.
    pub(super) fn look(&self, now_ms: i64, answers_are_many: bool) {
        self.now_ms.store(now_ms, Ordering::Relaxed);
        let patience = self.patience_with(self.left(), answers_are_many);
        let Ok(lines) = self.lines.lock() else { return };
        for line in lines.by_number.values().filter(|line| line.is_overdue(patience)) {
            self.cut.fetch_add(1, Ordering::Relaxed);
            line.cut();
        }
    }

    fn patience_with(&self, left: u64, answers_are_many: bool) -> Patience {
        let Patience { head_ms, idle_ms, stalled_ms } = self.patience;
        let are_few = left < self.most / FEW_PART;
        let at_most = |ms: i64, is_scarce: bool| if is_scarce { ms.min(SCARCE_MS) } else { ms };
        Patience {
            head_ms: at_most(head_ms, are_few),
            idle_ms: at_most(idle_ms, are_few),
            stalled_ms: at_most(stalled_ms, are_few || answers_are_many),
        }
    }

    /// All end once they have their answers.
    pub(super) fn end(&self) {
        if let Ok(mut lines) = self.lines.lock() {
            lines.stopping = true;
            lines.by_number.values().for_each(|line| line.end());
        }
    }
}

/// A connection that is watched over.
#[derive(Debug)]
pub(super) struct Entered {
    connections: Arc<Connections>,
    number: u64,
    pub(super) line: Arc<Line>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Ok(mut lines) = self.connections.lines.lock() {
            lines.by_number.remove(&self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(most: u64, descriptors: u64) -> Arc<Connections> {
        let limits = Limits { connections: most, ..Limits::default() };
        Arc::new(Connections::new(&limits, descriptors))
    }

    #[test]
    fn connections_take_less_than_half_of_the_descriptors() {
        assert_eq!(
            (connections(4_096, 1_024).most(), connections(4_096, 1_024).wanted()),
            (511, Some(4_096))
        );
        assert_eq!((connections(4_096, 20_000).most(), connections(4_096, 20_000).wanted()), (4_096, None));
        assert_eq!(connections(4_096, u64::MAX).most(), 4_096);
    }

    #[test]
    fn patience_ends_where_places_do() {
        let connections = connections(80, 20_000);
        assert_eq!(connections.patience_with(20, false), connections.patience);
        let scarce = Patience { head_ms: SCARCE_MS, idle_ms: SCARCE_MS, stalled_ms: SCARCE_MS };
        assert_eq!(connections.patience_with(19, false), scarce);
        let slow = Patience { stalled_ms: SCARCE_MS, ..connections.patience };
        assert_eq!(
            connections.patience_with(20, true),
            slow,
            "they hold what others wait to be answered from"
        );
    }

    #[test]
    fn a_flood_at_one_door_leaves_the_other_open() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let connections = connections(16, 20_000);
            let mut held = Vec::new();
            let soon = Duration::from_millis(20);
            while let Ok(place) = tokio::time::timeout(soon, connections.place(Door::Tcp)).await {
                held.push(place.unwrap());
            }
            assert_eq!(held.len(), 14);
            held.push(connections.place(Door::Unix).await.unwrap());
            assert_eq!(connections.left(), 1);
            held.clear();
            assert_eq!(connections.left(), 16);
        });
    }

    #[test]
    fn whoever_comes_after_the_end_began_ends_too() {
        let connections = connections(16, 20_000);
        let before = connections.enter();
        connections.end();
        let after = connections.enter();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for entered in [before, after] {
            assert!(!runtime.block_on(entered.line.is_to_end()));
        }
        assert!(connections.lines.lock().unwrap().by_number.is_empty());
    }
}
