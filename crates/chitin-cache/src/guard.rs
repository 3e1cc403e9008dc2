//! The breaker before Redis: shared by all who would ask, with the clock and the reason of the last failure. The one
//! place that logs that Redis fails.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use chitin_core::{Breaker, BreakerPolicy, BreakerView, Called, Change, Ticket};

use tokio::sync::Notify;

use crate::redis::RedisError;

/// The breaker changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerChange {
    /// Nobody asks Redis any more until a probe succeeds.
    Opened {
        /// The last failure.
        reason: String,
        /// Failures in a row.
        failures: u32,
    },
    /// It is probed.
    Probed,
    /// The probe succeeded.
    Closed,
}

pub(crate) struct Guard {
    state: Mutex<State>,
    /// Whoever probes waits for it to open.
    opened: Notify,
    clock: fn() -> i64,
    on_change: Box<dyn Fn(&BreakerChange) + Send + Sync>,
}

struct State {
    breaker: Breaker,
    /// Why the last call failed; gone once one succeeds.
    reason: Option<String>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("view", &self.view()).finish_non_exhaustive()
    }
}

impl Guard {
    pub(crate) fn new(
        policy: BreakerPolicy,
        clock: fn() -> i64,
        on_change: Box<dyn Fn(&BreakerChange) + Send + Sync>,
    ) -> Self {
        let state = State { breaker: Breaker::new(policy), reason: None };
        Self { state: Mutex::new(state), opened: Notify::new(), clock, on_change }
    }

    /// Whoever panicked with it in hand left it whole: each change is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.clock)()
    }

    /// Lets a call through while closed.
    pub(crate) fn call(&self) -> Option<Ticket> {
        self.state().breaker.call(self.now_ms())
    }

    /// Lets the one probe through once its time has come.
    pub(crate) fn probe(&self) -> Option<Ticket> {
        let ticket = self.state().breaker.probe(self.now_ms());
        if ticket.is_some() {
            (self.on_change)(&BreakerChange::Probed);
        }
        ticket
    }

    /// Resolves when it may be time to probe.
    pub(crate) async fn may_be_probed(&self) {
        let wait_ms = self.state().breaker.next_probe_ms(self.now_ms());
        match wait_ms {
            Some(wait_ms) => tokio::time::sleep(Duration::from_millis(wait_ms.unsigned_abs())).await,
            None => self.opened.notified().await,
        }
    }

    pub(crate) fn view(&self) -> (BreakerView, Option<String>) {
        let state = self.state();
        (state.breaker.view(self.now_ms()), state.reason.clone())
    }

    /// A call that did what it is for.
    pub(crate) fn succeeded(&self, ticket: Ticket) {
        self.heard(ticket, Called::Succeeded, None);
    }

    /// A call of which nothing is to be learnt.
    pub(crate) fn says_nothing(&self, ticket: Ticket) {
        self.heard(ticket, Called::SaysNothing, None);
    }

    pub(crate) fn failed(&self, ticket: Ticket, error: &RedisError) {
        self.heard(ticket, Called::Failed, Some(error.to_string()));
    }

    fn heard(&self, ticket: Ticket, called: Called, reason: Option<String>) {
        let (change, failures, is_first, reason) = {
            let mut state = self.state();
            let now_ms = self.now_ms();
            let change = state.breaker.report(now_ms, ticket, called);
            let failures = state.breaker.view(now_ms).failures;
            let is_first = called == Called::Failed && state.reason.is_none();
            match called {
                Called::Failed => state.reason.clone_from(&reason),
                Called::Succeeded if failures == 0 => state.reason = None,
                Called::Succeeded | Called::SaysNothing => {}
            }
            (change, failures, is_first, reason.unwrap_or_default())
        };
        match change {
            Some(Change::Opened) => {
                tracing::warn!(reason, failures, "the cache is not asked any more: its breaker opened");
                self.opened.notify_one();
                (self.on_change)(&BreakerChange::Opened { reason, failures });
            }
            Some(Change::StaysOpen) => {
                tracing::debug!(reason, failures, "the cache was probed and still fails");
            }
            Some(Change::Closed) => {
                tracing::info!("the cache is asked again: its breaker closed");
                (self.on_change)(&BreakerChange::Closed);
            }
            None if is_first => tracing::warn!(reason, "the cache failed; results come from the store"),
            None => {}
        }
    }
}
