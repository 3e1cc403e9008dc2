//! settle: an attempt's end becomes the task's: done, another try, or given up.
//!
//! A compare-and-set on (task, attempt, token, running): a late or repeated report changes nothing (R4.5). The result
//! is committed with the end, so none is ever seen without the other. kill -9 before the commit: the shim keeps its
//! report until a gateway has it; after: the folder is found by the sweep.

use crate::{
    AttemptEnd, AttemptKey, AttemptRow, Core, DeadReason, Deadline, Dice, Due, Event, EventName, KeptLogs,
    Limits, Now, Outcome, Output, Produced, TaskRow, Tx,
};

/// What an attempt's end means for its task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) event: Event,
    /// The wait before the next attempt.
    pub(crate) wait_ms: Option<i64>,
    pub(crate) poisoned: bool,
}

/// The policy, pure. In order: what ended well stays well; an end that was asked for is the end; what we took away
/// ourselves costs nothing; poison goes before patience; and what cannot start will not start later.
///
/// A shim that was told to end its tree cannot know why. The wish of a person stands in the row before any shim hears
/// of it: without one, the gateway took the attempt away, this one or one that was killed meanwhile.
pub(crate) fn decide(row: &TaskRow, end: &AttemptEnd, limits: &Limits, dice: u64) -> Verdict {
    let poisoned = end.outcome.is_poisonous() && !end.put_back;
    let verdict = |event, wait_ms| Verdict { event, wait_ms, poisoned };
    if end.outcome == Outcome::Succeeded {
        return verdict(Event::Succeeded, None);
    }
    if row.cancel_requested {
        return verdict(Event::Cancelled, None);
    }
    if end.put_back || end.outcome == Outcome::Cancelled {
        return verdict(Event::PutBack, None);
    }
    if poisoned && u64::from(row.poison) + 1 >= limits.poison_attempts {
        return verdict(Event::GaveUp(DeadReason::Poison), None);
    }
    if end.non_retryable {
        return verdict(Event::GaveUp(DeadReason::NonRetryable), None);
    }
    match row.policy.retry.wait_ms(row.retries.saturating_add(1), dice) {
        Some(wait_ms) => verdict(Event::Backoff, Some(wait_ms)),
        None => verdict(Event::GaveUp(DeadReason::RetriesExhausted), None),
    }
}

impl Core {
    pub(crate) fn settle<T: Tx>(
        &mut self,
        now: &Now,
        dice: &mut dyn Dice,
        attempt: AttemptKey,
        end: &AttemptEnd,
        produced: &Produced,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let Some((mut row, mut lease)) = self.current(attempt, tx)? else {
            return self.settled_before(attempt, tx);
        };
        let evicted = lease.evicted && end.outcome != Outcome::Succeeded && !row.cancel_requested;
        let end = &AttemptEnd { put_back: end.put_back || evicted, ..end.clone() };
        let verdict = decide(&row, end, &self.limits, dice.roll());
        let keep_logs = produced.log_bytes_in_files > 0;

        lease.outcome = Some(end.outcome);
        lease.exit_code = end.exit_code;
        lease.signal = end.signal;
        // However it ended once it was told to: why, stands there since before it was.
        if evicted {
            lease.outcome = Some(Outcome::WorkerLost);
        } else {
            lease.error.clone_from(&end.error);
        }
        lease.started_at_ms = end.started_at_ms;
        lease.ended_at_ms = Some(end.ended_at_ms);
        lease.peak_memory_bytes = end.peak_memory_bytes;
        lease.cpu_ms = end.cpu_ms;
        if !evicted && verdict.event == Event::PutBack && end.outcome == Outcome::Cancelled {
            lease.outcome = Some(Outcome::WorkerLost);
            lease.error = Some("ended with the gateway; it will run again".to_owned());
        }
        lease.logs = match (&produced.output, keep_logs) {
            (_, true) => KeptLogs::Files,
            (Some(_), false) => KeptLogs::Stored,
            (None, false) => KeptLogs::None,
        };
        tx.update_attempt(&lease)?;

        if let Some(output) = &produced.output {
            tx.put_output(row.seq, lease.attempt, output)?;
            let stdout = output.stdout.as_ref().map_or(0, Vec::len);
            row.keeps(stdout + output.stderr.len() + output.interleave.len());
        }
        row.keeps(usize::try_from(produced.log_bytes_in_files).unwrap_or(usize::MAX));
        let mut published = None;
        if verdict.event == Event::Succeeded
            && let Some(result) = &produced.result
        {
            tx.put_result(row.seq, row.round, lease.attempt, result)?;
            row.keeps(result.body.len());
            published = Some(row.round);
        }
        if end.started_at_ms.is_some() {
            row.started_at_ms = end.started_at_ms;
        }
        row.poison = row.poison.saturating_add(u32::from(verdict.poisoned));
        if let Some(wait_ms) = verdict.wait_ms {
            row.retries = row.retries.saturating_add(1);
            row.due = Some(Due::After(Deadline::after(now, wait_ms)));
        }
        self.transition(now, &mut row, verdict.event, tx)?;
        self.out(Output::Settled { attempt, keep_logs });
        if let Some(round) = published {
            self.out(Output::Publish { attempt, round });
        }
        Ok(())
    }

