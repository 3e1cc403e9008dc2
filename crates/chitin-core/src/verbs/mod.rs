//! The verbs, a file each: what every input means. All of them work the same way: load through the open transaction,
//! decide by a pure function, write the rows, note the change in the overlay, queue the outputs.

mod by_hand;
mod lease;
mod pause;
mod recover;
mod settle;
mod submit;
mod sweep;
mod timers;

pub(crate) use recover::Recovery;

use crate::hot::OpenTask;
use crate::{Core, Event, Now, Output, Seq, TaskRow, Tx, next};

impl Core {
    /// Moves a loaded task through the lifecycle and stores it: the one way any task changes its state.
    ///
    /// A pair of state and event that [`next`] calls illegal is a broken invariant; see [`broken`].
    pub(crate) fn transition<T: Tx>(
        &mut self,
        now: &Now,
        row: &mut TaskRow,
        event: Event,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let before = row.state;
        let state = next(before, event).unwrap_or_else(|illegal| broken(&illegal));
        row.state = state;
        row.owner_epoch = self.epoch;
        if state.has_ended() {
            row.ended_at_ms = Some(now.wall_ms);
            tx.submission_ended(row.seq, Some((state, self.key_kept_until_ms(now))))?;
            self.kept_bytes.set(self.kept_bytes.get().saturating_add(kept(row)));
        }
        tx.update_task(row)?;
        self.moved(now, before, row, event, tx)?;
        self.hot.put(row.seq, OpenTask::of(row, now));
        self.out(Output::Changed { id: row.id, state });
        Ok(())
    }

    /// Until when the idempotency key of a task that ends now is remembered.
    fn key_kept_until_ms(&self, now: &Now) -> i64 {
        let keep_ms = i64::try_from(self.limits.key_retention_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        now.wall_ms.saturating_add(keep_ms)
    }

    /// The row of a task that the index speaks of.
    fn indexed<T: Tx>(&mut self, seq: Seq, tx: &mut T) -> Result<TaskRow, T::Error> {
        Ok(tx
            .load_task(seq)?
            .unwrap_or_else(|| broken(&"the index speaks of a task that the store does not have")))
    }
}

/// A broken invariant: going on would decide from an index that is wrong. The process ends, and the next life builds
/// the index anew from what is committed.
#[expect(clippy::panic, reason = "our own bug, not the world's: nothing is left to handle")]
fn broken(what: &dyn std::fmt::Display) -> ! {
    panic!("broken invariant: {what}")
}

/// What an ended task keeps on disk.
fn kept(row: &TaskRow) -> u64 {
    u64::try_from(row.kept_bytes.saturating_add(row.payload_bytes)).unwrap_or(0)
}
