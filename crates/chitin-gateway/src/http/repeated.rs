//! submit, while new work is refused: a submission that comes again under its key is answered as it was before, if it was
//! accepted then. That costs one read and nothing of what there is too little of.
//!
//! Not where the processors are what is short (too many requests, too many commands for the writer): a refusal there must cost
//! next to nothing, and the next try finds the answer. A few reads at once, and a moment for each: whoever finds none free, or a
//! disk that does not answer, is refused as if nothing were known.

use std::sync::Arc;
use std::time::Duration;

use chitin_core::{Answer, SubmissionKey};
use tokio::time::Instant;

use super::guard::Caller;
use super::problem::Oops;
use super::{Shared, lookup};
use crate::engine::Trouble;

/// Reads at once, of the ten there may be: a flood of refusals leaves the others to whoever asks how things are.
pub(super) const AT_ONCE: usize = 2;
/// A read takes a tenth of a millisecond, on a disk that answers.
const PATIENCE: Duration = Duration::from_millis(200);

/// What the submission under this key was answered, or else the refusal. By `until` at the latest.
pub(super) async fn or_else(
    face: &Shared,
    caller: &Caller,
    key: Option<&SubmissionKey>,
    until: Instant,
    refusal: Oops,
) -> Result<Answer, Oops> {
    let Some(key) = key else { return Err(refusal) };
    let Ok(permit) = Arc::clone(&face.budgets.repeats).try_acquire_owned() else { return Err(refusal) };
    let (principal, wanted) = (Arc::clone(&caller.0), key.clone());
    let read = lookup::read(face, move |reader| {
        let found = reader.submission(&principal, &wanted);
        // Here, not where it is waited for: a read that hangs is still one.
        drop(permit);
        found
    });
    let until = until.min(Instant::now() + PATIENCE);
    match tokio::time::timeout_at(until, read).await {
        Ok(Ok(Some((prior, first)))) => Ok(prior.answer(&key.body_sha256, first)),
        Ok(Ok(None) | Err(_)) | Err(_) => Err(refusal),
    }
}

/// Whether a command that was refused for this may have been carried out before, and a read can tell.
pub(super) fn may_be_known(trouble: Trouble) -> bool {
    match trouble {
        Trouble::Full | Trouble::Unavailable | Trouble::LogFull | Trouble::Recovering => true,
        Trouble::Overloaded | Trouble::Row | Trouble::TooLate | Trouble::Stopping => false,
    }
}
