//! What turns load away: a count for each bound, and how long whoever was turned away should wait (R0.4, R2.1).
//!
//! Intuition: if a second turns away three times as many as it serves, whoever comes back at once is mostly in vain;
//! spread over three seconds, all are served. So the hint is refusals over service of the last second, and behind a
//! queue that is over its bound, the time it takes to drain. What does not pass by serving (a full disk, memory) is
//! waited for as long again as it has lasted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use chitin_core::Limits;
use chitin_proto::http::Code;

use crate::engine::EngineStatus;

/// The longest hint, in seconds: beyond that a client looks by itself.
const LONGEST_S: u64 = 60;
/// Between two looks at what happened.
const EVERY_MS: i64 = 1_000;
/// Without refusals for so long, it has passed.
const PASSED_MS: i64 = 5_000;

macro_rules! bounds {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $code:ident, $kind:ident;)*) => {
        /// What turns load away.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bound { $($(#[$doc])* $name,)* }

        const KINDS: &[Kind] = &[$(Kind::$kind,)*];
        const BOUNDS: usize = KINDS.len();

        impl Bound {
            /// What the client is told.
            pub(super) fn code(self) -> Code { match self { $(Self::$name => Code::$code,)* } }

            /// All of them, by the word that the status uses.
            pub(super) const ALL: [(&'static str, Self); BOUNDS] = [$(($word, Self::$name),)*];
        }
    };
}

/// How a bound passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// By serving requests.
    Served,
    /// By commits.
    Committed,
    /// By tasks that leave the queue.
    Drained,
    /// By itself, or by a person.
    Lasting,
}

bounds! {
    /// Requests in flight.
    Requests = "requests", Overloaded, Served;
    /// Long polls and streams.
    Watchers = "watchers", Overloaded, Served;
    /// Bytes of bodies.
    Bodies = "body_bytes", Overloaded, Served;
    /// Bytes of answers.
    Answers = "answer_bytes", Overloaded, Served;
    /// The gateway's memory.
    Memory = "memory", Overloaded, Lasting;
    /// Commands that wait for the writer.
    Commands = "commands", Overloaded, Committed;
    /// A commit did not come in time.
    Late = "late", SubmitTimeout, Committed;
    /// The write-ahead log's cap.
    Log = "log", Overloaded, Lasting;
    /// Open tasks are taken up one by one.
    Recovery = "recovery", Overloaded, Lasting;
    /// The store refuses, or a read failed.
    Store = "store", StorageUnavailable, Lasting;
    /// The disk is full.
    Disk = "disk", StorageFull, Lasting;
    /// Waiting tasks.
    Queue = "queue", QueueFull, Drained;
    /// Their bytes.
    QueueBytes = "queue_bytes", QueueFull, Drained;
    /// A client's share of the queue.
    Share = "share", QueueFull, Drained;
    /// One backup at a time.
    Backups = "backups", Overloaded, Lasting;
    /// The gateway stops.
    Stopping = "stopping", Overloaded, Lasting;
}

/// The counts and hints.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: [AtomicU64; BOUNDS],
    hints_s: [AtomicU64; BOUNDS],
    served: AtomicU64,
    /// The last second turned somebody away for want of the gateway's own room.
    many: AtomicBool,
    seen: Mutex<Seen>,
}

/// What was there at the last look.
#[derive(Debug, Default)]
struct Seen {
    at_ms: i64,
    counts: [u64; BOUNDS],
    served: u64,
    committed: u64,
    drained: u64,
    /// Since when, and until when, each turned somebody away.
    spans_ms: [Option<(i64, i64)>; BOUNDS],
}