    /// Memory runs out for all: this attempt is to end, and costs its task nothing. That stands in its row before anybody
    /// is told, so however it ends from then on, it is known why.
    pub(crate) fn evict<T: Tx>(
        &mut self,
        now: &Now,
        attempt: AttemptKey,
        why: &str,
        detail: &str,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let Some((row, mut lease)) = self.current(attempt, tx)? else { return Ok(()) };
        if row.cancel_requested || lease.evicted {
            return Ok(());
        }
        (lease.evicted, lease.error) = (true, Some(why.to_owned()));
        tx.update_attempt(&lease)?;
        let which = Some((row.id, Some(lease.attempt)));
        self.happened(now, EventName::TaskEvicted, which, Some(detail.to_owned()), tx)?;
        self.out(Output::Evict { attempt });
        Ok(())
    }

    /// The attempt that runs now, if it is this one under this token.
    pub(crate) fn current<T: Tx>(
        &mut self,
        attempt: AttemptKey,
        tx: &mut T,
    ) -> Result<Option<(TaskRow, AttemptRow)>, T::Error> {
        let Some(row) = tx.load_task(attempt.seq)? else { return Ok(None) };
        if row.id != attempt.id || !row.state.is_under_way() || row.attempt != attempt.attempt {
            return Ok(None);
        }
        let lease = tx.load_attempt(attempt.seq, attempt.attempt)?;
        Ok(lease
            .filter(|lease| lease.token == attempt.token && lease.outcome.is_none())
            .map(|lease| (row, lease)))
    }

    /// A report that comes again: its shim is told once more, so that it can go. One under a foreign token is not
    /// answered: the folder belongs to the attempt's newer life.
    fn settled_before<T: Tx>(&mut self, attempt: AttemptKey, tx: &mut T) -> Result<(), T::Error> {
        if let Some(lease) = tx.load_attempt(attempt.seq, attempt.attempt)?
            && lease.token == attempt.token
            && lease.outcome.is_some()
        {
            self.out(Output::Settled { attempt, keep_logs: lease.logs == KeptLogs::Files });
        }
        Ok(())
    }

    /// A cancel that came before the attempt could start: it ends without having begun.
    pub(crate) fn end_unstarted<T: Tx>(
        &mut self,
        now: &Now,
        mut row: TaskRow,
        mut lease: AttemptRow,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        lease.outcome = Some(Outcome::Cancelled);
        lease.ended_at_ms = Some(now.wall_ms);
        lease.error = Some("cancelled before it started".to_owned());
        tx.update_attempt(&lease)?;
        let attempt = AttemptKey { seq: row.seq, id: row.id, attempt: lease.attempt, token: lease.token };
        self.transition(now, &mut row, Event::Cancelled, tx)?;
        self.out(Output::Settled { attempt, keep_logs: false });
        Ok(())
    }
}

impl TaskRow {
    fn keeps(&mut self, bytes: usize) {
        self.kept_bytes = self.kept_bytes.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
#[path = "settle_tests.rs"]
mod tests;
