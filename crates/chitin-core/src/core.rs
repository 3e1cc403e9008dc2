//! The loop. One [`Core`] is the whole of a gateway's mind: every input goes through [`Core::step`] inside the open
//! transaction, and what the world is asked to do comes out of [`Core::finish`] once the commit is done, never before.
//!
//! Invariant: nothing in here is true that is not committed, but for the overlay of the open transaction.
//! Invariant: no output leaves before its commit; a rollback drops outputs and overlay together.

use std::collections::HashMap;

use crate::fair::Turns;
use crate::hot::Hot;
use crate::shares::Wanting;
use crate::verbs::Recovery;
use crate::{
    BootNo, CommandId, Dice, Epoch, Input, Limits, Now, Output, PrincipalId, QueueId, QueueRow, Seq, Suspect,
    Token, Tx,
};

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is on disk.
    Ok,
    /// Nothing of it is, and nothing will be.
    RolledBack,
    /// Nobody knows: the process must end, and its successor reads what is there.
    Unknown,
}

/// Whether attempts are given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dispatch {
    /// As long as there are free slots.
    On,
    /// Not now: draining, or under pressure. Submissions go on.
    Paused,
}

/// Figures for the status page, as committed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Scheduled, queued and held tasks.
    pub waiting: u64,
    /// Their payloads' bytes.
    pub waiting_bytes: u64,
    /// Running tasks, frozen ones too: each takes a slot.
    pub running: u64,
    /// Of those that wait, how many a person holds.
    pub held: u64,
    /// Of those that run, how many a person has frozen.
    pub frozen: u64,
    /// What ended tasks keep, in bytes.
    pub kept_bytes: u64,
    /// Each queue: name, paused, waiting, running.
    pub queues: Vec<(String, bool, u64, u64)>,
}

/// The gateway's mind.
#[derive(Debug)]
pub struct Core {
    pub(crate) limits: Limits,
    pub(crate) dispatch: Dispatch,
    pub(crate) epoch: Epoch,
    pub(crate) boot: BootNo,
    pub(crate) hot: Hot,
    pub(crate) turns: Staged<Turns>,
    pub(crate) names: Staged<Interned>,
    pub(crate) next_seq: Staged<Seq>,
    pub(crate) kept_bytes: Staged<u64>,
    pub(crate) next_sweep_ms: Staged<i64>,
    pub(crate) recovery: Staged<Recovery>,
    pub(crate) accused: Option<Suspect>,
    pub(crate) wanting: Wanting,
    outputs: Vec<Output>,
}

/// A value and what the open transaction makes of it. Each is small, so a change is a copy of the whole.
#[derive(Debug, Default)]
pub(crate) struct Staged<T> {
    committed: T,
    staged: Option<T>,
}

impl<T: Clone> Staged<T> {
    pub(crate) fn new(committed: T) -> Self {
        Self { committed, staged: None }
    }

    pub(crate) fn get(&self) -> &T {
        self.staged.as_ref().unwrap_or(&self.committed)
    }

    pub(crate) fn set(&mut self, value: T) {
        self.staged = Some(value);
    }

    pub(crate) fn change(&mut self) -> &mut T {
        self.staged.get_or_insert_with(|| self.committed.clone())
    }

    fn finish(&mut self, keep: bool) {
        if let Some(value) = self.staged.take()
            && keep
        {
            self.committed = value;
        }
    }
}

/// Queues and principals, by name and number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Interned {
    pub(crate) queues: Vec<QueueRow>,
    pub(crate) principals: HashMap<String, PrincipalId>,
}

impl Interned {
    pub(crate) fn is_open(&self, queue: QueueId) -> bool {
        self.queues.iter().all(|row| row.id != queue || !row.paused)
    }
}

