//! The data directory: its lock, its token, its pid files. The lock decides who is the gateway; pid files inform.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::{GatewayError, chance};

/// A lock that is held this long is a gateway's.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Names in a data directory; unknown ones beside them are left alone.
pub(crate) mod names {
    pub(crate) const DATABASE: &str = "chitin.db";
    pub(crate) const SOCKET: &str = "chitin.sock";
    pub(crate) const TOKEN: &str = "admin.token";
    pub(crate) const LOCK: &str = "gateway.lock";
    pub(crate) const SUPERVISOR_PID: &str = "supervisor.pid";
    pub(crate) const GATEWAY_PID: &str = "gateway.pid";
    pub(crate) const LOG: &str = "chitin.log";
    pub(crate) const SPOOL: &str = "spool";
}

/// An open data directory, locked for as long as this lives.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    folder: File,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, and takes its lock before anything in it is touched.
    pub(crate) fn open(path: &Path) -> Result<Self, GatewayError> {
        let fail = |step| move |source| GatewayError::DataDir { step, path: path.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(fail("create"))?;
        let path = path.canonicalize().map_err(fail("resolve"))?;
        let folder = File::open(&path).map_err(fail("open"))?;
        let lock_path = path.join(names::LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(fail("open the lock of"))?;
        match lock_soon(&lock) {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(GatewayError::AlreadyRunning {
                    pid: read_pid(&path.join(names::GATEWAY_PID)),
                    path,
                });
            }
            Err(fs::TryLockError::Error(source)) => return Err(fail("lock")(source)),
        }
        fs::set_permissions(&path, Permissions::from_mode(0o700)).map_err(fail("protect"))?;
        let spool = path.join(names::SPOOL);
        DirBuilder::new().recursive(true).mode(0o700).create(spool).map_err(fail("create a folder in"))?;
        Ok(Self { path, folder, _lock: lock })
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
        Ok(token)
    }

    /// Writes the pid files. Without a supervisor, this process is also the one that `chitin up` started.
    pub(crate) fn write_pids(&self) -> io::Result<()> {
        let pid = format!("{}\n", std::process::id());
        self.replace(names::SUPERVISOR_PID, &pid)?;
        self.replace(names::GATEWAY_PID, &pid)
    }

    /// Removes what says that a gateway runs. The lock's file stays: another process may be waiting on it.
    pub(crate) fn clear(&self) {
        for name in [names::SOCKET, names::SUPERVISOR_PID, names::GATEWAY_PID] {
            _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Whole or not at all, and on disk.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let draft = self.path.join(format!("{name}.draft"));
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, self.path.join(name))?;
        self.folder.sync_all()
    }
}

/// Whoever only looks whether a gateway runs holds the lock for an instant.
fn lock_soon(lock: &File) -> Result<(), fs::TryLockError> {
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Err(fs::TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    lock.try_lock()
}

fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
