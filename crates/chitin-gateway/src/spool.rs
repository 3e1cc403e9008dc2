//! The spool folders as the gateway sees them: makes one before a shim starts, removes it after the settlement was
//! committed, or gives it to another attempt with the shim that rests there (`resting`). A removal that is lost with
//! the process is done by the next sweep.

mod resting;

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use chitin_core::{AttemptNo, TaskId};
use chitin_failpoints::failpoint;
use chitin_proto::shim::names;

use chitin_shim::start::Resting;

use crate::runner::shortage;

use resting::RestingShims;

/// Removals that may wait. What does not fit is left for the sweep.
const WAITING_REMOVALS: usize = 10_000;
/// A folder is made again so often if somebody removes the one around it in between: the sweep, or the removal of the
/// attempt before. Each of them does so once.
const MAKE_TRIES: u32 = 5;

/// How a folder's name ends from the moment its removal begins. A shim that comes too late sees by that that it has lost its
/// folder, though the void claim in it may be gone already.
const GOING: &str = ".going";

/// The attempt whose folder may serve another task: the others of a task have a folder in the same one.
pub(crate) const FIRST: AttemptNo = AttemptNo(1);

/// Where the folders are.
#[derive(Debug, Clone)]
pub(crate) struct Spool {
    root: PathBuf,
    /// Held for moments: nobody waits for the disk with it.
    resting: Arc<Mutex<RestingShims>>,
    /// Whoever makes a folder or gives one away does it alone: of threads that may wait for the disk.
    naming: Arc<Mutex<()>>,
}

