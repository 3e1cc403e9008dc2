//! Puts a backup in the place of the store, while no gateway serves.
//!
//! The way: the lock → nothing of the old store runs any more → the backup is copied, checked and made a store of its own
//! in `restore.draft/` → the folder is renamed to `restore.ready/`: from here on the restore has happened → what was there
//! is moved into it, the new store moves out of it, and the folder keeps the old one as `replaced-<time>/`.
//!
//! Invariant: a kill between any two steps leaves the old store or the new one. Up to the first rename it is the old one;
//! from there on whoever takes the lock next completes the rest ([`complete`]), before anything is opened.
//!
//! Invariant: nothing of the old store is ever taken for the new one's. Its spool moves away with it, its processes have
//! ended, and the new store has another name, so other control groups, and boots that are not this machine's. Of the spool
//! only logs come back whose attempts had ended before the backup was taken: an attempt ends once, so they are the same.

mod running;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use chitin_core::Limits;
use chitin_store::{StoreError, StoreOptions, adopt};

use crate::clock::{self, Clock};
use crate::data_dir::{DataDir, Purpose, names};
use crate::spool::Spool;
use crate::{GatewayError, chance};

/// The restore that is being prepared: worth nothing.
const DRAFT: &str = "restore.draft";
/// The restore that has happened, whatever else is still to be moved.
const READY: &str = "restore.ready";
/// In these: the new store, and a line for each log folder that goes on with it.
const NEW_STORE: &str = "new.db";
const LOGS_TO_KEEP: &str = "logs-to-keep";
/// What makes up the old store; the log of a database first, so that the database is never there without it.
const OLD: &[&str] = &["chitin.db-wal", names::DATABASE, names::SPOOL];

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Tasks in the store now.
    pub tasks: u64,
    /// Of these, the ones that ran when the backup was taken: `host_lost` at the next start, then by their policy.
    pub running: u64,
    /// Attempts whose logs were too large for the database and are not here either.
    pub logs_missing: u64,
    /// Where the old store is, if there was one.
    pub replaced: Option<PathBuf>,
    /// Commands of the old store that were ended.
    pub ended: usize,
}

