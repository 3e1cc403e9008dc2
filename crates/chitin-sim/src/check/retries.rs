//! Retries are neither lost nor early, and counted as the policy says; what waits for a time does not start before it,
//! and nothing expires early or once it has started. The counts are worked out anew here, from the attempts alone.

use std::collections::BTreeMap;

use chitin_core::{
    AttemptNo, AttemptRow, DeadReason, Due, Outcome, PausedReason, ScheduledReason, Seq, TaskRow, TaskState,
};

use super::{Checker, Held, Moment, Scene, Seen, ensure};
use crate::view::Change;

/// A wait that was promised.
#[derive(Debug, Clone, Copy)]
struct Wait {
    from: Moment,
    least_ms: i64,
    /// It stands still; what was left then is the whole of it.
    stands: bool,
}

impl Wait {
    /// Over, or nobody can say so: in another boot the wall clock decides, and it has stepped.
    fn is_over(&self, now: &Moment) -> bool {
        if self.stands {
            return false;
        }
        let over = now.true_ms >= self.from.true_ms.saturating_add(self.least_ms);
        over || now.boot != self.from.boot && now.steps != self.from.steps
    }

    /// What is left of it, at least.
    fn stopped(&self, now: &Moment) -> Self {
        let passed_ms = now.true_ms.saturating_sub(self.from.true_ms);
        let least_ms = if self.is_over(now) { 0 } else { self.least_ms.saturating_sub(passed_ms) };
        Self { from: *now, least_ms, stands: true }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    retries: u32,
    poison: u32,
}

/// What each open round has consumed, and waits for.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    counts: BTreeMap<(Seq, u32), Counts>,
    waits: BTreeMap<Seq, Wait>,
    expiries: BTreeMap<Seq, Wait>,
    /// Ended in this transaction; the task's row comes next.
    just_ended: Option<(Seq, AttemptNo)>,
}

impl Retries {
    fn inserted(&mut self, row: &TaskRow, now: Moment) -> Held {
        if let Some(Due::After(due)) = row.due {
            self.waits.insert(row.seq, Wait { from: now, least_ms: due.delay_ms, stands: false });
        }
        if let Some(expires) = row.expires {
            self.expiries.insert(row.seq, Wait { from: now, least_ms: expires.delay_ms, stands: false });
        }
        Ok(())
    }

    fn updated(&mut self, row: &TaskRow, scene: &Scene<'_>) -> Held {
        let Some(before) = scene.view.tasks.get(&row.seq) else { return Ok(()) };
        if row.round != before.round {
            self.waits.remove(&row.seq);
            return self.inserted(row, scene.now);
        }
        if let Some(attempt) = self.just_ended.take()
            && let Some(ended) = scene.view.attempts.get(&attempt)
        {
            return self.settled(before, ended, row, scene);
        }
        let counts = self.counts.get(&(row.seq, row.round)).copied().unwrap_or_default();
        let same = (row.retries, row.poison) == (counts.retries, counts.poison);
        ensure(same, || format!("counted {counts:?}, stored {row:?}"))?;
        let wait = self.waits.get(&row.seq);
        let leaves = row.state == TaskState::Queued && before.state != TaskState::Queued;
        if leaves && let Some(wait) = wait {
            ensure(wait.is_over(&scene.now), || {
                format!("{row:?} was due early: {wait:?}, now {:?}", scene.now)
            })?;
            self.waits.remove(&row.seq);
        }
        if row.state == TaskState::Running {
            self.expiries.remove(&row.seq);
        }
        self.stands_or_goes_on(before, row, scene.now);
        if row.state == TaskState::Expired {
            let expiry = self.expiries.get(&row.seq);
            let over = expiry.is_some_and(|wait| wait.is_over(&scene.now));
            ensure(over, || format!("{row:?} expired: {expiry:?}, now {:?}", scene.now))?;
        }
        Ok(())
    }

