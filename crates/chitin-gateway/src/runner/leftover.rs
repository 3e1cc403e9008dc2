//! Shims of attempts that have ended without them: a task was set aside unread while it ran, or is of a store that was
//! put in this one's place. Nobody will ever ask such a shim how it went, and its command must not go on unseen, beside
//! another attempt of the same task. The sweep finds them by their folders, and so does whoever has such a task run again.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use chitin_core::{AttemptNo, TaskId};
use chitin_shim::recover::{InKernel, kill, killed, living};

use crate::clock;
use crate::engine::chain;
use crate::spool::Spool;

/// A shim that was told that its end is committed leaves within this time.
const LEAVES: Duration = Duration::from_millis(500);
/// One whose tree was ended leaves within this time, else it hangs and is killed.
const ENDS: Duration = Duration::from_secs(3);
/// What is not gone within this time is looked at again by the next sweep, and the folder stays until then.
const LOOK_FOR: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Where leftovers are looked for.
pub(crate) struct Place<'a> {
    pub(crate) spool: &'a Spool,
    /// Of the boot that the machine is in.
    pub(crate) boot_id: &'a str,
    /// Nobody wants to know any more.
    pub(crate) is_stopping: &'a dyn Fn() -> bool,
}

/// Whether nothing runs of an attempt that has ended. A shim that stays in its folder is ended with its tree. Blocks, for some
/// seconds at most.
pub(crate) fn has_left(place: &Place<'_>, id: TaskId, attempt: AttemptNo) -> bool {
    let folder = place.spool.attempt(id, attempt);
    let (began, mut is_ended, mut is_killed) = (clock::steady(), false, false);
    loop {
        let claim = match living(&folder) {
            Ok(None) => return nothing_runs(place, &folder, id, attempt),
            Ok(Some(claim)) => claim,
            Err(error) if error.kind() == ErrorKind::NotFound => return true,
            Err(error) => {
                tracing::warn!(task.id = %id, attempt = attempt.0, %error, "an ended attempt's folder cannot be read");
                return false;
            }
        };
        let waited = clock::steady().saturating_sub(began);
        if waited > LOOK_FOR || (place.is_stopping)() {
            return false;
        }
        if waited > ENDS && !is_killed {
            is_killed = true;
            if let Err(error) = kill(&folder, &claim.token, place.boot_id, InKernel::Kill) {
                tracing::warn!(task.id = %id, attempt = attempt.0, %error, "the claim of an ended attempt cannot be read");
            }
        }
        if waited > LEAVES
            && !is_ended
            && let Some(shim) = claim.shim
        {
            is_ended = true;
            tracing::warn!(task.id = %id, attempt = attempt.0, "what runs of an ended attempt is ended");
            if let Err(error) = chitin_shim::tree::end(&shim.isolation, &id.to_string(), attempt.0) {
                let error = chain(&error);
                tracing::warn!(task.id = %id, attempt = attempt.0, error, "an ended attempt's tree does not end yet");
            }
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// Whether nothing runs of an attempt that no shim keeps. One that was killed may have left its tree, frozen even, and
/// the attempt's task was given up before anybody looked for it.
fn nothing_runs(place: &Place<'_>, folder: &Path, id: TaskId, attempt: AttemptNo) -> bool {
    let claims = match killed(folder, place.boot_id) {
        Ok(claims) => claims,
        Err(error) if error.kind() == ErrorKind::NotFound => return true,
        Err(error) => {
            tracing::warn!(task.id = %id, attempt = attempt.0, %error, "an ended attempt's folder cannot be read");
            return false;
        }
    };
    claims.iter().filter_map(|claim| claim.shim.as_ref()).all(|shim| {
        match chitin_shim::tree::end(&shim.isolation, &id.to_string(), attempt.0) {
            Ok(_) => true,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(task.id = %id, attempt = attempt.0, error, "an ended attempt's tree does not end yet");
                false
            }
        }
    })
}