impl Core {
    /// A mind that knows nothing yet: [`Input::Boot`] comes first.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            dispatch: Dispatch::On,
            epoch: Epoch(0),
            boot: BootNo(0),
            hot: Hot::default(),
            turns: Staged::default(),
            names: Staged::default(),
            next_seq: Staged::new(Seq(1)),
            kept_bytes: Staged::default(),
            next_sweep_ms: Staged::default(),
            recovery: Staged::default(),
            accused: None,
            wanting: Wanting::default(),
            outputs: Vec::new(),
        }
    }

    /// Decides about one input, inside the open transaction. The batch ends with [`Input::Tick`], then the
    /// transaction is committed and [`Core::finish`] told how that went.
    ///
    /// # Errors
    /// The store's: the caller rolls back and says so to [`Core::finish`].
    pub fn step<T: Tx>(
        &mut self,
        now: &Now,
        dice: &mut dyn Dice,
        input: &Input,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        match input {
            Input::Boot { boot_id, pace } => self.boot(now, boot_id, *pace, tx),
            Input::RecoverNext => self.recover_next(now, tx),
            Input::Submit(submission) => self.submit(now, submission, tx),
            Input::Cancel { to, id } => self.cancel(now, *to, *id, tx),
            Input::PauseTask { to, id, paused: true } => self.pause(now, *to, *id, tx),
            Input::PauseTask { to, id, paused: false } => self.resume(now, *to, *id, tx),
            Input::Retry { to, id } => self.retry_by_hand(now, *to, *id, tx),
            Input::Delete { to, id } => self.delete(now, *to, *id, tx),
            Input::PauseQueue { to, name, paused } => self.pause_queue(now, *to, name, *paused, tx),
            Input::Voided { attempt } => self.voided(now, dice, *attempt, tx),
            Input::ShimReport { attempt, end, produced } => {
                self.settle(now, dice, *attempt, end, produced, tx)
            }
            Input::Evict { attempt, why, detail } => self.evict(now, *attempt, why, detail, tx),
            Input::Clean => self.clean(now, tx),
            Input::Tell { name, task, detail } => self.happened(
                now,
                *name,
                task.map(|(id, attempt)| (id, Some(attempt))),
                Some(detail.clone()),
                tx,
            ),
            Input::Tick => {
                self.due_and_expired(now, tx)?;
                self.sweep(now, tx)?;
                self.lease(now, dice, tx)
            }
        }
    }

    /// The commit's end: what was decided becomes true and its outputs are released in order, or neither.
    #[must_use]
    pub fn finish(&mut self, outcome: CommitOutcome) -> Vec<Output> {
        let keep = outcome == CommitOutcome::Ok;
        if keep {
            self.hot.commit();
        } else {
            self.hot.roll_back();
            self.outputs.clear();
        }
        self.turns.finish(keep);
        self.names.finish(keep);
        self.next_seq.finish(keep);
        self.kept_bytes.finish(keep);
        self.next_sweep_ms.finish(keep);
        self.recovery.finish(keep);
        std::mem::take(&mut self.outputs)
    }

    /// Milliseconds until the loop has something to do without being asked; 0: at once.
    #[must_use]
    pub fn next_wake_ms(&self, now: &Now) -> i64 {
        if self.has_free_slot() && self.hot.lanes().any(|queue| self.names.get().is_open(queue)) {
            return 0;
        }
        let sweep = self.next_sweep_ms.get().saturating_sub(now.boottime_ms).max(0);
        self.hot.next_timer_ms(now).map_or(sweep, |timer| timer.min(sweep))
    }

    /// Pauses or resumes giving out attempts; for this life only.
    pub fn set_dispatch(&mut self, dispatch: Dispatch) {
        self.dispatch = dispatch;
    }

    /// Whether tasks are still taken up one by one, by [`Input::RecoverNext`].
    #[must_use]
    pub fn is_recovering(&self) -> bool {
        self.recovery.committed != Recovery::Over
    }

    /// The boot this gateway lives in, as the store numbered it; for [`Now`].
    #[must_use]
    pub fn boot_no(&self) -> BootNo {
        self.boot
    }

    /// This gateway's epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// For the status page.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let counts = self.hot.committed_counts();
        let whole = |count: i64| u64::try_from(count).unwrap_or(0);
        let queue = |row: &QueueRow| {
            let counts = self.hot.queue_counts(row.id);
            (row.name.clone(), row.paused, whole(counts.waiting), whole(counts.running))
        };
        Figures {
            waiting: whole(counts.waiting),
            waiting_bytes: whole(counts.waiting_bytes),
            running: whole(counts.running),
            held: whole(counts.held),
            frozen: whole(counts.frozen),
            kept_bytes: self.kept_bytes.committed,
            queues: self.names.committed.queues.iter().map(queue).collect(),
        }
    }

    /// Tasks that have left the waiting ones since this life began: started, cancelled, expired.
    #[must_use]
    pub fn drained(&self) -> u64 {
        self.hot.drained()
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        let running = u64::try_from(self.hot.counts().running).unwrap_or(0);
        self.dispatch == Dispatch::On && !self.is_recovering() && running < self.limits.running_tasks
    }

    pub(crate) fn out(&mut self, output: Output) {
        self.outputs.push(output);
    }

    pub(crate) fn reply(&mut self, to: CommandId, answer: crate::Answer) {
        self.outputs.push(Output::Reply { to, answer });
    }
}

/// A fencing token: 128 bits of dice.
pub(crate) fn new_token(dice: &mut dyn Dice) -> Token {
    let mut bytes = [0_u8; 16];
    let (high, low) = bytes.split_at_mut(8);
    high.copy_from_slice(&dice.roll().to_le_bytes());
    low.copy_from_slice(&dice.roll().to_le_bytes());
    Token(bytes)
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
