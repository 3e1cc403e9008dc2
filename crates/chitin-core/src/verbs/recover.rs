//! recover: a gateway's life begins by taking over the store and asking what became of everything that ran.
//!
//! Nothing that runs is started again because the gateway was: each running attempt is looked for by its claim, and
//! reported as void, ended or still running. kill -9 at any point: the next life begins the same way.
//!
//! Where lives before ended early, one of the open tasks may be why. Then they are taken up one by one, and the one being
//! tried is committed before it is read. A life may be ended by anything, so it takes two that ended at the same task for
//! it to be set aside, unread: given up as poison, to be run again by a person.

use super::submit::BEFORE_ALL;
use crate::core::Staged;
use crate::hot::{Hot, OpenTask};
use crate::{
    AttemptKey, Core, Event, EventName, Now, OpenRow, Output, Pace, PausedReason, Seq, Suspect, TaskState,
    Tx, next,
};

/// Open tasks read at once.
const PAGE: usize = 1_000;
/// So many lives in a row that ended while the same task was being recovered were ended by it.
const LIVES_TO_SET_ASIDE: u32 = 2;

/// How far a recovery one by one has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Everything open is known.
    #[default]
    Over,
    /// The next one is behind this, and is to be written down.
    After(Seq),
    /// This one is written down, and is to be tried.
    Noted(Seq),
}

impl Core {
    pub(crate) fn boot<T: Tx>(
        &mut self,
        now: &Now,
        boot_id: &str,
        pace: Pace,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let (epoch, boot) = tx.begin_epoch(boot_id)?;
        let now = Now { boot, ..*now };
        self.epoch = epoch;
        self.boot = boot;
        self.hot = Hot::default();
        // First: what is set aside is told, and has its place among the admissions.
        self.next_seq.set(tx.last_seq()?.next());
        self.accused = match pace {
            Pace::AtOnce => None,
            Pace::OneByOne => self.accuse(&now, tx)?,
        };
        self.names = Staged::default();
        self.names.change().queues = tx.queues()?;
        self.names.change().principals = tx.principals()?.into_iter().map(|(id, name)| (name, id)).collect();
        self.kept_bytes = Staged::default();
        self.kept_bytes.set(tx.kept_bytes()?);
        self.next_sweep_ms = Staged::default();
        self.recovery = Staged::default();
        match pace {
            Pace::AtOnce => {
                self.take_up_all(&now, tx)?;
                tx.set_suspect(None)
            }
            Pace::OneByOne => {
                self.recovery.set(Recovery::After(BEFORE_ALL));
                Ok(())
            }
        }
    }

    fn take_up_all<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<(), T::Error> {
        // Clients wait for this: the index is built at once, and not task by task.
        let (mut open, mut after) = (Vec::new(), BEFORE_ALL);
        loop {
            let page = tx.open_tasks(after, PAGE)?;
            for row in &page {
                after = row.seq;
                open.extend(OpenTask::of_open(row, now).map(|task| (row.seq, task)));
                self.look_for(row);
            }
            if page.len() < PAGE {
                self.hot = Hot::of(open);
                return Ok(());
            }
        }
    }

    fn take_up(&mut self, now: &Now, row: &OpenRow) {
        self.hot.put(row.seq, OpenTask::of_open(row, now));
        self.look_for(row);
    }

    /// What became of its attempt, if it runs.
    fn look_for(&mut self, row: &OpenRow) {
        if let Some((attempt, token, boot)) = row.running {
            let attempt = AttemptKey { seq: row.seq, id: row.id, attempt, token };
            self.out(Output::Recover {
                attempt,
                cancel_requested: row.cancel_requested || row.evicted,
                paused: row.state == TaskState::Paused(PausedReason::Frozen),
                same_boot: boot == self.boot,
            });
        }
    }

    /// The task at which the life before this one ended, if it is to be tried once more.
    fn accuse<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<Option<Suspect>, T::Error> {
        let Some(Suspect { seq, lives }) = tx.suspect()? else { return Ok(None) };
        let lives = lives.saturating_add(1);
        if lives < LIVES_TO_SET_ASIDE {
            return Ok(Some(Suspect { seq, lives }));
        }
        // Whichever open state it is in: it cannot be asked.
        if let Ok(state) = next(TaskState::Queued, Event::SetAside) {
            let why = "set aside: gateways ended while they took the task up";
            if let Some(id) = tx.set_aside(seq, state, now.wall_ms, why)? {
                let detail = crate::events::set_aside_detail();
                self.happened(now, EventName::TaskDead, Some((id, None)), detail, tx)?;
                tx.submission_ended(seq, Some((state, self.key_kept_until_ms(now))))?;
            }
            tx.set_suspect(None)?;
        }
        Ok(None)
    }

    /// One step: either the next task is written down, or the one that is, is tried. The two share a commit where the
    /// trial left nothing for the world to do.
    pub(crate) fn recover_next<T: Tx>(&mut self, now: &Now, tx: &mut T) -> Result<(), T::Error> {
        let after = match *self.recovery.get() {
            Recovery::Over => return Ok(()),
            Recovery::After(seq) => seq,
            Recovery::Noted(seq) => {
                let row = tx.open_tasks(Seq(seq.0.saturating_sub(1)), 1)?;
                // Gone meanwhile: somebody cancelled it.
                let row = row.first().filter(|row| row.seq == seq);
                if let Some(row) = row {
                    self.take_up(now, row);
                }
                self.recovery.set(Recovery::After(seq));
                if row.is_some_and(|row| row.running.is_some()) {
                    return Ok(());
                }
                seq
            }
        };
        match tx.next_open(after)? {
            Some(seq) => {
                let known = self.accused.filter(|accused| accused.seq == seq);
                tx.set_suspect(Some(known.unwrap_or(Suspect { seq, lives: 0 })))?;
                self.recovery.set(Recovery::Noted(seq));
            }
            None => {
                tx.set_suspect(None)?;
                self.recovery.set(Recovery::Over);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