impl Refusals {
    /// Somebody was turned away; seconds to wait.
    pub(super) fn turned_away(&self, bound: Bound) -> u64 {
        if let Some(count) = self.counts.get(bound as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.hints_s.get(bound as usize).map_or(1, |hint| hint.load(Ordering::Relaxed)).max(1)
    }

    /// How many were, since this gateway began.
    pub(super) fn count(&self, bound: Bound) -> u64 {
        self.counts.get(bound as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// A request was answered and not turned away.
    pub(super) fn served(&self) {
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether requests are being turned away these seconds, for what serving others takes.
    pub(super) fn are_many(&self) -> bool {
        self.many.load(Ordering::Relaxed)
    }

    /// Once a second: what the hints are from here on.
    pub(super) fn look(&self, now_ms: i64, status: &EngineStatus, limits: &Limits) {
        let Ok(mut seen) = self.seen.lock() else { return };
        if now_ms.saturating_sub(seen.at_ms) < EVERY_MS {
            return;
        }
        let figures = status.figures();
        let (_, committed) = status.commits();
        let drained = status.drained();
        let served = self.served.load(Ordering::Relaxed);
        let by_kind = |kind| match kind {
            Kind::Served => served.saturating_sub(seen.served),
            Kind::Committed => committed.saturating_sub(seen.committed),
            Kind::Drained => drained.saturating_sub(seen.drained),
            Kind::Lasting => 0,
        };
        let over = |bound| match bound {
            Bound::Queue => figures.waiting.saturating_sub(limits.waiting_tasks),
            _ => 0,
        };
        let mut counts = [0; BOUNDS];
        let (mut spans_ms, mut many) = (seen.spans_ms, false);
        for (at, (_, bound)) in Bound::ALL.iter().enumerate() {
            let count = self.count(*bound);
            let refused = count.saturating_sub(seen.counts.get(at).copied().unwrap_or(0));
            let Some(((span, hint), kind)) =
                spans_ms.get_mut(at).zip(self.hints_s.get(at)).zip(KINDS.get(at).copied())
            else {
                continue;
            };
            many |= refused > 0 && matches!(kind, Kind::Served | Kind::Committed);
            let lasted_ms = lasted(span, now_ms, refused > 0);
            hint.store(hint_s(refused.max(over(*bound)), by_kind(kind), lasted_ms), Ordering::Relaxed);
            if let Some(place) = counts.get_mut(at) {
                *place = count;
            }
        }
        self.many.store(many, Ordering::Relaxed);
        *seen = Seen { at_ms: now_ms, counts, served, committed, drained, spans_ms };
    }
}

/// How long it has been going on.
fn lasted(span: &mut Option<(i64, i64)>, now_ms: i64, goes_on: bool) -> i64 {
    match (&mut *span, goes_on) {
        (Some((since, last)), true) => {
            *last = now_ms;
            now_ms.saturating_sub(*since)
        }
        (None, true) => {
            *span = Some((now_ms, now_ms));
            0
        }
        (Some((since, last)), false) if now_ms.saturating_sub(*last) < PASSED_MS => {
            last.saturating_sub(*since)
        }
        (_, false) => {
            *span = None;
            0
        }
    }
}

/// Seconds to wait where a second turned so many away and served so many.
fn hint_s(refused: u64, served: u64, lasted_ms: i64) -> u64 {
    let hint_s = if served > 0 { refused.div_ceil(served) } else { lasted_ms.unsigned_abs().div_ceil(1_000) };
    hint_s.clamp(1, LONGEST_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_is_what_was_refused_over_what_was_served() {
        assert_eq!(hint_s(0, 5_000, 0), 1);
        assert_eq!(hint_s(5_001, 5_000, 9_000), 2);
        assert_eq!(hint_s(45_000, 5_000, 0), 9);
        assert_eq!(hint_s(1_000_000, 10, 0), LONGEST_S);
        assert_eq!(hint_s(3, 0, 7_400), 8, "as long again as it has lasted");
        assert_eq!(hint_s(3, 0, 500_000), LONGEST_S);
    }

    #[test]
    fn it_has_passed_when_nobody_was_turned_away_for_a_while() {
        let mut span = None;
        assert_eq!(lasted(&mut span, 1_000, true), 0);
        assert_eq!(lasted(&mut span, 4_000, true), 3_000);
        assert_eq!(lasted(&mut span, 8_000, false), 3_000, "perhaps they only wait");
        assert_eq!(lasted(&mut span, 9_000, false), 0);
        assert_eq!(lasted(&mut span, 10_000, true), 0, "another time");
    }

    #[test]
    fn hints_follow_what_happens() {
        let (refusals, status) = (Refusals::default(), EngineStatus::default());
        let limits = Limits::default();
        refusals.look(10_000, &status, &limits);
        for _ in 0..40 {
            assert_eq!(refusals.turned_away(Bound::Requests), 1);
        }
        for _ in 0..10 {
            refusals.served();
        }
        refusals.look(10_500, &status, &limits);
        assert_eq!(refusals.turned_away(Bound::Requests), 1, "not every moment");
        refusals.look(11_000, &status, &limits);
        assert_eq!(refusals.turned_away(Bound::Requests), 5);
        assert_eq!((refusals.count(Bound::Requests), refusals.count(Bound::Bodies)), (42, 0));
    }
}
