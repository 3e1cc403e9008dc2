//! An attempt's stored end is what really happened to it: no success that was none, no loss of what had ended well,
//! nobody blamed for a gateway's restart.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{AttemptRow, Outcome, Token};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// What really happened, by token.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    began: BTreeMap<Token, u32>,
    ended: BTreeMap<Token, Outcome>,
    recorded: BTreeSet<Token>,
    killed: BTreeSet<Token>,
    leased: BTreeMap<Token, u32>,
}

impl Outcomes {
    fn attempt(&mut self, row: &AttemptRow, scene: &Scene<'_>) -> Held {
        let boot = scene.now.boot;
        let Some(outcome) = row.outcome else {
            self.leased.entry(row.token).or_insert(boot);
            return Ok(());
        };
        let truth = self.ended.get(&row.token).copied();
        let (is_killed, is_recorded) = (self.killed.contains(&row.token), self.recorded.contains(&row.token));
        let rebooted = self.leased.get(&row.token).is_some_and(|leased| *leased < boot);
        let never_began = truth.is_none() && !self.began.contains_key(&row.token);
        let is_ended_by_us = truth == Some(Outcome::Cancelled) || never_began;
        let so = match outcome {
            Outcome::Succeeded
            | Outcome::TimedOut
            | Outcome::Stalled
            | Outcome::OomKilled
            | Outcome::Signalled => truth == Some(outcome),
            // Or it could not be started at all.
            Outcome::Failed => truth == Some(outcome) || never_began,
            // Or ended with the gateway, which is put back and called so.
            // Or was evicted, and ended in whatever way but well, as far as anybody can still say.
            Outcome::WorkerLost => {
                let can_be_told = is_recorded || !rebooted;
                let went_well = truth == Some(Outcome::Succeeded) && can_be_told;
                let was_evicted = row.evicted && !went_well;
                is_killed && !is_recorded || is_ended_by_us || was_evicted
            }
            Outcome::HostLost => rebooted && !is_recorded,
            Outcome::Cancelled => is_ended_by_us,
        };
        ensure(so, || {
            format!(
                "{row:?}; really {truth:?}, killed: {is_killed}, recorded: {is_recorded}, rebooted: {rebooted}"
            )
        })
    }
}

impl Checker for Outcomes {
    fn name(&self) -> &'static str {
        "an end is told as it was"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Begins(key) => _ = self.began.insert(key.token, scene.now.boot),
            Seen::Collected { key, outcome } => _ = self.ended.insert(key.token, *outcome),
            Seen::Recorded(key) => _ = self.recorded.insert(key.token),
            Seen::ShimKilled(key) => _ = self.killed.insert(key.token),
            Seen::Change(Change::InsertAttempt(row) | Change::UpdateAttempt(row)) => {
                return self.attempt(row, scene);
            }
            _ => {}
        }
        Ok(())
    }
}
