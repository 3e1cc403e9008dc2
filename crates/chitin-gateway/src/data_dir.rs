//! The data directory: its locks, its token, its pid files. Locks decide who is the gateway and who its supervisor; pid
//! files inform.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use chitin_failpoints::planted;
use chitin_store::Ballast;

use crate::{GatewayError, chance, restore};

/// A lock that is held this long is somebody's who stays.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Names in a data directory; unknown ones beside them are left alone.
pub(crate) mod names {
    pub(crate) const DATABASE: &str = "chitin.db";
    pub(crate) const SOCKET: &str = "chitin.sock";
    pub(crate) const TOKEN: &str = "admin.token";
    pub(crate) const GATEWAY_LOCK: &str = "gateway.lock";
    pub(crate) const SUPERVISOR_LOCK: &str = "supervisor.lock";
    pub(crate) const SUPERVISOR_PID: &str = "supervisor.pid";
    pub(crate) const GATEWAY_PID: &str = "gateway.pid";
    pub(crate) const LOG: &str = "chitin.log";
    pub(crate) const SPOOL: &str = "spool";
    pub(crate) const BACKUPS: &str = "backups.json";
    pub(crate) const INSTANCE: &str = "instance";
    pub(crate) const BALLAST: &str = "chitin.ballast";
}

/// What a lock is held for, as its file says: whoever is refused is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A gateway, or its supervisor.
    Serve,
    /// A backup without a gateway.
    Backup,
    /// A restore.
    Restore,
}

impl Purpose {
    /// Of the same length, so that writing one over another leaves nothing of it, and needs no room on a full disk.
    fn text(self) -> &'static str {
        match self {
            Self::Serve => "serve  \n",
            Self::Backup => "backup \n",
            Self::Restore => "restore\n",
        }
    }

    /// What the holder of a lock wrote last.
    fn of(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_default();
        [Self::Backup, Self::Restore].into_iter().find(|held| held.text() == text).unwrap_or(Self::Serve)
    }
}

/// An open data directory.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    folder: File,
}

impl DataDir {
    /// Makes the directory if it is missing; nothing in it is touched.
    pub(crate) fn open(path: &Path) -> Result<Self, GatewayError> {
        let fail = |step| move |source| GatewayError::DataDir { step, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("create"))?;
        let path = path.canonicalize().map_err(fail("resolve"))?;
        let folder = File::open(&path).map_err(fail("open"))?;
        Ok(Self { path, folder })
    }

    /// Takes one of the two locks; it is given back when the file is dropped.
    ///
    /// # Errors
    /// Somebody else holds it: the gateway that runs here, or who says in the lock's file what for.
    pub(crate) fn lock(&self, name: &str, purpose: Purpose) -> Result<File, GatewayError> {
        let fail = |step| move |source| GatewayError::DataDir { step, path: self.path.clone(), source };
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.join(name))
            .map_err(fail("open the lock of"))?;
        if planted!("no-lock") {
            return Ok(lock);
        }
        match lock_soon(&lock) {
            Ok(()) => {
                // It only informs: where the disk does not take it, the lock is held all the same.
                _ = lock.write_all_at(purpose.text().as_bytes(), 0);
                Ok(lock)
            }
            Err(TryLockError::WouldBlock) => Err(self.held_by_another(name)),
            Err(TryLockError::Error(source)) => Err(fail("lock")(source)),
        }
    }

    fn held_by_another(&self, name: &str) -> GatewayError {
        let path = self.path.clone();
        match Purpose::of(&self.join(name)) {
            Purpose::Serve => {
                GatewayError::AlreadyRunning { pid: read_pid(&self.join(names::GATEWAY_PID)), path }
            }
            Purpose::Backup => GatewayError::InUse { by: "a backup is being taken", path },
            Purpose::Restore => GatewayError::InUse { by: "a restore is under way", path },
        }
    }

    /// What a gateway needs in it. Its lock is held.
    pub(crate) fn furnish(&self) -> Result<(), GatewayError> {
        let fail = |step| move |source| GatewayError::DataDir { step, path: self.path.clone(), source };
        fs::set_permissions(&self.path, Permissions::from_mode(0o700)).map_err(fail("protect"))?;
        restore::complete(&self.path).map_err(fail("complete a restore in"))?;
        let spool = self.join(names::SPOOL);
        DirBuilder::new().recursive(true).mode(0o700).create(spool).map_err(fail("create a folder in"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A path to `name` that fits a socket's 108 bytes however deep the directory is.
    pub(crate) fn short(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.folder.as_raw_fd()))
    }

    /// The first start's token, or the one that is there. 64 hexadecimal digits, one line.
    pub(crate) fn admin_token(&self) -> io::Result<String> {
        let path = self.path.join(names::TOKEN);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let token: String = chance::secret().iter().map(|byte| format!("{byte:02x}")).collect();
        self.replace(names::TOKEN, &format!("{token}\n"))?;
        self.folder.sync_all()?;
        Ok(token)
    }

    /// Writes this process's id, for people. Whole or not at all; not made durable, since no process outlives the machine.
    /// A full disk keeps nobody from beginning: what is kept back on it is for that, too.
    pub(crate) fn write_pid(&self, name: &str) -> io::Result<()> {
        let draft = self.path.join(format!("{name}.draft"));
        let write = || fs::write(&draft, format!("{}\n", std::process::id()));
        match write() {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.ballast().release().map_err(io::Error::other)?;
                write()?;
            }
            done => done?,
        }
        fs::rename(draft, self.path.join(name))
    }

    /// Room that is kept for a full disk.
    pub(crate) fn ballast(&self) -> Ballast {
        Ballast::new(&self.join(names::BALLAST), Ballast::DEFAULT_BYTES)
    }

    /// Removes what says that somebody is here. Locks' files stay: another process may be waiting on them.
    pub(crate) fn remove(&self, names: &[&str]) {
        for name in names {
            _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Writes down under which name this store has its control groups, for whoever has to remove them when the store
    /// itself cannot be read any more.
    pub(crate) fn write_instance(&self, instance: &str) -> io::Result<()> {
        let text = format!("{instance}\n");
        match fs::read_to_string(self.join(names::INSTANCE)) {
            Ok(there) if there == text => Ok(()),
            _ => self.replace(names::INSTANCE, &text),
        }
    }

    /// That name, if there is one.
    pub(crate) fn instance(&self) -> Option<String> {
        let text = fs::read_to_string(self.join(names::INSTANCE)).ok()?;
        let name = text.trim();
        (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| name.to_owned())
    }

    /// Whole or not at all, and on disk.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let draft = self.path.join(format!("{name}.draft"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, self.path.join(name))
    }
}

/// Whoever only looks whether somebody is here holds the lock for an instant.
fn lock_soon(lock: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    lock.try_lock()
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
