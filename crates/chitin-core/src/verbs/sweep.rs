//! What is past its retention goes: ended tasks by age and by bytes, remembered keys by age. A page at a time, each
//! in the batch's transaction; an interrupted sweep simply goes on with what is left.

use crate::{Core, Now, Output, Seq, TaskId, Tx};

/// Tasks and keys per batch: a delete touches five tables, so a page is some milliseconds.
const PAGE: usize = 100;
/// Even under pressure of bytes nothing goes that ended less than an hour ago: whoever waits can still read.
const LEAST_KEPT_MS: i64 = 3_600_000;

impl Core {
    pub(crate) fn sweep<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<(), T::Error> {
        if now.boottime_ms < *self.next_sweep_ms.get() {
            return Ok(());
        }
        let old = self.sweep_old(now, tx)?;
        let heavy = self.sweep_heavy(now, tx)?;
        let keys = tx.sweep_submissions(now.wall_ms, seconds(self.limits.key_retention_s), PAGE)?;
        let more = old || heavy || keys >= PAGE;
        let wait_ms = if more { 0 } else { seconds(self.limits.sweep_s) };
        self.next_sweep_ms.set(now.boottime_ms.saturating_add(wait_ms));
        Ok(())
    }

    /// By age. True if there may be more.
    fn sweep_old<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<bool, T::Error> {
        let before = now.wall_ms.saturating_sub(seconds(self.limits.retention_s));
        let page = tx.ended_before(before, PAGE)?;
        for (seq, id, bytes) in &page {
            self.remove(*seq, *id, *bytes, tx)?;
        }
        Ok(page.len() >= PAGE)
    }

    /// By bytes, the earliest end first. True if there may be more.
    fn sweep_heavy<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<bool, T::Error> {
        if *self.kept_bytes.get() <= self.limits.retention_bytes {
            return Ok(false);
        }
        let page = tx.ended_before(now.wall_ms.saturating_sub(LEAST_KEPT_MS), PAGE)?;
        for (seq, id, bytes) in &page {
            if *self.kept_bytes.get() <= self.limits.retention_bytes {
                return Ok(false);
            }
            self.remove(*seq, *id, *bytes, tx)?;
        }
        Ok(page.len() >= PAGE)
    }

    pub(crate) fn remove<T: Tx>(
        &mut self,
        seq: Seq,
        id: TaskId,
        bytes: u64,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        tx.delete_task(seq)?;
        self.kept_bytes.set(self.kept_bytes.get().saturating_sub(bytes));
        self.out(Output::RemoveFiles { id });
        Ok(())
    }
}

fn seconds(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000)
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
