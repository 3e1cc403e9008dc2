//! What a person may ask for: the end of a task, another round, its removal, a queue's rest.
//! Repeating any of them is harmless.

use crate::valid::QueueName;
use crate::{
    Answer, CommandId, Conflict, Core, Deadline, Event, EventName, Now, Output, PausedReason, TaskId,
    TaskRow, TaskState, Tx,
};

impl Core {
    /// A waiting task ends at once; a running one is flagged, and its shim asked to end the tree. One that is frozen is no
    /// longer: its end is what is wanted now, and only what runs can end well.
    pub(crate) fn cancel<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        id: TaskId,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let Some(mut row) = self.find(id, tx)? else {
            self.reply(to, Answer::Conflict(Conflict::NoSuchTask));
            return Ok(());
        };
        match row.state {
            TaskState::Scheduled(_) | TaskState::Queued | TaskState::Paused(PausedReason::Held) => {
                row.cancel_requested = true;
                self.transition(now, &mut row, Event::Cancelled, tx)?;
            }
            TaskState::Running | TaskState::Paused(PausedReason::Frozen) if !row.cancel_requested => {
                row.cancel_requested = true;
                if row.state == TaskState::Running {
                    row.owner_epoch = self.epoch;
                    tx.update_task(&row)?;
                    self.out(Output::Changed { id, state: row.state });
                } else {
                    self.transition(now, &mut row, Event::Resumed, tx)?;
                    self.tell_shim(&row, false, tx)?;
                }
                let which = Some((id, Some(row.attempt)));
                self.happened(now, EventName::TaskCancelRequested, which, None, tx)?;
                if let Some(attempt) = self.under_way(&row, tx)? {
                    self.out(Output::EndAttempt { attempt });
                }
            }
            TaskState::Running | TaskState::Paused(PausedReason::Frozen) | TaskState::Cancelled => {}
            TaskState::Succeeded | TaskState::Expired | TaskState::Dead(_) => {
                self.reply(to, Answer::Conflict(Conflict::State(row.state)));
                return Ok(());
            }
        }
        self.reply(to, Answer::Done);
        Ok(())
    }

    /// A new round: attempt numbers go on, the counts of retries and poison and the time to live begin again. It is
    /// an admission like any other.
    pub(crate) fn retry_by_hand<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        id: TaskId,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let Some(mut row) = self.find(id, tx)? else {
            self.reply(to, Answer::Conflict(Conflict::NoSuchTask));
            return Ok(());
        };
        let answer = match row.state {
            TaskState::Succeeded => Answer::Conflict(Conflict::State(row.state)),
            TaskState::Scheduled(_) | TaskState::Queued | TaskState::Running | TaskState::Paused(_) => {
                Answer::Done
            }
            TaskState::Cancelled | TaskState::Expired | TaskState::Dead(_) => {
                match self.admit(1, u64::try_from(row.payload_bytes).unwrap_or(0)) {
                    Err(refusal) => Answer::Refused(refusal),
                    Ok(()) => {
                        self.kept_bytes.set(self.kept_bytes.get().saturating_sub(super::kept(&row)));
                        row.round = row.round.saturating_add(1);
                        row.retries = 0;
                        row.poison = 0;
                        row.cancel_requested = false;
                        row.ended_at_ms = None;
                        row.due = None;
                        row.expires = Some(Deadline::after(now, row.policy.ttl_ms));
                        tx.submission_ended(row.seq, None)?;
                        self.transition(now, &mut row, Event::Retried, tx)?;
                        Answer::Done
                    }
                }
            }
        };
        self.reply(to, answer);
        Ok(())
    }

    /// Only what has ended can be deleted. Its idempotency key is still remembered.
    pub(crate) fn delete<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        id: TaskId,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let answer = match self.find(id, tx)? {
            None => Answer::Conflict(Conflict::NoSuchTask),
            Some(row) if !row.state.has_ended() => Answer::Conflict(Conflict::State(row.state)),
            Some(row) => {
                self.remove(row.seq, id, super::kept(&row), tx)?;
                self.happened(now, EventName::TaskDeleted, Some((id, None)), None, tx)?;
                Answer::Done
            }
        };
        self.reply(to, answer);
        Ok(())
    }

    /// A paused queue's tasks stay queued, and count.
    pub(crate) fn pause_queue<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        name: &QueueName,
        paused: bool,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let found = self.names.get().queues.iter().find(|row| row.name == name.as_str()).cloned();
        let Some(mut row) = found else {
            self.reply(to, Answer::Conflict(Conflict::NoSuchQueue));
            return Ok(());
        };
        if row.paused != paused {
            row.paused = paused;
            tx.update_queue(&row)?;
            let what = if paused { EventName::QueuePaused } else { EventName::QueueResumed };
            // A queue's name needs no escaping.
            self.happened(now, what, None, Some(format!("{{\"queue\":\"{}\"}}", row.name)), tx)?;
            let queues = &mut self.names.change().queues;
            queues.iter_mut().filter(|other| other.id == row.id).for_each(|other| other.paused = paused);
        }
        self.reply(to, Answer::Done);
        Ok(())
    }

    pub(crate) fn find<T: Tx>(&mut self, id: TaskId, tx: &mut T) -> Result<Option<TaskRow>, T::Error> {
        match tx.find_task(id)? {
            Some(seq) => tx.load_task(seq),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
#[path = "by_hand_tests.rs"]
mod tests;
