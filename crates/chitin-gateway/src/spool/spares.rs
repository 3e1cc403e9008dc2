//! Emptied folders, kept for attempts to come. To make three directories, to allocate the exit record's place, and to give
//! all of it back, is most of what an attempt costs the disk; a folder that is moved costs one change of a name, and
//! brings the record's place with it.
//!
//! A folder of another attempt must be as good as a fresh one: whoever held the old one may never write to the new one.
//! Its shim is gone when the lock of its claim is free. Another shim that was started for it, and comes late, has a void
//! claim there: a folder with more than the one claim is not kept.
//!
//! `kill -9` at any point: a folder is where it was, or among the spares, which the next gateway removes.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use chitin_proto::shim::names;
use chitin_shim::recover::is_over;

/// Spares at once: some more than attempts run at a time by default. Each holds the 16 KiB of an exit record.
const MOST_SPARES: usize = 32;

/// The name of an attempt's folder in its task's: only first attempts are served, which most are.
const FIRST: &str = "1";

/// See the module. Its owner keeps others from making folders meanwhile.
#[derive(Debug)]
pub(super) struct Spares {
    dir: PathBuf,
    free: Vec<PathBuf>,
    made: u64,
}

impl Spares {
    /// None yet; what an earlier gateway left is removed.
    pub(super) fn new(dir: PathBuf) -> Self {
        _ = fs::remove_dir_all(&dir);
        Self { dir, free: Vec::new(), made: 0 }
    }

    /// Makes a spare the folder of a task, with that of its first attempt in it. False: there is none, or the task has a
    /// folder.
    pub(super) fn give(&mut self, task: &Path) -> bool {
        let Some(spare) = self.free.pop() else { return false };
        // Over an empty folder, too, but never over one with an attempt in it.
        let given = fs::rename(&spare, task).is_ok();
        if !given {
            self.free.push(spare);
        }
        given
    }

    /// Takes the folder of a task whose only attempt has ended. False: it has to be removed.
    pub(super) fn take(&mut self, task: &Path) -> io::Result<bool> {
        // Itself, its entry above, and one folder; where links are not counted so, nothing is kept.
        if self.free.len() >= MOST_SPARES || fs::metadata(task)?.nlink() != 3 || !empty(&task.join(FIRST))? {
            return Ok(false);
        }
        if self.made == 0 {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        }
        self.made = self.made.wrapping_add(1);
        let spare = self.dir.join(self.made.to_string());
        fs::rename(task, &spare)?;
        self.free.push(spare);
        Ok(true)
    }

    /// Removes them all.
    pub(super) fn clear(&mut self) {
        self.free.clear();
        self.made = 0;
        _ = fs::remove_dir_all(&self.dir);
    }
}

/// Empties an attempt's folder but for the exit record's place and an unused scratch directory. False: there is more in it than an attempt leaves that
/// went its usual way.
fn empty(folder: &Path) -> io::Result<bool> {
    let mut claim = None;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { return Ok(false) };
        if name.starts_with("claim-") {
            if claim.replace(folder.join(name)).is_some() {
                return Ok(false);
            }
        } else if is_usual(name) {
            files.push(folder.join(name));
        } else if name == names::SCRATCH {
            if !is_fresh(&folder.join(name))? {
                return Ok(false);
            }
        } else if name != names::EXIT_RECORD_DRAFT {
            return Ok(false);
        }
    }
    let Some(claim) = claim else { return Ok(false) };
    if !is_over(&claim)? {
        return Ok(false);
    }
    files.iter().chain([&claim]).try_for_each(fs::remove_file)?;
    Ok(true)
}

/// A scratch directory as its shim made it.
fn is_fresh(scratch: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(scratch)?;
    let as_made = found.is_dir() && found.mode() & 0o7777 == names::SCRATCH_MODE;
    Ok(as_made && fs::read_dir(scratch)?.next().is_none())
}

