//! What a restore finds of an attempt, and what it leaves of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};

use chitin_proto::shim::{ClaimedBy, PROTOCOL_VERSION, names};
use rustix::fs::{AtFlags, Mode, OFlags, linkat, open, openat};

use super::*;

const BOOT: &str = "this boot";
const TASK: TaskId = TaskId([7; 16]);

struct Place {
    _folder: tempfile::TempDir,
    spool: Spool,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path().join("spool"));
    Place { _folder: folder, spool }
}

/// A claim of a shim, which lives as long as the file is open.
fn claimed(folder: &Path, token: &str, is_void: bool) -> File {
    let shim = (!is_void).then_some(ClaimedBy { pid: 1, start_ticks: 1, isolation: Isolation::Rlimit });
    let claim = Claim { v: PROTOCOL_VERSION, token: token.to_owned(), boot_id: BOOT.to_owned(), shim };
    let path = folder.join(names::claim(token));
    fs::write(&path, serde_json::to_vec(&claim).unwrap()).unwrap();
    File::open(path).unwrap()
}

/// What a shim does before it starts its command: the folder open, a draft in it, and then the claim's name.
fn late_claim(folder: &Path, between: impl FnOnce()) -> rustix::io::Result<()> {
    let dir = open(folder, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    drop(openat(dir.as_fd(), "claim.1", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
    between();
    linkat(dir.as_fd(), "claim.1", dir.as_fd(), "claim-late", AtFlags::empty())
}

#[test]
fn a_shim_that_was_ordered_and_is_slow_never_claims() {
    for voids in 0..2 {
        let place = place();
        let folder = place.spool.make(TASK, AttemptNo(1)).unwrap();
        fs::create_dir(folder.join(names::SCRATCH)).unwrap();
        for void in 0..voids {
            drop(claimed(&folder, &format!("void{void}"), true));
        }
        let late = late_claim(&folder, || assert_eq!(end(&place.spool, BOOT, false).unwrap(), 0));
        assert_eq!(late, Err(rustix::io::Errno::NOENT), "{voids} void claims");
        assert!(!folder.exists());
    }
}

#[test]
fn a_folder_that_a_shim_claimed_stays_as_it_is() {
    let place = place();
    let folder = place.spool.make(TASK, AttemptNo(1)).unwrap();
    drop(claimed(&folder, "over", false));
    fs::write(folder.join("stdout.0"), "kept").unwrap();
    seal(&place.spool).unwrap();
    assert_eq!(fs::read(folder.join("stdout.0")).unwrap(), b"kept");
    // Nor is one that came between the look and the removal.
    let other = place.spool.make(TASK, AttemptNo(2)).unwrap();
    assert!(!is_claimed(&other).unwrap());
    fs::create_dir(other.join("came")).unwrap();
    drop(claimed(&other.join("came"), "inside", false));
    assert!(remove(&other).unwrap());
}

/// A process of an attempt.
struct Runs(Child);

impl Runs {
    #[expect(clippy::disallowed_methods, reason = "a test's own process")]
    fn of(task: TaskId, attempt: u32) -> Self {
        let mut command = Command::new("sleep");
        command.arg("1000").stdin(Stdio::null());
        command.env("CHITIN_TASK_ID", task.to_string()).env("CHITIN_ATTEMPT", attempt.to_string());
        Self(command.spawn().unwrap())
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

#[test]
fn where_it_is_refused_nothing_was_ended() {
    let place = place();
    // A shim that was killed, and what it had started.
    let killed = place.spool.make(TASK, AttemptNo(1)).unwrap();
    drop(claimed(&killed, "killed", false));
    let mut left = Runs::of(TASK, 1);
    // And one that lives.
    let alive = place.spool.make(TaskId([8; 16]), AttemptNo(1)).unwrap();
    let lives = claimed(&alive, "alive", false);
    lives.try_lock().unwrap();
    let refused = end(&place.spool, BOOT, false);
    assert!(matches!(refused, Err(RestoreError::StillRunning { count: 1, .. })), "{refused:?}");
    assert!(left.lives());
    drop(lives);
    // Then the shim that lived was killed, too: nothing is asked for any more.
    assert_eq!(end(&place.spool, BOOT, false).unwrap(), 0);
    until_dead(&mut left);
}

fn until_dead(left: &mut Runs) {
    while left.lives() {
        thread::sleep(LOOK_EVERY);
    }
}
