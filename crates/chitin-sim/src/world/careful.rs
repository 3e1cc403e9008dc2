//! Safe mode: after lives that ended early the next one takes up one open task after another, and writes down first which.
//! A row that kills whoever takes it up is met here, and by a life that is not careful, as a death before its first commit.

use chitin_core::{AttemptKey, AttemptNo, Input, Pace, Seq, TaskId, Token};

use super::runner::Then;
use super::shims::ShimNo;
use super::{Event, World};
use crate::check::Seen;
use crate::plan::Fault;

/// So many lives in a row that ended early are followed by a careful one, as the supervisor has it.
const EARLY_ENDS: u32 = 3;
/// Between two tasks, at most.
const PAUSE_MS: i64 = 20;

impl World {
    pub(super) fn pace(&mut self) -> Pace {
        let is_careful = self.strikes(Fault::CarefulStart) || self.early_ends >= EARLY_ENDS;
        if is_careful { Pace::OneByOne } else { Pace::AtOnce }
    }

    /// An open task's row goes bad; the gateway that serves does not read it, the next one does.
    pub(super) fn row_goes_bad(&mut self) {
        let open: Vec<_> = self.view.open().map(|row| row.seq).collect();
        let Some(seq) = self.rng.pick(&open).copied() else { return };
        self.note(|| format!("the row {seq:?} goes bad"));
        self.deadly.insert(seq);
        self.gateway_dies("killed");
    }

    /// Whether these inputs make a gateway read a row that kills it.
    pub(super) fn is_deadly(&self, inputs: &[Input]) -> bool {
        let is_open = |seq: &Seq| self.view.tasks.get(seq).is_some_and(|row| !row.state.has_ended());
        let noted = self.gateway.as_ref().and_then(|gateway| gateway.noted);
        inputs.iter().any(|input| match input {
            Input::Boot { pace: Pace::AtOnce, .. } => self.deadly.iter().any(is_open),
            Input::RecoverNext => noted.is_some_and(|seq| self.deadly.contains(&seq) && is_open(&seq)),
            _ => false,
        })
    }

    /// After a commit: what is written down now, and whether all is taken up.
    pub(super) fn has_taken_up(&mut self, inputs: &[Input]) {
        let (suspect, tasks) = (self.view.suspect.map(|suspect| suspect.seq), &self.view.tasks);
        // Set aside, it harms nobody any more.
        self.deadly.retain(|seq| tasks.get(seq).is_some_and(|row| !row.state.has_ended()));
        let Some(gateway) = &mut self.gateway else { return };
        if inputs.iter().any(|input| matches!(input, Input::RecoverNext)) {
            gateway.noted = suspect;
        }
        if !gateway.core.is_recovering() {
            gateway.noted = None;
            gateway.has_recovered = true;
            self.early_ends = 0;
        }
    }

    pub(super) fn take_up_next(&mut self) {
        if self.gateway.as_ref().is_some_and(|gateway| gateway.core.is_recovering()) {
            self.insist(Input::RecoverNext, Then::TakeUp);
        }
    }

    pub(super) fn took_up(&mut self) {
        let life = self.life();
        let at = self.wait_ms(PAUSE_MS);
        self.after(at, Event::TakeUp { life });
    }

    /// What still runs of an attempt that was set aside.
    fn outlives(&self, token: Token) -> Option<ShimNo> {
        let shim = self.shims.iter().find(|(_, shim)| shim.key.token == token).map(|(no, _)| *no);
        shim.or_else(|| self.trees.iter().find(|(_, tree)| tree.key.token == token).map(|(no, _)| *no))
    }

    /// Whether no shim lives in the folder of an attempt that has ended. One that stays is ended with its tree: it sees that
    /// nothing is left, and leaves as any other. What a killed one had started is ended, too.
    pub(super) fn has_left(&mut self, id: TaskId, attempt: AttemptNo) -> bool {
        let of_it = |key: &AttemptKey| key.id == id && key.attempt == attempt;
        let trees: Vec<_> =
            self.trees.iter().filter(|(_, tree)| of_it(&tree.key)).map(|(no, _)| *no).collect();
        trees.into_iter().for_each(|no| self.end_tree(no));
        !self.shims.values().any(|shim| of_it(&shim.key) && shim.has_claimed)
    }

    /// By the sockets in its folders: a shim that leaves by itself takes its own along, a killed one does not.
    pub(super) fn may_still_run(&self, id: TaskId) -> bool {
        let listens = self.shims.values().any(|shim| shim.key.id == id && shim.is_listening);
        listens || self.trees.values().any(|tree| tree.key.id == id)
    }

    /// Whether a person who retries a task would meet what still runs of an attempt that was set aside.
    pub(super) fn still_runs(&self, id: TaskId) -> bool {
        let Some(row) = self.view.task(id) else { return false };
        let attempt = self.view.attempts.get(&(row.seq, row.attempt));
        attempt.is_some_and(|it| self.view.aside.contains(&it.token) && self.outlives(it.token).is_some())
    }

    pub(super) fn counts_its_end(&mut self, has_recovered: bool) {
        self.early_ends = if has_recovered { 0 } else { self.early_ends.saturating_add(1) };
        self.see(&Seen::GatewayDied);
    }
}
