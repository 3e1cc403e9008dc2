//! Shims of attempts that have ended without them: a task was set aside unread while it ran, or is of a store that was
//! put in this one's place. Nobody will ever ask such a shim how it went, and its command must not go on unseen, beside
//! another attempt of the same task. The sweep finds them by their folders.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use chitin_core::{AttemptNo, TaskId};
use chitin_shim::recover::{killed, living};

use super::Context;
use crate::clock;
use crate::engine::chain;

/// A shim that was told that its end is committed leaves within this time.
const LEAVES: Duration = Duration::from_millis(500);
/// One whose tree was ended leaves within this time; else the next sweep looks again, and the folder stays until then.
const LOOK_FOR: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Whether no shim lives in the folder of an attempt that has ended. One that stays is ended with its tree.
pub(crate) fn has_left(context: &Context, id: TaskId, attempt: AttemptNo) -> bool {
    let folder = context.spool.attempt(id, attempt);
    let (began, mut is_ended) = (clock::steady(), false);
    loop {
        let claim = match living(&folder) {
            Ok(None) => return nothing_runs(context, &folder, id, attempt),
            Ok(Some(claim)) => claim,
            Err(error) if error.kind() == ErrorKind::NotFound => return true,
            Err(error) => {
                tracing::warn!(task.id = %id, attempt = attempt.0, %error, "an ended attempt's folder cannot be read");
                return false;
            }
        };
        let waited = clock::steady().saturating_sub(began);
        if waited > LOOK_FOR || context.jobs.is_stopped() {
            return false;
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
fn nothing_runs(context: &Context, folder: &Path, id: TaskId, attempt: AttemptNo) -> bool {
    let claims = match killed(folder, context.clock.boot_id()) {
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
