//! What still runs of a store that is to be replaced: no gateway would ever find it again, and the tasks it belongs to may
//! run anew. So it ends first, if that is wished.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chitin_core::{AttemptNo, TaskId};
use chitin_proto::shim::{Claim, Isolation};
use chitin_shim::recover::{Found, probe};

use super::RestoreError;
use crate::clock;
use crate::spool::Spool;

/// A shim whose tree was ended writes its record and goes; it is waited for so long.
const LAST_BREATH: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A shim writes two names into its folder until it has claimed it.
const SEAL_TRIES: u32 = 10;

/// An attempt of which something may run.
struct Running {
    id: TaskId,
    attempt: AttemptNo,
    isolation: Isolation,
}

/// What is found.
#[derive(Default)]
struct Left {
    /// Their shims live.
    supervised: Vec<Running>,
    /// Their shims were killed: what they had started may still run, and nobody will ever say how it ended.
    orphaned: Vec<Running>,
}

/// Sees to it that nothing runs, and that nothing will. How many commands were ended. What a killed shim has left is ended
/// unasked: the next gateway would do nothing else. Where the restore is refused, nothing was ended.
pub(super) fn end(spool: &Spool, boot_id: &str, allowed: bool) -> Result<usize, RestoreError> {
    refuse_if_runs(&find(spool, boot_id)?, allowed)?;
    seal(spool)?;
    // A shim that was faster runs now.
    let left = find(spool, boot_id)?;
    refuse_if_runs(&left, allowed)?;
    let Left { supervised: running, orphaned } = left;
    end_trees(&orphaned)?;
    if running.is_empty() {
        return Ok(0);
    }
    end_trees(&running)?;
    let began = clock::steady();
    loop {
        let left = find(spool, boot_id)?.supervised;
        if left.is_empty() {
            return Ok(running.len());
        }
        if clock::steady().saturating_sub(began) > LAST_BREATH {
            return Err(RestoreError::StillRunning { count: left.len(), why: ", and do not end".to_owned() });
        }
        thread::sleep(LOOK_EVERY);
    }
}

fn refuse_if_runs(left: &Left, allowed: bool) -> Result<(), RestoreError> {
    if allowed || left.supervised.is_empty() {
        return Ok(());
    }
    Err(RestoreError::StillRunning { count: left.supervised.len(), why: String::new() })
}

/// A shim that was ordered before the gateway died, and is slow, may still claim its attempt: it holds the folder open, so
/// that moving it away does not help. Nothing gets a name in a folder that is removed: the folders without a shim's claim
/// go. To the old store, should it stay, such an attempt is one that never started; it starts it again.
fn seal(spool: &Spool) -> Result<(), RestoreError> {
    let folders = spool.folders().map_err(failed(spool.root()))?;
    for (id, attempt) in folders {
        let folder = spool.attempt(id, attempt);
        for _ in 0..SEAL_TRIES {
            if is_claimed(&folder).map_err(failed(&folder))? || remove(&folder).map_err(failed(&folder))? {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a shim has claimed it: it runs, or ran. One without any claim, or with void ones alone, is not claimed.
fn is_claimed(folder: &Path) -> io::Result<bool> {
    let Some(entries) = if_there(fs::read_dir(folder))? else { return Ok(false) };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("claim-") {
            continue;
        }
        let Some(bytes) = if_there(fs::read(entry.path()))? else { continue };
        // One that says nothing is torn, by a power cut: its attempt is another boot's.
        let claim = serde_json::from_slice::<Claim>(&bytes).ok();
        if claim.is_none_or(|claim| claim.shim.is_some()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the folder of an attempt that nobody has claimed; false: somebody put something into it meanwhile. A shim's claim
/// is never removed: what comes after the look keeps the folder.
fn remove(folder: &Path) -> io::Result<bool> {
    let Some(entries) = if_there(fs::read_dir(folder))? else { return Ok(true) };
    // Void claims last: they keep the other shims of the attempt out.
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.sort_by_key(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("claim-"))
    });
    for path in paths {
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if_there(if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) })?;
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        other => if_there(other).map(|_| true),
    }
}

fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn failed<'p>(path: &'p Path) -> impl Fn(io::Error) -> RestoreError + use<'p> {
    move |source| RestoreError::File { step: "look into", path: path.to_owned(), source }
}

fn end_trees(running: &[Running]) -> Result<(), RestoreError> {
    for one in running {
        chitin_shim::tree::end(&one.isolation, &one.id.to_string(), one.attempt.0).map_err(|error| {
            RestoreError::StillRunning { count: running.len(), why: format!(": {error}") }
        })?;
    }
    Ok(())
}

/// Looks at every claim in every folder: whose lock is held, lives; whose is free and left no record, was killed.
fn find(spool: &Spool, boot_id: &str) -> Result<Left, RestoreError> {
    let mut left = Left::default();
    let folders = spool.folders().map_err(failed(spool.root()))?;
    for (id, attempt) in folders {
        let folder = spool.attempt(id, attempt);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for token in names.filter_map(|name| Some(name.strip_prefix("claim-")?.to_owned())) {
            let of = |claim: Option<Claim>| {
                let isolation = claim.and_then(|claim| claim.shim).map(|shim| shim.isolation);
                Running { id, attempt, isolation: isolation.unwrap_or(Isolation::Rlimit) }
            };
            match probe(&folder, &token, boot_id).map_err(failed(&folder))? {
                Found::Alive => {
                    let file = folder.join(chitin_proto::shim::names::claim(&token));
                    let claim = fs::read(file).map_err(failed(&folder))?;
                    left.supervised.push(of(serde_json::from_slice(&claim).ok()));
                }
                Found::Dead { record: None, claim } => left.orphaned.push(of(Some(claim))),
                Found::NoClaim
                | Found::Void
                | Found::Dead { record: Some(_), .. }
                | Found::OtherBoot { .. } => {}
            }
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
