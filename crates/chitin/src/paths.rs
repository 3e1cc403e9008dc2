//! Where a gateway lives: its data directory, and the files in it that the command line reads. The one place that knows
//! the order `--data-dir`, `CHITIN_DATA_DIR`, `$XDG_STATE_HOME/chitin`, `~/.local/state/chitin`.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A data directory, absolute; it may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataDir(PathBuf);

/// Whether somebody holds the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// A gateway lives, or its supervisor: it serves, starts or stops.
    Held,
    /// Nobody does.
    Free,
}

/// The locks of a data directory: the gateway's, and its supervisor's.
const LOCKS: [&str; 2] = ["gateway.lock", "supervisor.lock"];

impl DataDir {
    /// The directory that the command line and the environment name.
    pub(crate) fn find(flag: Option<&Path>) -> Result<Self, Failure> {
        let chosen = choose(flag, |name| std::env::var_os(name)).ok_or_else(|| {
            Failure::usage(
                "no data directory: neither --data-dir nor CHITIN_DATA_DIR, XDG_STATE_HOME or HOME is set",
            )
        })?;
        absolute(&chosen).map(Self)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The gateway's Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("chitin.sock")
    }

    /// The token for TCP clients.
    pub(crate) fn admin_token(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    /// The log.
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("chitin.log")
    }

    /// The process id of the gateway that wrote it last; it informs, the lock decides.
    pub(crate) fn gateway_pid(&self) -> Option<u32> {
        self.pid("gateway.pid")
    }

    /// The same of the supervisor.
    pub(crate) fn supervisor_pid(&self) -> Option<u32> {
        self.pid("supervisor.pid")
    }

    fn pid(&self, name: &str) -> Option<u32> {
        std::fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok()
    }

    /// What the supervisor holds locked.
    pub(crate) fn supervisor_lock(&self) -> PathBuf {
        self.0.join("supervisor.lock")
    }

    /// Asks the locks. Shared and given back at once, so that a gateway that starts meanwhile is hardly ever in the way,
    /// and never for long.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        for name in LOCKS {
            if ask(&self.0.join(name))? == Lock::Held {
                return Ok(Lock::Held);
            }
        }
        Ok(Lock::Free)
    }
}

fn ask(path: &Path) -> Result<Lock, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lock::Free),
        Err(error) => return Err(Failure::other(format!("cannot open {}: {error}", path.display()))),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Lock::Free),
        Err(TryLockError::WouldBlock) => Ok(Lock::Held),
        Err(TryLockError::Error(error)) => {
            Err(Failure::other(format!("cannot ask for the lock {}: {error}", path.display())))
        }
    }
}

/// The configuration file that was asked for; none: the one in the data directory, if there is one.
pub(crate) fn config(flag: Option<&Path>) -> Result<Option<PathBuf>, Failure> {
    let named = flag.map(Path::to_path_buf).or_else(|| set("CHITIN_CONFIG", &|name| std::env::var_os(name)));
    named.as_deref().map(absolute).transpose()
}

/// Absolute, without asking the disk, so that a gateway started from here finds the same place from anywhere.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("cannot make `{}` absolute: {error}", path.display())))
}

fn choose(flag: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    flag.map(Path::to_path_buf)
        .or_else(|| set("CHITIN_DATA_DIR", &env))
        // The XDG specification wants a relative one ignored.
        .or_else(|| {
            set("XDG_STATE_HOME", &env).filter(|path| path.is_absolute()).map(|path| path.join("chitin"))
        })
        .or_else(|| set("HOME", &env).map(|path| path.join(".local/state/chitin")))
}

/// A variable that is set to something.
fn set(name: &str, env: &impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    env(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(flag: Option<&str>, env: &[(&str, &str)]) -> Option<String> {
        let lookup =
            |name: &str| env.iter().find_map(|(key, value)| (*key == name).then(|| OsString::from(value)));
        choose(flag.map(Path::new), lookup).map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn the_order_of_places() {
        let all = [("CHITIN_DATA_DIR", "/c"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(chosen(Some("/flag"), &all).as_deref(), Some("/flag"));
        assert_eq!(chosen(None, &all).as_deref(), Some("/c"));
        assert_eq!(chosen(None, &all[1..]).as_deref(), Some("/x/chitin"));
        assert_eq!(chosen(None, &all[2..]).as_deref(), Some("/h/.local/state/chitin"));
        assert_eq!(chosen(None, &[]), None);
    }

    #[test]
    fn empty_is_unset_and_a_relative_xdg_is_ignored() {
        let env = [("CHITIN_DATA_DIR", ""), ("XDG_STATE_HOME", "state"), ("HOME", "/h")];
        assert_eq!(chosen(None, &env).as_deref(), Some("/h/.local/state/chitin"));
    }

    #[test]
    fn the_locks_say_whether_somebody_holds_them() {
        for name in LOCKS {
            let dir = tempfile::tempdir().unwrap();
            let data_dir = DataDir(dir.path().to_path_buf());
            assert_eq!(data_dir.lock(), Ok(Lock::Free));
            let held = File::create(dir.path().join(name)).unwrap();
            held.try_lock().unwrap();
            assert_eq!(data_dir.lock(), Ok(Lock::Held), "{name}");
            held.unlock().unwrap();
            assert_eq!(data_dir.lock(), Ok(Lock::Free));
            held.try_lock().unwrap();
        }
    }
}
