//! Only what has ended goes, and only because somebody asked or its time was over; at the end no folder is left but for
//! kept logs.

use std::collections::BTreeSet;

use chitin_core::{Input, Seq, TaskId};

use super::{Checker, Held, Scene, Seen, ensure};
use crate::view::Change;

/// Nothing goes by its weight before.
const LEAST_KEPT_MS: i64 = 3_600_000;

/// What somebody asked to be removed.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    asked: BTreeSet<TaskId>,
}

impl Swept {
    fn deleted(&self, seq: Seq, scene: &Scene<'_>) -> Held {
        let Some(row) = scene.view.tasks.get(&seq) else {
            return Err(format!("{seq:?} was deleted and never there"));
        };
        ensure(row.state.has_ended(), || format!("deleted while open: {row:?}"))?;
        let age_ms = row.ended_at_ms.map_or(0, |at| scene.now.wall_ms.saturating_sub(at));
        let keep_ms = i64::try_from(scene.limits.retention_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        let over = age_ms > keep_ms || age_ms > LEAST_KEPT_MS;
        ensure(over || self.asked.contains(&row.id), || format!("deleted after {age_ms} ms: {row:?}"))
    }
}

impl Checker for Swept {
    fn name(&self) -> &'static str {
        "only what is over is removed"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        match seen {
            Seen::Asked(Input::Delete { id, .. }) => {
                self.asked.insert(*id);
                Ok(())
            }
            Seen::Change(Change::DeleteTask(seq)) => self.deleted(*seq, scene),
            Seen::End { folders } => ensure(folders.is_empty(), || format!("folders are left: {folders:?}")),
            _ => Ok(()),
        }
    }
}
