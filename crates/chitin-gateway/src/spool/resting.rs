//! Folders whose shims wait in them for another order. To begin a process, to make three directories, a socket and the
//! room for an exit record, and to give all of it back, is most of what an attempt costs; a shim that rests brings all
//! of that along, and its folder costs one change of a name.
//!
//! Which folders may be removed, which change their names, and which stay is decided in one place, here: a folder is *held*
//! from before its shim is asked to rest until it was given away or let go, and what is held is not removed.
//!
//! `kill -9` at any point: shims that rest leave, and a folder without an attempt under way is removed by the next
//! gateway's sweep.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use chitin_core::TaskId;
use chitin_shim::start::Resting;

use super::FIRST;

/// Folders held at once: some more than attempts run at a time by default. Each has a process of 0.1 MB in it.
const MOST: usize = 32;

/// See the module. Its owner keeps others from making folders meanwhile.
#[derive(Debug, Default)]
pub(super) struct RestingShims {
    /// By the task that each folder is of. `None`: its shim does not rest yet, or is not to serve any more.
    held: HashMap<TaskId, Option<Resting>>,
    /// Those that rest, the last one last.
    line: Vec<TaskId>,
    /// First attempts' folders that are being removed.
    going: HashSet<TaskId>,
}

impl RestingShims {
    /// A shim is about to be asked to rest in the folder of this task's first attempt. False: it is not to be asked.
    pub(super) fn hold(&mut self, id: TaskId) -> bool {
        let free = self.held.len() < MOST && !self.going.contains(&id) && !self.held.contains_key(&id);
        if free {
            self.held.insert(id, None);
        }
        free
    }

    pub(super) fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    /// The shim in a held folder rests.
    pub(super) fn rests(&mut self, id: TaskId, shim: Resting) {
        if let Some(place) = self.held.get_mut(&id) {
            *place = Some(shim);
            self.line.push(id);
        }
    }

    /// Gives the folder of a task, with a shim in it, to another task, which has none. The one that came last is taken:
    /// the others may leave.
    pub(super) fn give(&mut self, root: &Path, to: TaskId) -> Option<Resting> {
        while let Some(id) = self.line.last().copied() {
            let folder = root.join(id.to_string());
            if has_first_alone(&folder) {
                // Over an empty folder, too, but never over one with an attempt in it.
                fs::rename(folder, root.join(to.to_string())).ok()?;
                self.line.pop();
                return self.held.remove(&id)?;
            }
            // Another attempt of the task has its folder there: that one keeps its name, and this shim leaves.
            self.line.pop();
            self.held.insert(id, None);
        }
        None
    }

    /// Ends holding a folder. `Some`: it is still there, with the shim that rests in it, if one does.
    pub(super) fn let_go(&mut self, id: TaskId) -> Option<Option<Resting>> {
        self.line.retain(|other| *other != id);
        self.held.remove(&id)
    }

    /// The folder of this task's first attempt is about to be removed. False: it is held.
    pub(super) fn removal_begins(&mut self, id: TaskId) -> bool {
        !self.is_held(id) && self.going.insert(id)
    }

    pub(super) fn removal_ends(&mut self, id: TaskId) {
        self.going.remove(&id);
    }
}

/// Whether a task's folder holds that of its first attempt and nothing else.
fn has_first_alone(task: &Path) -> bool {
    let first = FIRST.0.to_string();
    let Ok(mut entries) = fs::read_dir(task) else { return false };
    entries.next().is_some_and(|entry| entry.is_ok_and(|entry| *entry.file_name() == *first))
        && entries.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    const ONE: TaskId = TaskId([1; 16]);
    const TWO: TaskId = TaskId([2; 16]);

    /// A root with the folder of task one, held, and the shim's end of a connection.
    fn resting() -> (tempfile::TempDir, RestingShims, UnixStream) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(ONE.to_string()).join("1")).unwrap();
        let mut shims = RestingShims::default();
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(shims.hold(ONE) && !shims.hold(ONE));
        shims.rests(ONE, Resting::new(ours));
        (root, shims, theirs)
    }

    fn has_left(mut shim: &UnixStream) -> bool {
        shim.set_nonblocking(true).unwrap();
        matches!(shim.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_folder_goes_to_another_task_with_its_shim_once() {
        let (root, mut shims, shim) = resting();
        let given = shims.give(root.path(), TWO).unwrap();
        assert!(root.path().join(TWO.to_string()).join("1").exists());
        assert!(!root.path().join(ONE.to_string()).exists());
        assert!(shims.give(root.path(), TaskId([3; 16])).is_none());
        assert!(shims.let_go(ONE).is_none(), "whoever held it has nothing to remove");
        assert!(!has_left(&shim));
        drop(given);
        assert!(has_left(&shim));
    }

    #[test]
    fn what_is_held_is_not_removed_and_what_is_being_removed_is_not_held() {
        let (_root, mut shims, _shim) = resting();
        assert!(!shims.removal_begins(ONE));
        assert!(shims.let_go(ONE).unwrap().is_some());
        assert!(shims.removal_begins(ONE) && !shims.hold(ONE));
        shims.removal_ends(ONE);
        assert!(shims.hold(ONE));
    }

    #[test]
    fn a_task_that_has_a_folder_keeps_it_and_no_shim_is_lost() {
        let (root, mut shims, shim) = resting();
        fs::create_dir_all(root.path().join(TWO.to_string()).join("1")).unwrap();
        assert!(shims.give(root.path(), TWO).is_none());
        fs::remove_dir_all(root.path().join(TWO.to_string())).unwrap();
        assert!(shims.give(root.path(), TWO).is_some() && has_left(&shim), "it was kept until then");
    }

    #[test]
    fn a_task_with_another_attempt_keeps_its_folder() {
        let (root, mut shims, shim) = resting();
        fs::create_dir(root.path().join(ONE.to_string()).join("2")).unwrap();
        assert!(shims.give(root.path(), TWO).is_none() && has_left(&shim));
        assert!(shims.let_go(ONE).unwrap().is_none(), "its folder is to be removed");
    }

    #[test]
    fn there_are_never_too_many() {
        let mut shims = RestingShims::default();
        let held = (0..=u8::MAX).filter(|number| shims.hold(TaskId([*number; 16]))).count();
        assert_eq!(held, MOST);
    }
}
