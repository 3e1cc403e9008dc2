//! What anybody sees is committed: answers, starts, the word that an end is stored.

use std::collections::BTreeSet;

use chitin_core::{Answer, AttemptKey, AttemptRow, Output, Token};

use super::{Checker, Held, Scene, Seen, ensure};

/// Tokens that were given out.
#[derive(Debug, Default)]
pub(crate) struct Visible {
    tokens: BTreeSet<Token>,
}

impl Checker for Visible {
    fn name(&self) -> &'static str {
        "what is visible is committed"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        let Seen::Output(output) = seen else { return Ok(()) };
        let stored = |key: &AttemptKey| -> Option<&AttemptRow> {
            scene.view.attempts.get(&(key.seq, key.attempt)).filter(|row| row.token == key.token)
        };
        let deleted = |key: &AttemptKey| scene.view.deleted.contains(&key.id);
        match output {
            Output::Reply { answer: Answer::Accepted { ids, .. } | Answer::Replayed { ids, .. }, .. } => {
                ensure(ids.iter().all(|id| scene.view.knows(*id)), || {
                    format!("accepted, not stored: {ids:?}")
                })
            }
            Output::Start(order) => {
                let key = order.attempt;
                ensure(stored(&key).is_some(), || format!("started without an intent: {key:?}"))?;
                ensure(self.tokens.insert(key.token), || format!("a token was given out twice: {key:?}"))
            }
            Output::Recover { attempt, .. } => {
                ensure(stored(attempt).is_some(), || format!("nobody's attempt: {attempt:?}"))
            }
            // One that was voided in the same commit has another token by now.
            Output::PauseAttempt { attempt, .. } | Output::Evict { attempt } => {
                let known = scene.view.attempts.contains_key(&(attempt.seq, attempt.attempt));
                ensure(deleted(attempt) || known, || format!("nobody's attempt: {attempt:?}"))
            }
            Output::EndAttempt { attempt } => ensure(deleted(attempt) || stored(attempt).is_some(), || {
                format!("nobody's attempt: {attempt:?}")
            }),
            Output::Settled { attempt, .. } => {
                let ended = stored(attempt).is_some_and(|row| row.outcome.is_some());
                ensure(deleted(attempt) || ended, || format!("not settled: {attempt:?}"))
            }
            Output::Publish { attempt, round } => {
                let result = scene.view.results.get(&(attempt.seq, *round));
                let is_there = result.is_some_and(|(of, _)| *of == attempt.attempt);
                ensure(deleted(attempt) || is_there, || format!("published, not stored: {attempt:?}"))
            }
            Output::RemoveFiles { id } => {
                ensure(scene.view.task(*id).is_none(), || format!("{id} is still there"))
            }
            Output::Changed { id, .. } => ensure(scene.view.knows(*id), || format!("{id} was never there")),
            Output::Reply { .. } => Ok(()),
        }
    }
}