    /// The time to live of what is held stands still. What was given out waits for no time any more.
    fn stands_or_goes_on(&mut self, before: &TaskRow, row: &TaskRow, now: Moment) {
        let held = |row: &TaskRow| row.state == TaskState::Paused(PausedReason::Held);
        if let Some(wait) = self.expiries.get_mut(&row.seq) {
            *wait = match (held(before), held(row)) {
                (false, true) => wait.stopped(&now),
                (true, false) => Wait { from: now, stands: false, ..*wait },
                _ => *wait,
            };
        }
    }

    /// What the policy makes of an attempt's end.
    fn settled(&mut self, before: &TaskRow, ended: &AttemptRow, row: &TaskRow, scene: &Scene<'_>) -> Held {
        let counts = self.counts.entry((row.seq, row.round)).or_default();
        let Some(outcome) = ended.outcome else { return Ok(()) };
        // Ended with the gateway, and not by anybody's wish: nothing is consumed.
        let frozen = before.state == TaskState::Paused(PausedReason::Frozen);
        let waits = if frozen { TaskState::Paused(PausedReason::Held) } else { TaskState::Queued };
        let took_away = ended.error.as_deref() == Some("ended with the gateway; it will run again");
        let was_evicted = ended.evicted && outcome != Outcome::Succeeded && !before.cancel_requested;
        let put_back = was_evicted || row.state == waits && (!frozen || took_away);
        let poisonous = matches!(outcome, Outcome::OomKilled | Outcome::Signalled | Outcome::WorkerLost);
        if poisonous && !put_back {
            counts.poison += 1;
        }
        let is_poison = u64::from(counts.poison) >= scene.limits.poison_attempts && poisonous;
        let cannot_start = ended.exit_code == Some(127);
        let has_retries = counts.retries < row.policy.retry.max;
        let expected = match outcome {
            Outcome::Succeeded => TaskState::Succeeded,
            _ if before.cancel_requested => TaskState::Cancelled,
            _ if put_back => waits,
            _ if is_poison => TaskState::Dead(DeadReason::Poison),
            _ if cannot_start => TaskState::Dead(DeadReason::NonRetryable),
            _ if has_retries && frozen => TaskState::Paused(PausedReason::Held),
            _ if has_retries => TaskState::Scheduled(ScheduledReason::Backoff),
            _ => TaskState::Dead(DeadReason::RetriesExhausted),
        };
        let again = matches!(expected, TaskState::Scheduled(_) | TaskState::Paused(_)) && !put_back;
        if again {
            counts.retries += 1;
            let waits = &row.policy.retry.backoff_ms;
            let at = usize::try_from(counts.retries - 1).unwrap_or(0).min(waits.len().saturating_sub(1));
            let whole = i64::from(waits.get(at).copied().unwrap_or(0));
            let least_ms = whole - whole * i64::from(row.policy.retry.jitter.permille()) / 1_000;
            self.waits.insert(row.seq, Wait { from: scene.now, least_ms, stands: false });
            let stored = match row.due {
                Some(Due::After(due)) => (least_ms..=whole).contains(&due.delay_ms),
                Some(Due::At(_)) | None => false,
            };
            ensure(stored, || format!("wait {least_ms} to {whole} ms, stored {:?}", row.due))?;
        }
        if put_back {
            let ours = ended.exit_code.is_none() && outcome == Outcome::WorkerLost || ended.error.is_some();
            ensure(ours || was_evicted, || format!("put back after {ended:?}"))?;
        }
        ensure(row.state == expected, || format!("expected {expected}, stored {row:?} after {ended:?}"))?;
        let same = (row.retries, row.poison) == (counts.retries, counts.poison);
        ensure(same, || format!("counted {counts:?}, stored {row:?} after {ended:?}"))
    }
}

impl Checker for Retries {
    fn name(&self) -> &'static str {
        "retries: counted, stored, in time"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Change(Change::InsertTask(row)) => self.inserted(row, scene.now),
            Seen::Change(Change::UpdateAttempt(row)) => {
                if row.outcome.is_some() {
                    self.just_ended = Some((row.seq, row.attempt));
                }
                Ok(())
            }
            Seen::Change(Change::UpdateTask(row)) => self.updated(row, scene),
            _ => Ok(()),
        }
    }
}
