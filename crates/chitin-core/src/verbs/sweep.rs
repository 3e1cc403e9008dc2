//! What is past its retention goes: ended tasks by age and by bytes, remembered keys by age. A page at a time, each
//! in the batch's transaction; an interrupted sweep simply goes on with what is left.

use crate::{Core, EventName, Now, Output, Seq, TaskId, Tx};

/// Tasks and keys per batch: a delete touches five tables, so a page is some milliseconds.
const PAGE: usize = 100;
/// Events per batch: each is one narrow row. More than a busy gateway writes in the meantime.
const EVENTS_PAGE: usize = 1_000;
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
        let events = self.sweep_events(now, tx)?;
        let more = old || heavy || keys >= PAGE || events;
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
        self.swept(now, page.len(), tx)?;
        Ok(page.len() >= PAGE)
    }

    /// By bytes, the earliest end first. True if there may be more.
    fn sweep_heavy<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<bool, T::Error> {
        if *self.kept_bytes.get() <= self.limits.retention_bytes {
            return Ok(false);
        }
        let page = tx.ended_before(now.wall_ms.saturating_sub(LEAST_KEPT_MS), PAGE)?;
        let mut removed = 0;
        for (seq, id, bytes) in &page {
            if *self.kept_bytes.get() <= self.limits.retention_bytes {
                break;
            }
            self.remove(*seq, *id, *bytes, tx)?;
            removed += 1;
        }
        self.swept(now, removed, tx)?;
        Ok(removed >= PAGE)
    }

    /// Room runs out: a page of what ended first goes before its time, but nothing within the hour.
    pub(crate) fn clean<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<(), T::Error> {
        let page = tx.ended_before(now.wall_ms.saturating_sub(LEAST_KEPT_MS), PAGE)?;
        for (seq, id, bytes) in &page {
            self.remove(*seq, *id, *bytes, tx)?;
        }
        if page.is_empty() {
            return Ok(());
        }
        let detail = format!("{{\"tasks\":{}}}", page.len());
        self.happened(now, EventName::Cleaned, None, Some(detail), tx)
    }

    /// Events, by age and by number. True if there may be more.
    fn sweep_events<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<bool, T::Error> {
        let before = now.wall_ms.saturating_sub(seconds(self.limits.event_retention_s));
        Ok(tx.sweep_events(before, self.limits.events, EVENTS_PAGE)? >= EVENTS_PAGE)
    }

    fn swept<T: Tx>(&mut self, now: &Now, tasks: usize, tx: &mut T) -> Result<(), T::Error> {
        if tasks == 0 {
            return Ok(());
        }
        self.happened(now, EventName::Swept, None, Some(format!("{{\"tasks\":{tasks}}}")), tx)
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