impl Spool {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, resting: Arc::default(), naming: Arc::default() }
    }

    fn resting(&self) -> MutexGuard<'_, RestingShims> {
        self.resting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shim in the folder of this task's first attempt is about to be asked to rest. False: it is not to be asked.
    pub(crate) fn hold(&self, id: TaskId) -> bool {
        self.resting().hold(id)
    }

    pub(crate) fn is_held(&self, id: TaskId) -> bool {
        self.resting().is_held(id)
    }

    /// It rests.
    pub(crate) fn rests(&self, id: TaskId, shim: Resting) {
        self.resting().rests(id, shim);
    }

    /// Ends holding a folder. `Some`: it is still there, with the shim that rests in it, if one does.
    pub(crate) fn let_go(&self, id: TaskId) -> Option<Option<Resting>> {
        self.resting().let_go(id)
    }

    /// A folder for a task's first attempt, with a shim that rests in it, if there is one. One that cannot be given away is
    /// to be removed: `remove` hears so.
    pub(crate) fn take(&self, to: TaskId, remove: impl Fn(Removal)) -> Option<(PathBuf, Resting)> {
        let _alone = self.naming();
        loop {
            let (from, shim) = self.resting().give()?;
            // Another attempt of the task may have its folder there: that one keeps its name, and this shim leaves. A
            // rename goes over an empty folder, too, but never over one with an attempt in it.
            let is_given =
                has_first_alone(&self.task(from)) && fs::rename(self.task(from), self.task(to)).is_ok();
            self.resting().given(from);
            if is_given {
                return Some((self.attempt(to, FIRST), shim));
            }
            drop(shim);
            remove(Removal::Attempt { id: from, attempt: FIRST, keep_logs: false });
        }
    }

    fn naming(&self) -> MutexGuard<'_, ()> {
        self.naming.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn task(&self, id: TaskId) -> PathBuf {
        self.root.join(id.to_string())
    }

    pub(crate) fn attempt(&self, id: TaskId, attempt: AttemptNo) -> PathBuf {
        self.task(id).join(attempt.0.to_string())
    }

    /// The length in bytes of the longest path of an attempt's folder.
    pub(crate) fn longest_attempt(&self) -> usize {
        self.attempt(TaskId([u8::MAX; 16]), AttemptNo(u32::MAX)).as_os_str().len()
    }

    /// Makes an attempt's folder. Only the gateway ever does, so a straggling shim of a swept attempt finds nothing.
    pub(crate) fn make(&self, id: TaskId, attempt: AttemptNo) -> io::Result<PathBuf> {
        let folder = self.attempt(id, attempt);
        // Until it is made: else the task's folder could be given away in between.
        let _alone = self.naming();
        let mut tries = MAKE_TRIES;
        loop {
            tries -= 1;
            match DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
                // The task's folder was empty for a moment, and was removed as such.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => {}
                other => return other.map(|()| folder),
            }
        }
    }

    /// Every attempt folder there is. What was being removed when a gateway was killed goes now.
    pub(crate) fn folders(&self) -> io::Result<Vec<(TaskId, AttemptNo)>> {
        let mut found = Vec::new();
        for task in fs::read_dir(&self.root)?.filter_map(Result::ok) {
            if task.file_name().to_str().is_some_and(|name| name.ends_with(GOING)) {
                _ = fs::remove_dir_all(task.path());
            }
            let Some(id) = task.file_name().to_str().and_then(|name| TaskId::parse(name).ok()) else {
                continue;
            };
            let Ok(attempts) = fs::read_dir(task.path()) else { continue };
            let numbers = attempts.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
            let before = found.len();
            found.extend(numbers.map(|number| (id, AttemptNo(number))));
            if found.len() == before {
                _ = fs::remove_dir(task.path());
            }
        }
        Ok(found)
    }

    /// What is held is removed by whoever holds it.
    fn carry_out(&self, removal: Removal) -> io::Result<()> {
        match removal {
            // The sweep ends what still runs of it first.
            Removal::Task { id } if self.may_still_run(id) => Ok(()),
            Removal::Attempt { id, attempt, keep_logs } if attempt != FIRST => {
                self.remove_attempt(id, attempt, keep_logs)
            }
            Removal::Attempt { id, .. } | Removal::Task { id } if self.resting().removal_begins(id) => {
                let removed = match removal {
                    Removal::Task { id } => {
                        let going = self.take_name(&self.task(id), &id.to_string());
                        ignore_missing(going.and_then(fs::remove_dir_all))
                    }
                    Removal::Attempt { id, attempt, keep_logs } => {
                        self.remove_attempt(id, attempt, keep_logs)
                    }
                };
                self.resting().removal_ends(id);
                removed
            }
            Removal::Attempt { .. } => Ok(()),
            Removal::Task { id } => self.remove_later_attempts(id),
        }
    }

    fn may_still_run(&self, id: TaskId) -> bool {
        !self.with_sockets(id).is_empty()
    }

    /// The attempts of a task whose shims may still be there: one that leaves by itself takes its socket along, one of a task
    /// that was set aside unread may not have.
    pub(crate) fn with_sockets(&self, id: TaskId) -> Vec<AttemptNo> {
        let attempts = fs::read_dir(self.task(id)).into_iter().flatten().filter_map(Result::ok);
        let with_socket = attempts.filter(|entry| entry.path().join(names::SOCKET).exists());
        with_socket.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(AttemptNo).collect()
    }

    fn remove_attempt(&self, id: TaskId, attempt: AttemptNo, keep_logs: bool) -> io::Result<()> {
        let folder = self.attempt(id, attempt);
        if keep_logs {
            return keep_only_logs(&folder);
        }
        let going = self.take_name(&folder, &format!("{id}.{}", attempt.0));
        let removed = ignore_missing(going.and_then(|folder| remove_flat(&folder)));
        // Other attempts may stand in it.
        _ = fs::remove_dir(self.task(id));
        removed
    }

    fn remove_later_attempts(&self, id: TaskId) -> io::Result<()> {
        let first = self.attempt(id, FIRST);
        let entries = fs::read_dir(self.task(id))?.filter_map(Result::ok);
        entries.filter(|entry| entry.path() != first).try_for_each(|entry| {
            let name = format!("{id}.{}", entry.file_name().display());
            let going = self.take_name(&entry.path(), &name);
            ignore_missing(going.and_then(fs::remove_dir_all))
        })
    }

    /// The first step of a removal.
    fn take_name(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        let going = self.root.join(format!("{name}{GOING}"));
        match fs::rename(folder, &going) {
            // Another one of that name was left by a gateway that was killed.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                fs::remove_dir_all(&going)?;
                fs::rename(folder, &going)?;
            }
            // A removal that something was short for begins once more.
            Err(error) if error.kind() == io::ErrorKind::NotFound && going.exists() => {}
            other => other?,
        }
        Ok(going)
    }
}

/// Whether a task's folder holds that of its first attempt and nothing else.
fn has_first_alone(task: &Path) -> bool {
    let first = FIRST.0.to_string();
    let Ok(mut entries) = fs::read_dir(task) else { return false };
    entries.next().is_some_and(|entry| entry.is_ok_and(|entry| *entry.file_name() == *first))
        && entries.next().is_none()
}

