//! lease: who may run which attempt. The attempt's row with number, token and boot is committed before its shim is
//! started; kill -9 after the commit leaves an attempt without a claim, which recovery voids and starts again.

use crate::core::new_token;
use crate::{
    AttemptKey, AttemptRow, Core, Dice, Event, KeptLogs, Now, Output, PausedReason, Seq, StartOrder,
    TaskState, Token, Tx,
};

impl Core {
    pub(crate) fn lease<T: Tx>(
        &mut self,
        now: &Now,
        dice: &mut dyn Dice,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        for seq in self.whose_turn() {
            self.lease_one(now, dice, seq, tx)?;
        }
        Ok(())
    }

    /// As many queued tasks as there are free slots, in order. Only what is committed can be given out: a task that
    /// this very transaction queues has its turn in the next one.
    fn whose_turn(&mut self) -> Vec<Seq> {
        if !self.has_free_slot() {
            return Vec::new();
        }
        let running = u64::try_from(self.hot.counts().running).unwrap_or(0);
        let free = usize::try_from(self.limits.running_tasks.saturating_sub(running)).unwrap_or(0);
        let names = self.names.get();
        let mut picker = self.hot.lanes().picker(*self.next_seq.get(), |queue| names.is_open(queue));
        let turns = self.turns.change();
        let hot = &self.hot;
        std::iter::from_fn(|| picker.next(turns, |seq| hot.is_touched(seq))).take(free).collect()
    }

    fn lease_one<T: Tx>(
        &mut self,
        now: &Now,
        dice: &mut dyn Dice,
        seq: Seq,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let mut row = self.indexed(seq, tx)?;
        row.attempt = row.attempt.next();
        row.started_at_ms = Some(now.wall_ms);
        row.expires = None;
        let token = new_token(dice);
        self.transition(now, &mut row, Event::Leased, tx)?;
        tx.insert_attempt(&AttemptRow {
            seq,
            attempt: row.attempt,
            round: row.round,
            token,
            epoch: self.epoch,
            boot: self.boot,
            leased_at_ms: now.wall_ms,
            started_at_ms: None,
            ended_at_ms: None,
            outcome: None,
            exit_code: None,
            signal: None,
            error: None,
            peak_memory_bytes: None,
            cpu_ms: None,
            logs: KeptLogs::None,
            evicted: false,
        })?;
        let attempt = AttemptKey { seq, id: row.id, attempt: row.attempt, token };
        self.out(Output::Start(StartOrder { attempt, policy: row.policy, paused: false }));
        Ok(())
    }

    /// An attempt turned out never to have started: the same attempt, a new token, at once. Nothing is consumed.
    pub(crate) fn voided<T: Tx>(
        &mut self,
        now: &Now,
        dice: &mut dyn Dice,
        attempt: AttemptKey,
        tx: &mut T,
    ) -> Result<(), T::Error> {
        let Some((mut row, mut lease)) = self.current(attempt, tx)? else { return Ok(()) };
        if row.cancel_requested {
            return self.end_unstarted(now, row, lease, tx);
        }
        let token: Token = new_token(dice);
        lease.token = token;
        lease.epoch = self.epoch;
        lease.boot = self.boot;
        lease.leased_at_ms = now.wall_ms;
        // It took nothing, so there is nothing to take from it.
        (lease.evicted, lease.error) = (false, None);
        tx.update_attempt(&lease)?;
        self.transition(now, &mut row, Event::Voided, tx)?;
        let paused = row.state == TaskState::Paused(PausedReason::Frozen);
        let attempt = AttemptKey { token, ..attempt };
        self.out(Output::Start(StartOrder { attempt, policy: row.policy, paused }));
        Ok(())
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
