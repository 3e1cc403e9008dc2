//! `POST /v1/backup`: a copy of the store into a file of the gateway's machine, answered when it is on disk there.
//!
//! One at a time, for the owner alone: who may start commands as this user may write its files. A client that goes away
//! ends it. It takes a thread that may block, and two small page caches; the writer never waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use chitin_core::EventName;
use chitin_store::{NoReason, Verdict};
use serde::Deserialize;
use serde_json::json;

use super::guard::Caller;
use super::problem::{Answered, Oops};
use super::refusals::Bound;
use super::submit::json as answer;
use super::{Shared, accept, body};
use crate::backup::{self, BackupError, Stop};
use crate::engine::chain;

/// A path and little else.
const MAX_BODY_BYTES: u64 = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "{\"path\": \"/absolute/file\"}, and `replace` if it may exist")]
struct Wanted {
    path: PathBuf,
    #[serde(default)]
    replace: bool,
}

/// Raised when the request is dropped, however it ends.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) async fn post(
    State(face): State<Shared>,
    Extension(caller): Extension<Caller>,
    request: Request<Body>,
) -> Answered {
    let body = body::read_json(&face, &caller, request, MAX_BODY_BYTES).await?;
    let Wanted { path, replace } = accept::parse(&body.bytes)?;
    caller.must_own("take a backup")?;
    let place = Arc::clone(&face.budgets.backups)
        .try_acquire_owned()
        .map_err(|_| Oops::refused(Bound::Backups, "a backup is being taken already; try again after it"))?;
    let gone = Arc::new(AtomicBool::new(false));
    let _raises = Gone(Arc::clone(&gone));
    let (source, status, tasks) =
        (face.backups.clone(), Arc::clone(face.engine.status()), face.tasks.clone());
    // Half of the cap is left to those who submit.
    let most_log_bytes = face.limits.wal_cap_bytes / 2;
    let work = move || {
        let taken = backup::take(&source, &path, replace, &mut || {
            if gone.load(Ordering::Relaxed) {
                Some(Stop::NobodyWaits)
            } else if tasks.are_stopping() {
                Some(Stop::Stopping)
            } else if status.log().0 > most_log_bytes {
                Some(Stop::LogTooLong)
            } else {
                None
            }
        });
        drop(place);
        taken
    };
    let taken = face.tasks.blocking(work).await.ok_or_else(|| Oops::internal("a backup panicked"))?;
    let taken = taken.map_err(refused)?;
    let view = json!({
        "path": taken.path,
        "bytes": taken.bytes,
        "tasks": taken.tasks,
        "logs_in_files": taken.logs_in_files,
    });
    face.events.tell(EventName::BackupTaken, view.clone());
    Ok(answer(StatusCode::OK, view.to_string()))
}

/// Why there is none, for whoever asked: the owner of this machine's files, so that their names and troubles may be
/// told.
fn refused(error: BackupError) -> Oops {
    let detail = chain(&error);
    let bound = match &error {
        BackupError::Exists { .. } | BackupError::Target { .. } => return Oops::invalid("path", detail),
        BackupError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Bound::Disk,
        BackupError::File { .. } => return Oops::invalid("path", detail),
        BackupError::Stopped(_) => Bound::Backups,
        BackupError::Store(error) if error.verdict() == Verdict::No(NoReason::Full) => Bound::Disk,
        BackupError::Store(_) | BackupError::NoStore { .. } | BackupError::DataDir(_) => {
            tracing::error!(error = detail, "a backup failed");
            Bound::Store
        }
    };
    Oops::refused(bound, detail)
}