/// Why nothing was restored: the store is as it was, but for [`RestoreError::Unfinished`].
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Commands of the store that is there still run.
    #[error("{count} commands of the store that would be replaced still run{why}")]
    StillRunning {
        /// How many.
        count: usize,
        /// Why they do, if they were to be ended.
        why: String,
    },
    /// A file failed.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was tried.
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The restore has happened, and something kept it from being completed.
    #[error("the restore has happened; `chitin up` completes it, once this is mended")]
    Unfinished(#[source] io::Error),
    /// The backup is none, is damaged, or was made by a newer program.
    #[error("the backup cannot be used")]
    Backup(#[source] StoreError),
    /// The data directory cannot be used: a gateway runs on it, or worse.
    #[error(transparent)]
    DataDir(#[from] GatewayError),
}

/// Replaces the store of a data directory by a backup. What of the old one still runs is ended if `end_running`, else it
/// is a reason not to.
///
/// # Errors
/// See [`RestoreError`].
pub fn restore(data_dir: &Path, backup: &Path, end_running: bool) -> Result<Restored, RestoreError> {
    let data = DataDir::open(data_dir)?;
    let _lock = data.lock(names::GATEWAY_LOCK, Purpose::Restore)?;
    data.furnish()?;
    let clock = Clock::new().map_err(|source| GatewayError::System { step: "read the boot id", source })?;
    // First that it can be done, then what cannot be taken back.
    let draft = data.join(DRAFT);
    let prepared = prepare(&data, backup, &draft);
    let spool = Spool::new(data.join(names::SPOOL));
    let ended = prepared.and_then(|prepared| {
        running::end(&spool, clock.boot_id(), end_running).map(|ended| (prepared, ended))
    });
    let ((adopted, logs_missing), ended) = ended.inspect_err(|_| {
        _ = fs::remove_dir_all(&draft);
    })?;

    if let Some(instance) = data.instance() {
        // Of the old store nothing runs any more, and the new one looks only after its own groups.
        for tier in chitin_shim::groups::all() {
            _ = tier.sweep(&instance, &|_| false);
            tier.remove(&instance);
        }
    }
    let ready = data.join(READY);
    fs::rename(&draft, &ready).map_err(file("rename", &draft))?;
    sync(data.path()).map_err(RestoreError::Unfinished)?;
    let replaced = complete(data.path()).map_err(RestoreError::Unfinished)?;
    Ok(Restored { tasks: adopted.tasks, running: adopted.running, logs_missing, replaced, ended })
}

/// A store of its own, made of the backup, beside the one that is there.
fn prepare(
    data: &DataDir,
    backup: &Path,
    draft: &Path,
) -> Result<(chitin_store::Adopted, u64), RestoreError> {
    match fs::remove_dir_all(draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("remove", draft)(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(draft).map_err(file("make", draft))?;
    let new = draft.join(NEW_STORE);
    fs::copy(backup, &new).map_err(file("copy", backup))?;
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(file("protect", &new))?;
    // A raw copy of a database may have its write-ahead log beside it; a backup has none.
    let beside = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        PathBuf::from(name)
    };
    match fs::copy(beside(backup), beside(&new)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file("copy", backup)(error)),
        _ => {}
    }
    let mut store_id = [0; 16];
    store_id.iter_mut().zip(chance::secret()).for_each(|(to, from)| *to = from);
    let options = StoreOptions::new(store_id, &Limits::default());
    let adopted = adopt(&new, backup, &options).map_err(RestoreError::Backup)?;

    let spool = data.join(names::SPOOL);
    let folders = adopted.logs_in_files.iter().map(|(id, attempt)| format!("{id}/{}", attempt.0));
    let here: Vec<String> = folders.filter(|folder| spool.join(folder).is_dir()).collect();
    let missing = adopted.logs_in_files.len().saturating_sub(here.len());
    let list = draft.join(LOGS_TO_KEEP);
    fs::write(&list, here.join("\n"))
        .and_then(|()| File::open(&list)?.sync_all())
        .and_then(|()| sync(draft))
        .map_err(file("write", &list))?;
    Ok((adopted, u64::try_from(missing).unwrap_or(u64::MAX)))
}

/// Whether a restore has happened and is to be completed.
pub(crate) fn has_happened(data_dir: &Path) -> bool {
    data_dir.join(READY).is_dir()
}

/// Completes a restore that has happened, step by step; doing a part of it again is the same. Called under the gateway's lock, before
/// anything in the data directory is opened. Where the old store is then.
pub(crate) fn complete(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    if !has_happened(data_dir) {
        return Ok(None);
    }
    let ready = data_dir.join(READY);
    let new = ready.join(NEW_STORE);
    if new.exists() {
        for name in OLD {
            // What is there already was moved before a kill; what stands in its old place by now is the new store's.
            if !ready.join(name).exists() {
                if_there(fs::rename(data_dir.join(name), ready.join(name)))?;
            }
        }
        // What is only an index of the log in memory.
        if_there(fs::remove_file(data_dir.join("chitin.db-shm")))?;
        sync(&ready)?;
        sync(data_dir)?;
        keep_logs(data_dir, &ready)?;
        fs::rename(&new, data_dir.join(names::DATABASE))?;
        sync(data_dir)?;
    }
    if_there(fs::remove_file(ready.join(LOGS_TO_KEEP)))?;
    // An empty one is nothing to keep.
    _ = fs::remove_dir(ready.join(names::SPOOL));
    let replaced = if fs::read_dir(&ready)?.next().is_some() {
        let replaced = free_name(data_dir);
        fs::rename(&ready, &replaced)?;
        Some(replaced)
    } else {
        fs::remove_dir(&ready)?;
        None
    };
    sync(data_dir)?;
    Ok(replaced)
}

/// The logs of attempts that had ended when the backup was taken go on where the new store looks for them.
fn keep_logs(data_dir: &Path, ready: &Path) -> io::Result<()> {
    let folders = match fs::read_to_string(ready.join(LOGS_TO_KEEP)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let spool = data_dir.join(names::SPOOL);
    for folder in folders.lines() {
        let to = spool.join(folder);
        let Some(parent) = to.parent() else { continue };
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        if_there(fs::rename(ready.join(names::SPOOL).join(folder), &to))?;
        sync(parent)?;
    }
    Ok(())
}

/// `replaced-2026-01-31T12-00-00Z`, and a number if that is taken.
fn free_name(data_dir: &Path) -> PathBuf {
    let now = jiff::Timestamp::from_millisecond(clock::wall_ms()).unwrap_or_default();
    let name = format!("replaced-{}", format!("{now:.0}").replace(':', "-"));
    let plain = data_dir.join(&name);
    let mut names =
        std::iter::once(plain.clone()).chain((2..1_000).map(|n| data_dir.join(format!("{name}.{n}"))));
    names.find(|path| fs::symlink_metadata(path).is_err()).unwrap_or(plain)
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn file<'p>(step: &'static str, path: &'p Path) -> impl Fn(io::Error) -> RestoreError + use<'p> {
    move |source| RestoreError::File { step, path: path.to_owned(), source }
}
