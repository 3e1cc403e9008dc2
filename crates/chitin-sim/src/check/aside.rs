//! Safe mode: a task is set aside only if two lives in a row ended while it was being tried, as dead, and everything else
//! that ran is asked after before the mode is over.

use std::collections::BTreeSet;

use chitin_core::{AttemptNo, DeadReason, Outcome, Output, Seq, TaskState};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

const LIVES: u32 = 2;

/// The trials there were.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// The last life ended while this one was written down, and so many before it did.
    ended_at: Option<(Seq, u32)>,
    /// What this life asked after.
    asked: BTreeSet<(Seq, AttemptNo)>,
    /// It has taken the store over.
    has_begun: bool,
}

impl Checker for Aside {
    fn name(&self) -> &'static str {
        "safe mode: whoever kills is set aside, everybody else is taken up"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Change(Change::Epoch(..)) => {
                self.asked.clear();
                self.has_begun = false;
            }
            Seen::Boot { .. } => self.has_begun = true,
            Seen::Output(Output::Recover { attempt, .. }) => {
                self.asked.insert((attempt.seq, attempt.attempt));
            }
            Seen::GatewayDied => {
                let tried = scene.view.suspect.map(|suspect| suspect.seq);
                let before = self.ended_at.filter(|(seq, _)| Some(*seq) == tried);
                self.ended_at = tried.map(|seq| (seq, before.map_or(1, |(_, lives)| lives + 1)));
            }
            Seen::Change(Change::SetAside(task, attempt)) => {
                let lives = self.ended_at.filter(|(seq, _)| *seq == task.seq).map_or(0, |(_, lives)| lives);
                ensure(lives >= LIVES, || format!("set aside after {lives} lives: {task:?}"))?;
                let is_over = task.state == TaskState::Dead(DeadReason::Poison) && task.ended_at_ms.is_some();
                let is_lost = attempt.as_ref().is_none_or(|row| row.outcome == Some(Outcome::WorkerLost));
                ensure(is_over && is_lost, || format!("set aside as {task:?}, {attempt:?}"))?;
            }
            Seen::Change(Change::Suspect(None)) if self.has_begun => {
                let of_before = |row: &&chitin_core::TaskRow| {
                    let attempt = scene.view.attempts.get(&(row.seq, row.attempt));
                    attempt.is_some_and(|attempt| attempt.epoch.0 < scene.view.epoch)
                };
                let left = scene.view.running().filter(of_before);
                let left: Vec<_> = left.filter(|row| !self.asked.contains(&(row.seq, row.attempt))).collect();
                ensure(left.is_empty(), || format!("nobody asked after {left:?}"))?;
            }
            _ => {}
        }
        Ok(())
    }
}
