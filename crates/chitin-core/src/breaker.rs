//! A circuit breaker (R1.4): keeps a dependency that fails from costing everybody who would ask it its timeout. The store
//! has none: without it nothing goes on, so it is probed all the time.
//!
//! Intuition first: one failure says little, five in a row say that the next call will fail as well. From then on nobody
//! asks, and after a while one call, the probe, finds out whether it is worth asking again.
//!
//! ```text
//!            failures in a row           probe()
//!   CLOSED ───────────────────▶ OPEN ───────────────▶ HALF_OPEN
//!     ▲  a success counts anew   ▲  not before its time   │   │
//!     │                          └────────────────────────┘   │
//!     │                            failed, or lost            │
//!     └───────────────────────────────────────────────────────┘
//!                               succeeded
//! ```
//!
//! A pure machine: time is an argument, in milliseconds of a clock that never steps. Calls that were let through carry a
//! [`Ticket`]; what they report counts in the phase that let them through and in no later one, so a call that was slow
//! to fail neither opens a breaker again nor is taken for the probe.
//!
//! Invariant: while it is not closed no call is let through but the one probe.
//! Invariant: a probe that is never heard of counts as failed once its deadline has passed.

/// When a breaker opens, and when it is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerPolicy {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// From opening, or a failed probe, to the next probe.
    pub probe_after_ms: i64,
    /// How long a probe may take before it counts as failed.
    pub probe_deadline_ms: i64,
}

/// How a call went, as far as the dependency is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// It did what it is for.
    Succeeded,
    /// It did not: an error, no answer in time, nobody there.
    Failed,
    /// Nothing is known of it: the call was refused for the caller's own fault or for plain load, or was given up.
    SaysNothing,
}

/// A call that was let through; hand it back with how the call went.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a probe that is not reported counts as failed"]
pub struct Ticket {
    phase: u64,
}

/// What a report made of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// From closed to open.
    Opened,
    /// The probe failed: open again.
    StaysOpen,
    /// The probe succeeded.
    Closed,
}

/// How a breaker stands, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerView {
    /// `closed`, `open` or `half_open`.
    pub state: &'static str,
    /// Failures in a row.
    pub failures: u32,
    /// Until it is probed; 0: whoever comes next probes. `None` unless it is open.
    pub next_probe_ms: Option<i64>,
    /// How often it has opened from closed.
    pub opened: u64,
    /// Calls that were not let through.
    pub refused: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { probe_at_ms: i64 },
    HalfOpen { deadline_ms: i64 },
}

/// One dependency's breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    state: State,
    /// In a row; goes on over failed probes.
    failures: u32,
    /// Counts the changes of state: a ticket of another phase says nothing.
    phase: u64,
    opened: u64,
    refused: u64,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(policy: BreakerPolicy) -> Self {
        let policy = BreakerPolicy { failures: policy.failures.max(1), ..policy };
        Self { policy, state: State::Closed, failures: 0, phase: 0, opened: 0, refused: 0 }
    }

    /// Lets a call through while closed.
    pub fn call(&mut self, now_ms: i64) -> Option<Ticket> {
        self.lose_probe(now_ms);
        if self.state == State::Closed {
            return Some(Ticket { phase: self.phase });
        }
        self.refused = self.refused.saturating_add(1);
        None
    }

    /// Lets the one probe through once its time has come.
    pub fn probe(&mut self, now_ms: i64) -> Option<Ticket> {
        self.lose_probe(now_ms);
        match self.state {
            State::Open { probe_at_ms } if probe_at_ms <= now_ms => {
                let deadline_ms = now_ms.saturating_add(self.policy.probe_deadline_ms);
                self.enter(State::HalfOpen { deadline_ms });
                Some(Ticket { phase: self.phase })
            }
            State::Closed | State::Open { .. } | State::HalfOpen { .. } => None,
        }
    }

    /// Hears how a call went.
    pub fn report(&mut self, now_ms: i64, ticket: Ticket, called: Called) -> Option<Change> {
        self.lose_probe(now_ms);
        if ticket.phase != self.phase {
            return None;
        }
        let is_probe = self.state != State::Closed;
        let change = match (called, is_probe) {
            (Called::Succeeded, false) => {
                self.failures = 0;
                None
            }
            (Called::Succeeded, true) => {
                self.failures = 0;
                self.enter(State::Closed);
                Some(Change::Closed)
            }
            (Called::Failed, false) => {
                self.failures = self.failures.saturating_add(1);
                (self.failures >= self.policy.failures).then(|| {
                    self.opened = self.opened.saturating_add(1);
                    self.open(now_ms);
                    Change::Opened
                })
            }
            (Called::Failed, true) => {
                self.failures = self.failures.saturating_add(1);
                self.open(now_ms);
                Some(Change::StaysOpen)
            }
            (Called::SaysNothing, false) => None,
            (Called::SaysNothing, true) => {
                // Nothing was learnt: the next one may try at once.
                self.enter(State::Open { probe_at_ms: now_ms });
                None
            }
        };
        self.invariants();
        change
    }

    /// Milliseconds until a probe is let through; 0: now. `None`: while it is closed, or one is under way.
    #[must_use]
    pub fn next_probe_ms(&self, now_ms: i64) -> Option<i64> {
        match self.state {
            State::Closed => None,
            State::Open { probe_at_ms } => Some(probe_at_ms.saturating_sub(now_ms).max(0)),
            State::HalfOpen { deadline_ms } if deadline_ms > now_ms => None,
            State::HalfOpen { deadline_ms } => {
                let probe_at_ms = deadline_ms.saturating_add(self.policy.probe_after_ms);
                Some(probe_at_ms.saturating_sub(now_ms).max(0))
            }
        }
    }

    /// For people.
    #[must_use]
    pub fn view(&self, now_ms: i64) -> BreakerView {
        BreakerView {
            state: match self.state {
                State::Closed => "closed",
                State::HalfOpen { deadline_ms } if deadline_ms > now_ms => "half_open",
                State::Open { .. } | State::HalfOpen { .. } => "open",
            },
            failures: self.failures,
            next_probe_ms: self.next_probe_ms(now_ms),
            opened: self.opened,
            refused: self.refused,
        }
    }

    /// A probe whose deadline has passed failed when it passed.
    fn lose_probe(&mut self, now_ms: i64) {
        if let State::HalfOpen { deadline_ms } = self.state
            && deadline_ms <= now_ms
        {
            self.failures = self.failures.saturating_add(1);
            self.open(deadline_ms);
        }
    }

    fn open(&mut self, since_ms: i64) {
        self.enter(State::Open { probe_at_ms: since_ms.saturating_add(self.policy.probe_after_ms) });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.phase = self.phase.wrapping_add(1);
    }

    fn invariants(&self) {
        let is_enough = self.failures >= self.policy.failures;
        debug_assert_eq!(self.state != State::Closed, is_enough, "open exactly from enough failures on");
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;
