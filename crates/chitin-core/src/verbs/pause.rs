//! What keeps a task from going on, and lets it: what waits is held, what runs is frozen with its whole tree.
//!
//! Nothing of a paused task starts, and none of its clocks runs: the time to live of what is held is later by the pause,
//! and a shim does not count the time its tree is frozen. The time a task was to start at passes all the same; it is
//! waited for again if the task goes on before. A frozen task keeps its slot: its memory is still taken.
//!
//! kill -9 after the commit and before the shim was told: the state says it, and the next gateway tells the shim.

use crate::{
    Answer, AttemptKey, CommandId, Conflict, Core, Event, Now, Output, PausedReason, ScheduledReason, TaskId,
    TaskRow, TaskState, Tx,
};

impl Core {
    pub(crate) fn pause<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        id: TaskId,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let answer = match self.find_open(id, tx)? {
            Err(conflict) => Answer::Conflict(conflict),
            Ok(row) if row.cancel_requested => Answer::Conflict(Conflict::Ending),
            Ok(mut row) => {
                if !matches!(row.state, TaskState::Paused(_)) {
                    row.expires = row.expires.map(|expires| expires.stopped(now));
                    self.transition(now, &mut row, Event::Paused, tx)?;
                    self.tell_shim(&row, true, tx)?;
                }
                Answer::Done
            }
        };
        self.reply(to, answer);
        Ok(())
    }

    pub(crate) fn resume<T: Tx>(
        &mut self,
        now: &Now,
        to: CommandId,
        id: TaskId,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let answer = match self.find_open(id, tx)? {
            Err(conflict) => Answer::Conflict(conflict),
            Ok(mut row) => {
                if let TaskState::Paused(reason) = row.state {
                    row.expires = row.expires.map(|expires| expires.going_on(now));
                    let event = match reason {
                        PausedReason::Held => held_goes_on(&row, now),
                        PausedReason::Frozen => Event::Resumed,
                    };
                    self.transition(now, &mut row, event, tx)?;
                    self.tell_shim(&row, false, tx)?;
                }
                Answer::Done
            }
        };
        self.reply(to, answer);
        Ok(())
    }

    /// A task that has not ended.
    fn find_open<T: Tx>(&mut self, id: TaskId, tx: &mut T) -> Result<Result<TaskRow, Conflict>, T::Error> {
        Ok(match self.find(id, tx)? {
            None => Err(Conflict::NoSuchTask),
            Some(row) if row.state.has_ended() => Err(Conflict::State(row.state)),
            Some(row) => Ok(row),
        })
    }

    /// The attempt under way, if there is one, is to be frozen or to go on.
    pub(crate) fn tell_shim<T: Tx>(
        &mut self,
        row: &TaskRow,
        paused: bool,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        if let Some(attempt) = self.under_way(row, tx)? {
            self.out(Output::PauseAttempt { attempt, paused });
        }
        Ok(())
    }

    /// The attempt that was given out and has not ended.
    pub(crate) fn under_way<T: Tx>(
        &mut self,
        row: &TaskRow,
        tx: &mut T,
    ) -> Result<Option<AttemptKey>, T::Error> {
        if !row.state.is_under_way() {
            return Ok(None);
        }
        let lease = tx.load_attempt(row.seq, row.attempt)?;
        let key = |token| AttemptKey { seq: row.seq, id: row.id, attempt: row.attempt, token };
        Ok(lease.map(|lease| key(lease.token)))
    }
}

/// What was held goes on where it was: it waits for its time, if that has not come, else for its turn.
fn held_goes_on(row: &TaskRow, now: &Now) -> Event {
    match row.due {
        Some(due) if due.remaining_ms(now) > 0 && row.retries > 0 => Event::WaitsOn(ScheduledReason::Backoff),
        Some(due) if due.remaining_ms(now) > 0 => Event::WaitsOn(ScheduledReason::Delay),
        _ => Event::Resumed,
    }
}

#[cfg(test)]
#[path = "pause_tests.rs"]
mod tests;
