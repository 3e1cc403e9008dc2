//! Signs of life of shims (R3.2): the core's rule on this gateway's clock, and the end of one that gives none. Whoever talks with
//! a shim asks it, and whoever looks for one that lives and cannot be talked with counts that as a question without an answer.
//!
//! It is asked by telling it once more who speaks (`Attach`), which shims of every version answer with how they are. One that is
//! killed is found like any other killed shim: its tree is ended, its attempt is lost, its task's policy decides.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitin_core::{AttemptKey, Beat, Outcome};
use chitin_shim::recover::{InKernel, Killed, kill, kill_unclaimed};

use super::{Context, Wishes};
use crate::clock;

impl Wishes {
    /// Its shim said something.
    pub(super) fn heard(&self) {
        self.silent_ms.store(0, Ordering::SeqCst);
        if let Ok(mut heartbeat) = self.heartbeat.lock() {
            heartbeat.heard();
        }
    }

    /// What is to be done about its shim now.
    pub(super) fn beat(&self) -> Beat {
        let now_ms = now_ms();
        let Ok(mut heartbeat) = self.heartbeat.lock() else { return Beat::Wait };
        if self.end.load(Ordering::SeqCst) {
            heartbeat.hasten(now_ms);
        }
        heartbeat.beat(now_ms)
    }

    /// How long nothing is to be done about it.
    pub(super) fn until_beat(&self) -> Duration {
        let due = self.heartbeat.lock().map_or(0, |heartbeat| heartbeat.due_in_ms(now_ms()));
        // A timer that wakes a moment early would find nothing to do, and wake again.
        Duration::from_millis(due.saturating_add(1))
    }

    /// Whether its shim was given up.
    pub(super) fn is_given_up(&self) -> bool {
        self.silent_ms.load(Ordering::SeqCst) > 0
    }

    /// How an attempt ended whose shim was killed, and why. One whose end was wanted ends by it: the gateway took its shim's
    /// part.
    pub(super) fn end_of_killed(&self) -> (Outcome, String) {
        let silent_ms = self.silent_ms.load(Ordering::SeqCst);
        if silent_ms == 0 {
            return (Outcome::WorkerLost, "its shim was killed; what it had started was ended".to_owned());
        }
        let outcome = if self.end.load(Ordering::SeqCst) { Outcome::Cancelled } else { Outcome::WorkerLost };
        let seconds = silent_ms.div_ceil(1_000);
        (
            outcome,
            format!(
                "heartbeat lost: its shim gave no sign of life for {seconds} s, and was ended with what it had started"
            ),
        )
    }
}

pub(super) fn now_ms() -> i64 {
    i64::try_from(clock::steady().as_millis()).unwrap_or(i64::MAX)
}

/// Kills the shim of an attempt, which is hung. Blocks.
pub(super) fn give_up(context: &Context, wishes: &Wishes) -> Killed {
    let AttemptKey { id, attempt, token, .. } = wishes.key;
    let in_kernel = if wishes.end.load(Ordering::SeqCst) { InKernel::Kill } else { InKernel::Spare };
    let silent_ms = wishes.heartbeat.lock().map_or(0, |heartbeat| heartbeat.silence_ms());
    // Before it can be found dead.
    wishes.silent_ms.store(silent_ms.unsigned_abs(), Ordering::SeqCst);
    let folder = context.spool.attempt(id, attempt);
    let killed = kill(&folder, &token.to_string(), context.clock.boot_id(), in_kernel).unwrap_or_else(|error| {
        tracing::warn!(task.id = %id, attempt = attempt.0, %error, "the claim of a hung shim cannot be read");
        Killed::Spared
    });
    if killed == Killed::Spared {
        wishes.silent_ms.store(0, Ordering::SeqCst);
    }
    tracing::warn!(task.id = %id, attempt = attempt.0, silent_ms, ?killed, "a shim gives no sign of life");
    killed
}

/// The same for a shim that has not claimed its attempt, and never will: the attempt was voided. Blocks.
pub(super) fn give_up_unclaimed(context: &Context, wishes: &Wishes) {
    let AttemptKey { id, attempt, .. } = wishes.key;
    let folder = context.spool.attempt(id, attempt);
    if wishes.is_given_up()
        && let Err(error) = kill_unclaimed(&folder, context.clock.boot_id())
    {
        tracing::warn!(task.id = %id, attempt = attempt.0, %error, "the folder of a hung shim cannot be read");
    }
}

/// The same for whoever may not block.
pub(super) async fn give_up_aside(context: &Arc<Context>, wishes: &Arc<Wishes>) -> Killed {
    let (shared, wishes) = (Arc::clone(context), Arc::clone(wishes));
    context.tasks.blocking(move || give_up(&shared, &wishes)).await.unwrap_or(Killed::Spared)
}

/// Kills a shim whose end is committed and that does not leave: nothing is needed of it any more.
pub(super) async fn dismiss(context: &Arc<Context>, key: AttemptKey) {
    let shared = Arc::clone(context);
    let end = move || {
        let folder = shared.spool.attempt(key.id, key.attempt);
        kill(&folder, &key.token.to_string(), shared.clock.boot_id(), InKernel::Kill)
    };
    if let Some(Ok(Killed::Signalled)) = context.tasks.blocking(end).await {
        tracing::warn!(task.id = %key.id, attempt = key.attempt.0, "a shim that did not leave was killed");
    }
}
