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

use chitin_core::TaskId;
use chitin_shim::start::Resting;

/// Folders held at once: some more than attempts run at a time by default. Each has a process of 0.1 MB in it.
const MOST: usize = 32;

/// See the module. Nothing here touches the disk: the thread that answers health questions asks, too, and a disk may hang.
#[derive(Debug, Default)]
pub(super) struct RestingShims {
    /// By the task that each folder is of.
    held: HashMap<TaskId, Place>,
    /// Those that rest, the last one last.
    line: Vec<TaskId>,
    /// First attempts' folders that are being removed.
    going: HashSet<TaskId>,
}

/// Where a held folder stands.
#[derive(Debug)]
enum Place {
    /// Its shim was asked to rest.
    Asked,
    /// Its shim rests.
    Rests(Resting),
    /// It is being given away.
    Given,
}

impl RestingShims {
    /// A shim is about to be asked to rest in the folder of this task's first attempt. False: it is not to be asked.
    pub(super) fn hold(&mut self, id: TaskId) -> bool {
        let free = self.held.len() < MOST && !self.going.contains(&id) && !self.held.contains_key(&id);
        if free {
            self.held.insert(id, Place::Asked);
        }
        free
    }

    pub(super) fn is_held(&self, id: TaskId) -> bool {
        self.held.contains_key(&id)
    }

    /// The shim in a held folder rests.
    pub(super) fn rests(&mut self, id: TaskId, shim: Resting) {
        if let Some(place) = self.held.get_mut(&id) {
            *place = Place::Rests(shim);
            self.line.push(id);
        }
    }

    /// Begins to give a folder away, with the shim in it: the one that came last, since the others may leave. It is held
    /// until [`given`](Self::given).
    pub(super) fn give(&mut self) -> Option<(TaskId, Resting)> {
        let id = self.line.pop()?;
        let place = self.held.get_mut(&id)?;
        match std::mem::replace(place, Place::Given) {
            Place::Rests(shim) => Some((id, shim)),
            Place::Asked | Place::Given => None,
        }
    }

    /// It has its new name; or it keeps the old one, and whoever was to give it away has it removed.
    pub(super) fn given(&mut self, id: TaskId) {
        self.held.remove(&id);
    }

    /// Ends holding a folder. `Some`: it is still there, with the shim that rests in it, if one does.
    pub(super) fn let_go(&mut self, id: TaskId) -> Option<Option<Resting>> {
        if matches!(self.held.get(&id), Some(Place::Given)) {
            return None;
        }
        self.line.retain(|other| *other != id);
        match self.held.remove(&id)? {
            Place::Rests(shim) => Some(Some(shim)),
            Place::Asked | Place::Given => Some(None),
        }
    }

    /// The folder of this task's first attempt is about to be removed. False: it is held.
    pub(super) fn removal_begins(&mut self, id: TaskId) -> bool {
        !self.is_held(id) && self.going.insert(id)
    }

    pub(super) fn removal_ends(&mut self, id: TaskId) {
        self.going.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    const ONE: TaskId = TaskId([1; 16]);

    /// The folder of task one, held, and the shim's end of a connection.
    fn resting() -> (RestingShims, UnixStream) {
        let mut shims = RestingShims::default();
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(shims.hold(ONE) && !shims.hold(ONE));
        shims.rests(ONE, Resting::new(ours));
        (shims, theirs)
    }

    fn has_left(mut shim: &UnixStream) -> bool {
        shim.set_nonblocking(true).unwrap();
        matches!(shim.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_folder_is_given_away_once_and_held_until_then() {
        let (mut shims, shim) = resting();
        let (from, given) = shims.give().unwrap();
        assert_eq!(from, ONE);
        assert!(shims.give().is_none());
        assert!(shims.let_go(ONE).is_none(), "whoever gives it away sees to it");
        assert!(shims.is_held(ONE) && !shims.removal_begins(ONE));
        shims.given(ONE);
        assert!(!shims.is_held(ONE) && shims.let_go(ONE).is_none());
        assert!(!has_left(&shim));
        drop(given);
        assert!(has_left(&shim));
    }

    #[test]
    fn what_is_held_is_not_removed_and_what_is_being_removed_is_not_held() {
        let (mut shims, _shim) = resting();
        assert!(!shims.removal_begins(ONE));
        assert!(shims.let_go(ONE).unwrap().is_some());
        assert!(shims.give().is_none());
        assert!(shims.removal_begins(ONE) && !shims.hold(ONE));
        shims.removal_ends(ONE);
        assert!(shims.hold(ONE));
    }

    #[test]
    fn there_are_never_too_many() {
        let mut shims = RestingShims::default();
        let held = (0..=u8::MAX).filter(|number| shims.hold(TaskId([*number; 16]))).count();
        assert_eq!(held, MOST);
    }
}
