//! What shims started, on a made-up kernel: a command and what it leaves behind. A tree outlives its shim: only the end of
//! the machine, a signal or itself ends it.

use chitin_core::AttemptKey;
use chitin_shim::machine::Input;

use super::shims::ShimNo;
use super::{Event, World};
use crate::check::Seen;

/// How a command ends if nobody interferes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// What a shim started.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) key: AttemptKey,
    command: Option<Exit>,
    /// Processes that outlive the command.
    has_others: bool,
    others_ms: i64,
    ignores_sigterm: bool,
    /// Counts what was decided about its end; what was decided before is void.
    turn: u32,
    /// When what was decided comes.
    ends_at: i64,
    /// It stands still, with so much left until then.
    frozen: Option<i64>,
}

impl World {
    pub(super) fn plant_tree(&mut self, no: ShimNo, key: AttemptKey) {
        let longest = if self.calm { 200 } else { self.plan.longest_command_ms };
        let runs_ms = self.rng.between(1, longest);
        let fails = self.rng.permille(self.plan.fails_permille);
        let exit = match (fails, self.rng.below(4)) {
            (false, _) => Exit::Code(0),
            (true, 0) => Exit::Signal(11),
            (true, 1) => {
                self.after(runs_ms / 2, Event::OutOfMemory(no));
                Exit::Code(1)
            }
            (true, _) => Exit::Code(3),
        };
        let tree = Tree {
            key,
            command: Some(exit),
            has_others: self.rng.permille(150),
            others_ms: self.rng.between(0, 4_000),
            ignores_sigterm: self.rng.permille(200),
            turn: 0,
            ends_at: self.clock.true_ms().saturating_add(runs_ms),
            frozen: None,
        };
        self.trees.insert(no, tree);
        self.after(runs_ms, Event::CommandExits { tree: no, turn: 0 });
    }

    pub(super) fn command_exits(&mut self, no: ShimNo, turn: u32) {
        let Some(tree) = self.trees.get_mut(&no).filter(|tree| tree.turn == turn) else { return };
        let Some(exit) = tree.command.take() else { return };
        let (has_others, others_ms) = (tree.has_others, tree.others_ms);
        if let Some(shim) = self.shims.get_mut(&no) {
            shim.exit = Some(exit);
            self.drive(no, Input::Exited);
        }
        if has_others {
            let ends_at = self.clock.true_ms().saturating_add(others_ms);
            if let Some(tree) = self.trees.get_mut(&no).filter(|tree| tree.turn == turn) {
                tree.ends_at = ends_at;
                self.at(ends_at, Event::OthersGo { tree: no, turn });
            }
        } else {
            self.tree_is_gone(no);
        }
    }

    pub(super) fn others_go(&mut self, no: ShimNo, turn: u32) {
        if self.trees.get(&no).is_some_and(|tree| tree.turn == turn) {
            self.tree_is_gone(no);
        }
    }

    fn tree_is_gone(&mut self, no: ShimNo) {
        if let Some(tree) = self.trees.remove(&no) {
            self.see(&Seen::TreeGone(tree.key));
            self.drive(no, Input::TreeGone);
        }
    }

    /// A signal to all of it, after which its end is near, or not.
    pub(super) fn signal(&mut self, no: ShimNo, kill: bool) {
        let after = if kill { self.rng.between(1, 8) } else { self.rng.between(1, 400) };
        let ends_at = self.clock.true_ms().saturating_add(after);
        self.thaw(no);
        let Some(tree) = self.trees.get_mut(&no) else { return };
        if !kill && tree.ignores_sigterm {
            return;
        }
        tree.turn += 1;
        tree.ends_at = ends_at;
        let turn = tree.turn;
        if tree.command.is_some() {
            tree.command = Some(Exit::Signal(if kill { 9 } else { 15 }));
            tree.others_ms = tree.others_ms.min(1);
            self.after(after, Event::CommandExits { tree: no, turn });
        } else {
            self.after(after, Event::OthersGo { tree: no, turn });
        }
    }

    /// Nothing of it happens until it is thawed.
    pub(super) fn freeze(&mut self, no: ShimNo) {
        let now = self.clock.true_ms();
        let Some(tree) = self.trees.get_mut(&no).filter(|tree| tree.frozen.is_none()) else { return };
        tree.turn += 1;
        tree.frozen = Some(tree.ends_at.saturating_sub(now).max(0));
        let key = tree.key;
        self.see(&Seen::Moves { key, moves: false });
    }

    pub(super) fn thaw(&mut self, no: ShimNo) {
        let now = self.clock.true_ms();
        let Some(tree) = self.trees.get_mut(&no) else { return };
        let Some(left_ms) = tree.frozen.take() else { return };
        tree.ends_at = now.saturating_add(left_ms);
        let (key, turn, at, runs) = (tree.key, tree.turn, tree.ends_at, tree.command.is_some());
        self.see(&Seen::Moves { key, moves: true });
        let ends =
            if runs { Event::CommandExits { tree: no, turn } } else { Event::OthersGo { tree: no, turn } };
        self.at(at, ends);
    }

    /// A gateway ends what a killed shim left, or what runs of an attempt that has ended.
    pub(super) fn end_tree(&mut self, no: ShimNo) {
        if let Some(shim) = self.shims.get_mut(&no) {
            shim.exit.get_or_insert(Exit::Signal(9));
        }
        self.tree_is_gone(no);
    }
}