fn is_usual(name: &str) -> bool {
    matches!(name, names::SOCKET | names::RESULT | names::INTERLEAVE)
        || name.starts_with("stdout.")
        || name.starts_with("stderr.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    use chitin_proto::shim::{Claim, ClaimedBy, Isolation, PROTOCOL_VERSION};

    fn claim(shim: bool) -> Vec<u8> {
        let by = ClaimedBy { pid: 1, start_ticks: 1, isolation: Isolation::Rlimit };
        let (token, boot_id) = ("t".to_owned(), "b".to_owned());
        serde_json::to_vec(&Claim { v: PROTOCOL_VERSION, token, boot_id, shim: shim.then_some(by) }).unwrap()
    }

    /// A task's folder after an attempt that ended as most do.
    fn ended(task: &Path) {
        fs::create_dir_all(task.join(FIRST)).unwrap();
        for (name, bytes) in
            [("claim-t", claim(true)), ("exit.draft", vec![0; 9]), ("stdout.0", b"said".to_vec())]
        {
            fs::write(task.join(FIRST).join(name), bytes).unwrap();
        }
    }

    fn names_in(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn an_ended_attempts_folder_serves_the_next_one_empty() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        let mut spares = Spares::new(dir.path().join("spares"));
        assert!(!spares.give(&one), "there is none");
        ended(&one);
        DirBuilder::new().mode(0o700).create(one.join("1/work")).unwrap();
        assert!(spares.take(&one).unwrap() && !one.exists());
        assert!(spares.give(&two) && !spares.give(&one));
        assert_eq!(names_in(&two), [FIRST]);
        let mut left = names_in(&two.join(FIRST));
        left.sort();
        assert_eq!(left, ["exit.draft", "work"]);
        spares.clear();
        assert_eq!(names_in(dir.path()), ["two"]);
    }

    #[test]
    fn a_folder_that_somebody_may_still_use_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut spares = Spares::new(dir.path().join("spares"));
        let mut try_with = |name: &str, change: &dyn Fn(&Path)| {
            let task = dir.path().join(name);
            ended(&task);
            change(&task);
            assert!(!spares.take(&task).unwrap(), "{name}");
            assert!(task.join(FIRST).exists());
        };
        try_with("voided before", &|task| fs::write(task.join("1/claim-v"), claim(false)).unwrap());
        try_with("void", &|task| fs::write(task.join("1/claim-t"), claim(false)).unwrap());
        try_with("unclaimed", &|task| fs::remove_file(task.join("1/claim-t")).unwrap());
        try_with("being claimed", &|task| fs::write(task.join("1/claim.7"), "").unwrap());
        try_with("recorded", &|task| fs::write(task.join("1/exit"), "").unwrap());
        let scratch = |task: &Path| DirBuilder::new().mode(0o700).create(task.join("1/work")).unwrap();
        try_with("with a scratch directory that was used", &|task| {
            scratch(task);
            fs::write(task.join("1/work/left"), "").unwrap();
        });
        try_with("with a scratch directory that was opened", &|task| {
            scratch(task);
            fs::set_permissions(task.join("1/work"), fs::Permissions::from_mode(0o755)).unwrap();
        });
        try_with("with a second attempt", &|task| fs::create_dir(task.join("2")).unwrap());
        let alive = dir.path().join("alive");
        ended(&alive);
        let lock = fs::File::open(alive.join("1/claim-t")).unwrap();
        lock.lock().unwrap();
        assert!(!spares.take(&alive).unwrap(), "its shim lives");
        drop(lock);
        assert!(spares.take(&alive).unwrap());
    }

    #[test]
    fn a_task_that_has_a_folder_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spares = Spares::new(dir.path().join("spares"));
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        ended(&one);
        spares.take(&one).unwrap();
        ended(&two);
        assert!(!spares.give(&two));
        assert_eq!(names_in(&two.join(FIRST)).len(), 3);
        fs::remove_dir_all(&two).unwrap();
        assert!(spares.give(&two), "it was not lost");
    }

    #[test]
    fn what_an_earlier_gateway_left_goes_and_there_are_never_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("spares");
        fs::create_dir_all(place.join("7/1")).unwrap();
        let mut spares = Spares::new(place.clone());
        assert!(!place.exists());
        let task = dir.path().join("task");
        for number in 0..=MOST_SPARES {
            ended(&task);
            assert_eq!(spares.take(&task).unwrap(), number < MOST_SPARES);
        }
        assert_eq!(names_in(&place).len(), MOST_SPARES);
    }
}
