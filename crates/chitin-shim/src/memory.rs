//! Watching a memory limit where the kernel does not end the whole tree by itself: version 1 kills one process and
//! tells; without groups nobody watches but us.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};

use chitin_proto::shim::{Isolation, ResourceLimits};
use nix::sys::eventfd::EventFd;

use crate::groups::Groups;
use crate::{limits, proc};

#[derive(Debug)]
enum Means {
    /// No limit, or the kernel does all of it.
    None,
    /// The kernel is asked to announce once the command has run for a while: most are over by then, and how they ended is
    /// told by the counter.
    NotYet,
    /// The kernel announces; the counter follows a moment later. The file is what the kernel watches.
    Announced { event: EventFd, _control: File },
    /// The counter, looked at from time to time.
    Counter,
    /// The memory of every process of the tree.
    Tree { limit_bytes: u64 },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct MemoryWatch {
    means: Means,
    look_at: Option<u64>,
    looks: u32,
}

impl MemoryWatch {
    /// Nothing to watch.
    pub(crate) fn none() -> Self {
        Self { means: Means::None, look_at: None, looks: 0 }
    }

    /// Watches what the order limits.
    pub(crate) fn new(now: u64, isolation: &Isolation, order: &ResourceLimits, groups: &Groups) -> Self {
        let Some(limit_bytes) = order.memory_bytes else { return Self::none() };
        let polled = |means, pause_ms| Self { means, look_at: Some(now.saturating_add(pause_ms)), looks: 0 };
        match (isolation, groups.holds_memory()) {
            (Isolation::Cgroup2 { .. }, _) => Self::none(),
            (_, false) => polled(Means::Tree { limit_bytes }, limits::MEMORY_POLL_MS),
            (_, true) => polled(Means::NotYet, limits::OOM_UNWATCHED_MS),
        }
    }

    /// Readable when the kernel announces.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.means {
            Means::Announced { event, .. } => Some(event.as_fd()),
            _ => None,
        }
    }

    /// The kernel announced: from now on the counter is worth a look.
    pub(crate) fn announced(&mut self, now: u64) {
        if let Means::Announced { event, .. } = &self.means {
            let _ = event.read();
            self.look_at = Some(now);
            self.looks = limits::OOM_LOOKS;
        }
    }

    /// When [`Self::look`] is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        self.look_at
    }

    /// Looks, if it is time; whether the limit was met.
    pub(crate) fn look(&mut self, now: u64, groups: &Groups) -> bool {
        if self.look_at.is_none_or(|at| now < at) {
            return false;
        }
        if matches!(self.means, Means::NotYet) {
            self.means = match groups.oom_event() {
                Some(Ok((event, control))) => Means::Announced { event, _control: control },
                _ => Means::Counter,
            };
        }
        let (met, again) = match &self.means {
            Means::None | Means::NotYet => (false, None),
            Means::Announced { .. } => {
                self.looks = self.looks.saturating_sub(1);
                (groups.oom_kills() > 0, (self.looks > 0).then_some(limits::OOM_LOOK_MS))
            }
            Means::Counter => (groups.oom_kills() > 0, Some(limits::OOM_POLL_MS)),
            Means::Tree { limit_bytes } => {
                let tree = proc::descendants(std::process::id());
                (proc::exceeds(&tree, *limit_bytes), Some(limits::MEMORY_POLL_MS))
            }
        };
        self.look_at = if met { None } else { again.map(|ms| now.saturating_add(ms)) };
        met
    }
}