/// An attempt's folder mostly holds a few files and nothing else: cheaper than a general removal.
fn remove_flat(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if fs::remove_file(&path).is_err() {
            match fs::remove_dir_all(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    fs::remove_dir(folder)
}

/// Logs stay, and so do claims: as long as the folder is there, a straggling shim may still come and look for the claim
/// of the token it was started under.
fn keep_only_logs(folder: &Path) -> io::Result<()> {
    let mut done = Ok(());
    for entry in fs::read_dir(folder)?.filter_map(Result::ok) {
        let name = entry.file_name();
        let stays = name.to_str().is_some_and(|name| {
            let is_log =
                name == names::INTERLEAVE || name.starts_with("stdout.") || name.starts_with("stderr.");
            is_log || name.starts_with(names::CLAIM)
        });
        if !stays && fs::remove_file(entry.path()).is_err() {
            done = done.and(ignore_missing(fs::remove_dir_all(entry.path())));
        }
    }
    done
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// All of a task.
    Task { id: TaskId },
    /// One attempt, but for its logs if they are kept.
    Attempt { id: TaskId, attempt: AttemptNo, keep_logs: bool },
}

/// The thread that removes: a command may leave a million files in its scratch directory.
#[derive(Debug, Clone)]
pub(crate) struct Janitor {
    sender: SyncSender<Removal>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Janitor {
    pub(crate) fn spawn(spool: Spool) -> io::Result<Self> {
        let (sender, removals) = sync_channel(WAITING_REMOVALS);
        let thread = thread::Builder::new()
            .name("chitin-janitor".to_owned())
            .spawn(move || clean(&spool, &removals))?;
        Ok(Self { sender, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Never waits.
    pub(crate) fn remove(&self, removal: Removal) {
        if let Err(TrySendError::Full(removal)) = self.sender.try_send(removal) {
            tracing::debug!(?removal, "too many removals wait; the sweep will do it");
        }
    }

    /// The thread, to be joined once every sender is gone.
    pub(crate) fn into_thread(self) -> Option<JoinHandle<()>> {
        self.thread.lock().ok().and_then(|mut thread| thread.take())
    }
}

/// Carries removals out.
fn clean(spool: &Spool, removals: &Receiver<Removal>) {
    // Those for which something was short, oldest first.
    let mut again = VecDeque::new();
    let mut pause = shortage::PAUSE;
    loop {
        let next = if again.is_empty() {
            removals.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            removals.recv_timeout(pause)
        };
        let ended = matches!(next, Err(RecvTimeoutError::Disconnected));
        if let Some(removal) = next.ok().or_else(|| again.pop_front()) {
            failpoint!("spool.remove.before");
            match spool.carry_out(removal) {
                Ok(()) => pause = Duration::ZERO,
                Err(error) if shortage::is_one(&error) && !ended && again.len() < WAITING_REMOVALS => {
                    pause = shortage::PAUSE;
                    tracing::debug!(%error, ?removal, "a spool folder cannot be removed now");
                    again.push_back(removal);
                }
                Err(error) => {
                    tracing::warn!(%error, ?removal, "a spool folder could not be removed; the next sweep tries again");
                }
            }
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn while_a_first_attempts_folder_is_held_the_others_are_removed_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::new(root.path().join("spool"));
        let id = TaskId([1; 16]);
        let folders: Vec<_> = (1..=3).map(|number| spool.make(id, AttemptNo(number)).unwrap()).collect();
        assert!(spool.hold(id));
        let remove = |attempt| {
            spool.carry_out(Removal::Attempt { id, attempt, keep_logs: false }).unwrap();
            folders.iter().map(|folder| folder.exists()).collect::<Vec<_>>()
        };
        assert_eq!(remove(AttemptNo(2)), [true, false, true]);
        assert_eq!(remove(FIRST), [true, false, true]);
        spool.carry_out(Removal::Task { id }).unwrap();
        assert!(folders[0].exists() && !folders[2].exists());
        assert!(spool.let_go(id).is_some());
        assert_eq!(remove(FIRST), [false, false, false]);
        assert!(!spool.task(id).exists());
    }

    /// A spool with a shim that rests in the folder of task one, and the shim's end of its connection.
    fn resting() -> (tempfile::TempDir, Spool, UnixStream) {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::new(root.path().join("spool"));
        spool.make(ONE, FIRST).unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert!(spool.hold(ONE));
        spool.rests(ONE, Resting::new(ours));
        (root, spool, theirs)
    }

    fn has_left(mut shim: &UnixStream) -> bool {
        shim.set_nonblocking(true).unwrap();
        matches!(shim.read(&mut [0]), Ok(0))
    }

    const ONE: TaskId = TaskId([1; 16]);
    const TWO: TaskId = TaskId([2; 16]);

    fn nothing(removal: Removal) {
        panic!("{removal:?}");
    }

    #[test]
    fn a_folder_goes_to_another_task_with_its_shim_once() {
        let (_root, spool, shim) = resting();
        let (folder, given) = spool.take(TWO, nothing).unwrap();
        assert_eq!(folder, spool.attempt(TWO, FIRST));
        assert!(folder.exists() && !spool.task(ONE).exists());
        assert!(spool.take(TaskId([3; 16]), nothing).is_none());
        assert!(spool.let_go(ONE).is_none(), "whoever held it has nothing to remove");
        assert!(!has_left(&shim));
        drop(given);
        assert!(has_left(&shim));
    }

    #[test]
    fn a_folder_that_cannot_be_given_away_is_removed_and_its_shim_leaves() {
        // Its own task has another attempt there; the other task has a folder already.
        for (id, attempt) in [(ONE, AttemptNo(2)), (TWO, FIRST)] {
            let (_root, spool, shim) = resting();
            spool.make(id, attempt).unwrap();
            let asked = std::cell::RefCell::default();
            assert!(spool.take(TWO, |removal| *asked.borrow_mut() = Some(removal)).is_none());
            assert!(has_left(&shim) && spool.let_go(ONE).is_none());
            assert!(spool.attempt(ONE, FIRST).exists() && spool.attempt(id, attempt).exists());
            spool.carry_out(asked.take().unwrap()).unwrap();
            assert!(!spool.attempt(ONE, FIRST).exists() && spool.attempt(id, attempt).exists());
        }
    }

    #[test]
    fn whoever_makes_folders_on_a_disk_that_hangs_keeps_nobody_else() {
        let (_root, spool, _shim) = resting();
        let _hangs = spool.naming();
        let beside = spool.clone();
        let asked = thread::spawn(move || {
            (
                beside.is_held(ONE),
                beside.hold(TWO),
                beside.let_go(ONE).is_some(),
                beside.let_go(TWO).is_some(),
            )
        });
        assert_eq!(asked.join().unwrap(), (true, true, true, true));
    }

    #[test]
    fn what_was_going_when_a_gateway_was_killed_goes_at_the_next_look() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::new(root.path().join("spool"));
        let (id, attempt) = (TaskId([1; 16]), AttemptNo(2));
        let folder = spool.make(id, attempt).unwrap();
        fs::write(folder.join("claim-void"), b"x").unwrap();
        let going = spool.take_name(&folder, &format!("{id}.2")).unwrap();
        assert!(going.join("claim-void").exists() && !folder.exists());
        // The same attempt's folder again, beside what is left of it.
        fs::write(spool.make(id, attempt).unwrap().join("claim"), b"x").unwrap();
        spool.carry_out(Removal::Attempt { id, attempt, keep_logs: false }).unwrap();
        assert!(!folder.exists() && !going.exists());
        // One that was broken off is taken up where it was.
        fs::create_dir(&going).unwrap();
        spool.carry_out(Removal::Attempt { id, attempt, keep_logs: false }).unwrap();
        assert!(!going.exists());
        fs::create_dir(&going).unwrap();
        assert_eq!(spool.folders().unwrap(), []);
        assert!(!going.exists());
    }

    #[test]
    fn beside_kept_logs_stands_whatever_a_straggling_shim_must_still_find() {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::new(root.path().join("spool"));
        let (id, attempt) = (TaskId([1; 16]), AttemptNo(1));
        let folder = spool.make(id, attempt).unwrap();
        let names = ["stdout.0", "stderr.0", names::INTERLEAVE, "claim-old", "exit", "shim.sock", "result"];
        names.iter().for_each(|name| fs::write(folder.join(name), b"x").unwrap());
        fs::create_dir(folder.join(names::SCRATCH)).unwrap();
        spool.carry_out(Removal::Attempt { id, attempt, keep_logs: true }).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["claim-old", names::INTERLEAVE, "stderr.0", "stdout.0"]);
    }
}
