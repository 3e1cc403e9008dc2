//! I1: what was acknowledged is there, exactly once, until somebody or the retention removes it after its end.

use std::collections::BTreeMap;

use chitin_core::{Answer, TaskId};

use super::{Checker, Held, Scene, Seen, ensure};

/// What each client was promised.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    promised: BTreeMap<usize, Vec<TaskId>>,
}

impl Checker for Accepted {
    fn name(&self) -> &'static str {
        "I1: acknowledged, so there, once"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        let all_known = |ids: &[TaskId]| {
            let lost = ids.iter().find(|id| !scene.view.knows(**id));
            lost.map_or(Ok(()), |id| Err(format!("{id} was accepted and is not there")))
        };
        match seen {
            Seen::Answered {
                client,
                answer: Answer::Accepted { ids, .. } | Answer::Replayed { ids, .. },
                ..
            } => {
                all_known(ids)?;
                let before = self.promised.entry(*client).or_insert_with(|| ids.clone());
                ensure(before == ids, || format!("client {client} was promised {before:?}, then {ids:?}"))
            }
            Seen::Answered { ids, answer: Answer::Refused(refusal), .. } => {
                let stored = ids.iter().find(|id| scene.view.knows(**id));
                ensure(stored.is_none(), || format!("refused, {refusal:?}, and there: {stored:?}"))
            }
            Seen::Boot { .. } | Seen::End { .. } => self.promised.values().try_for_each(|ids| all_known(ids)),
            _ => Ok(()),
        }
    }
}
