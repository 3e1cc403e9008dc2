//! Backups: a copy of the store in a file of its own, taken while the gateway serves, or while none runs.
//!
//! The way of one: the target is looked at → a draft beside it (0600) → one snapshot, page by page → checked, synced →
//! the target's name, the folder synced → remembered in the data directory. A kill between any two steps leaves the
//! target as it was, or whole; a draft that is left is written over by the next backup to the same file.
//!
//! What is in it: everything that is in the database, so every task with its result, keys, queues, and logs up to
//! `inline_log_bytes`. What is not: larger logs, which stand in files beside the database.
//!
//! Invariant: nothing is answered before it is on disk, and what is there under the target's name is whole.

mod known;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use chitin_core::Limits;
use chitin_store::{StoreError, StoreOptions};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::data_dir::{DataDir, Purpose, names};
use crate::{GatewayError, clock, restore};

pub use known::Known;
pub(crate) use known::{newest, remember};

/// A backup that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Tasks in it.
    pub tasks: u64,
    /// Attempts whose logs are too large for the database, and so are not in it.
    pub logs_in_files: u64,
}

/// Why one was not finished. Nothing of it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Whoever asked is gone.
    NobodyWaits,
    /// The gateway stops.
    Stopping,
    /// So much was written meanwhile that the write-ahead log nears its cap: submissions go first.
    LogTooLong,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file is there already.
    #[error("{} exists already; choose another name, or have it replaced: --force, or `replace` over HTTP", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be one.
    #[error("{} {why}", path.display())]
    Target {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is nothing to copy.
    #[error("there is no store in {}", path.display())]
    NoStore {
        /// The data directory.
        path: PathBuf,
    },
    /// It was stopped.
    #[error("{}", match .0 {
        Stop::NobodyWaits => "nobody waits for the backup any more",
        Stop::Stopping => "the gateway is stopping",
        Stop::LogTooLong => "so much is being written that a backup would hold the write-ahead log up; try again at a calmer time",
    })]
    Stopped(Stop),
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
    /// The store failed, or the copy of it.
    #[error("cannot copy the database")]
    Store(#[from] StoreError),
    /// The data directory cannot be used: a gateway runs on it, or worse.
    #[error(transparent)]
    DataDir(#[from] GatewayError),
}

/// The store that backups are taken of.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) data_dir: PathBuf,
    pub(crate) options: StoreOptions,
}

/// Takes a backup of the store of a data directory that no gateway serves.
///
/// # Errors
/// See [`BackupError`]; nothing is left behind.
pub fn backup(data_dir: &Path, target: &Path, replace: bool) -> Result<Backup, BackupError> {
    // In the middle of a restore the store is in none of its places but that one.
    if !data_dir.join(names::DATABASE).exists() && !restore::has_happened(data_dir) {
        return Err(BackupError::NoStore { path: data_dir.to_owned() });
    }
    let data = DataDir::open(data_dir)?;
    let _lock = data.lock(names::GATEWAY_LOCK, Purpose::Backup)?;
    data.furnish()?;
    let options = StoreOptions::new([0; 16], &Limits::default());
    take(&Source { data_dir: data.path().to_owned(), options }, target, replace, &mut || None)
}

/// Takes one; blocks. `stop` is asked after every megabyte, and while the copy is checked, whether it should go on.
pub(crate) fn take(
    source: &Source,
    target: &Path,
    replace: bool,
    stop: &mut (dyn FnMut() -> Option<Stop> + Send),
) -> Result<Backup, BackupError> {
    let (folder, draft) = look_at(source, target)?;
    if !replace && fs::symlink_metadata(target).is_ok() {
        return Err(BackupError::Exists { path: target.to_owned() });
    }
    let draft = Draft::make(draft)?;
    let mut stopped = None;
    let copied =
        chitin_store::copy(&source.data_dir.join(names::DATABASE), &draft.0, &source.options, &mut || {
            stopped = stop();
            stopped.is_none()
        })?;
    let Some(copied) = copied else {
        return Err(BackupError::Stopped(stopped.unwrap_or(Stop::NobodyWaits)));
    };
    draft.become_target(target, replace)?;
    File::open(&folder).and_then(|folder| folder.sync_all()).map_err(file("sync", &folder))?;
    let taken = Backup {
        path: target.to_owned(),
        bytes: copied.bytes,
        tasks: copied.tasks,
        logs_in_files: copied.logs_in_files,
    };
    // The backup stands: that it is not remembered is a pity, and said.
    if let Err(error) = remember(&source.data_dir, &taken, clock::wall_ms()) {
        tracing::warn!(%error, "a backup was taken and could not be remembered");
    }
    Ok(taken)
}

/// Where the target and its draft stand; what must not be replaced by a backup, is not.
fn look_at(source: &Source, target: &Path) -> Result<(PathBuf, PathBuf), BackupError> {
    let refuse = |why| BackupError::Target { path: target.to_owned(), why };
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        return Err(refuse("names no file"));
    };
    if !target.is_absolute() {
        return Err(refuse("must be an absolute path"));
    }
    let folder = parent.canonicalize().map_err(file("find the folder", parent))?;
    if folder == source.data_dir || folder.starts_with(source.data_dir.join(names::SPOOL)) {
        return Err(refuse(
            "is among the gateway's own files; a backup belongs elsewhere, best on another disk",
        ));
    }
    if fs::metadata(target).is_ok_and(|found| !found.is_file()) {
        return Err(refuse("is there and no file"));
    }
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(".chitin-draft");
    Ok((folder.clone(), folder.join(draft)))
}

fn file<'p>(step: &'static str, path: &'p Path) -> impl Fn(io::Error) -> BackupError + use<'p> {
    move |source| BackupError::File { step, path: path.to_owned(), source }
}

fn name_without_links(draft: &Path, target: &Path) -> Result<(), BackupError> {
    match renameat_with(CWD, draft, CWD, target, RenameFlags::NOREPLACE) {
        Err(Errno::EXIST) => Err(BackupError::Exists { path: target.to_owned() }),
        other => other.map_err(|error| file("make", target)(error.into())),
    }
}

/// A backup that is not one yet; removed unless it becomes one.
struct Draft(PathBuf);

impl Draft {
    fn make(path: PathBuf) -> Result<Self, BackupError> {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("replace", &path)(error));
            }
            _ => {}
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(file("make", &path))?;
        Ok(Self(path))
    }

    /// Gives it the target's name: at once, and without looking first whether somebody else has it.
    fn become_target(self, target: &Path, replace: bool) -> Result<(), BackupError> {
        if replace {
            return fs::rename(&self.0, target).map_err(file("make", target));
        }
        match fs::hard_link(&self.0, target) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Exists { path: target.to_owned() })
            }
            // A file system without links. What came there in between is not replaced either.
            Err(_) => name_without_links(&self.0, target),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests;
