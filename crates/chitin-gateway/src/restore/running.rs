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

/// An attempt whose shim lives.
struct Running {
    id: TaskId,
    attempt: AttemptNo,
    isolation: Isolation,
}

/// Sees to it that nothing runs. How many commands were ended.
pub(super) fn end(spool: &Spool, boot_id: &str, allowed: bool) -> Result<usize, RestoreError> {
    let running = find(spool, boot_id)?;
    if running.is_empty() {
        return Ok(0);
    }
    if !allowed {
        return Err(RestoreError::StillRunning { count: running.len(), why: String::new() });
    }
    for one in &running {
        chitin_shim::tree::end(&one.isolation, &one.id.to_string(), one.attempt.0).map_err(|error| {
            RestoreError::StillRunning { count: running.len(), why: format!(": {error}") }
        })?;
    }
    let began = clock::steady();
    loop {
        let left = find(spool, boot_id)?;
        if left.is_empty() {
            return Ok(running.len());
        }
        if clock::steady().saturating_sub(began) > LAST_BREATH {
            return Err(RestoreError::StillRunning { count: left.len(), why: ", and do not end".to_owned() });
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Looks at every claim in every folder: whose lock is held, lives.
fn find(spool: &Spool, boot_id: &str) -> Result<Vec<Running>, RestoreError> {
    let mut running = Vec::new();
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
            if probe(&folder, &token, boot_id).map_err(failed)? != Found::Alive {
                continue;
            }
            let claim = fs::read(folder.join(chitin_proto::shim::names::claim(&token))).map_err(failed)?;
            let claim: Option<Claim> = serde_json::from_slice(&claim).ok();
            let isolation = claim.and_then(|claim| claim.shim).map(|shim| shim.isolation);
            running.push(Running { id, attempt, isolation: isolation.unwrap_or(Isolation::Rlimit) });
        }
    }
    Ok(running)
}
