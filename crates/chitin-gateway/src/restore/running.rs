//! What still runs of a store that is to be replaced: no gateway would ever find it again, and the tasks it belongs to may
//! run anew. So it ends first, if that is wished.

use std::fs;
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

/// Sees to it that nothing runs. How many commands were ended. What a killed shim has left is ended unasked: the next
/// gateway would do nothing else.
pub(super) fn end(spool: &Spool, boot_id: &str, allowed: bool) -> Result<usize, RestoreError> {
    let Left { supervised: running, orphaned } = find(spool, boot_id)?;
    end_trees(&orphaned)?;
    if running.is_empty() {
        return Ok(0);
    }
    if !allowed {
        return Err(RestoreError::StillRunning { count: running.len(), why: String::new() });
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
    let folders = spool.folders().map_err(|source| RestoreError::File {
        step: "look into",
        path: spool.root().to_owned(),
        source,
    })?;
    for (id, attempt) in folders {
        let folder = spool.attempt(id, attempt);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        for token in names.filter_map(|name| Some(name.strip_prefix("claim-")?.to_owned())) {
            let failed = |source| RestoreError::File { step: "look into", path: folder.clone(), source };
            let of = |claim: Option<Claim>| {
                let isolation = claim.and_then(|claim| claim.shim).map(|shim| shim.isolation);
                Running { id, attempt, isolation: isolation.unwrap_or(Isolation::Rlimit) }
            };
            match probe(&folder, &token, boot_id).map_err(failed)? {
                Found::Alive => {
                    let file = folder.join(chitin_proto::shim::names::claim(&token));
                    let claim = fs::read(file).map_err(failed)?;
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
