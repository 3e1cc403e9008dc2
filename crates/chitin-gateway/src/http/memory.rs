//! The gateway's own memory: measured, and new work is refused before there is too much of it (R1.3).
//!
//! Intuition: budgets bound what is known to be held; this bounds what is not. At 92 % of what the gateway may have,
//! new work is turned away and the heap's free pages are given back; below 85 % it is taken again, so that it does
//! not flutter around one line.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chitin_core::{EventName, Limits};
use chitin_shim::groups::MemoryCap;
use chitin_shim::heap;
use serde_json::json;

use crate::events::Events;

/// Refuses at this part of a hundred, and takes again below that one.
const SHED_AT: u64 = 92;
const TAKE_BELOW: u64 = 85;

/// The memory.
#[derive(Debug)]
pub(crate) struct Memory {
    most_bytes: u64,
    /// A control group's bound, where it is tighter than what is allowed; others are in it, too.
    cap: Option<MemoryCap>,
    used_bytes: AtomicU64,
    shedding: AtomicBool,
}

impl Memory {
    pub(crate) fn new(limits: &Limits) -> Self {
        let most_bytes = limits.gateway_memory_bytes;
        let cap = MemoryCap::find().filter(|cap| cap.limit_bytes < most_bytes);
        if let Some(cap) = &cap {
            let (wanted, most) = (most_bytes, cap.limit_bytes);
            tracing::warn!(wanted, most, "a control group allows for less memory than the gateway may have");
        }
        Self { most_bytes, cap, used_bytes: AtomicU64::new(0), shedding: AtomicBool::new(false) }
    }

    /// What there may be at most.
    pub(crate) fn most_bytes(&self) -> u64 {
        self.cap.as_ref().map_or(self.most_bytes, |cap| cap.limit_bytes)
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// New work is to be refused.
    pub(crate) fn is_shedding(&self) -> bool {
        self.shedding.load(Ordering::Relaxed)
    }

    /// Measures; whether it is too much, so that whoever keeps what can be had again lets it go: what was under way when it
    /// became too much, too.
    pub(crate) fn look(&self, events: &Events) -> bool {
        let own = heap::own_bytes().unwrap_or(0);
        // Whoever shares the group is killed for the same memory.
        let used_bytes = self.cap.as_ref().and_then(MemoryCap::used_bytes).map_or(own, |all| all.max(own));
        self.used_bytes.store(used_bytes, Ordering::Relaxed);
        let before = self.is_shedding();
        let sheds = is_too_much(used_bytes, self.most_bytes(), before);
        self.shedding.store(sheds, Ordering::Relaxed);
        let detail = json!({"reason": "memory", "used_bytes": used_bytes, "limit_bytes": self.most_bytes()});
        match (before, sheds) {
            (false, true) => events.tell(EventName::ShedBegan, detail),
            (true, false) => events.tell(EventName::ShedEnded, detail),
            _ => {}
        }
        if sheds {
            heap::trim();
        }
        sheds
    }
}

fn is_too_much(used_bytes: u64, most_bytes: u64, is_shedding: bool) -> bool {
    let line = if is_shedding { TAKE_BELOW } else { SHED_AT };
    used_bytes.saturating_mul(100) >= most_bytes.saturating_mul(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sheds_at_one_line_and_takes_again_at_another() {
        const MOST: u64 = 500_000_000;
        assert!(!is_too_much(459_999_999, MOST, false) && is_too_much(460_000_000, MOST, false));
        assert!(is_too_much(425_000_000, MOST, true) && !is_too_much(424_999_999, MOST, true));
    }

    #[test]
    fn what_is_measured_is_what_is_there() {
        let memory = Memory::new(&Limits::default());
        assert!(!memory.look(&Events::default()));
        assert!((100_000..400_000_000).contains(&memory.used_bytes()), "{}", memory.used_bytes());
        assert!(!memory.is_shedding());
        let full = Memory { most_bytes: memory.used_bytes(), ..Memory::new(&Limits::default()) };
        assert!(full.look(&Events::default()) && full.is_shedding());
        assert!(full.look(&Events::default()), "for as long as it is too much");
    }
}
