//! Asking a supervisor to end when its gateway cannot be asked: there is none at the moment, or it does not answer.
//!
//! Nobody is signalled because of a number in a file: the process must hold the supervisor's lock open, before and after
//! a descriptor of it was opened.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::paths::DataDir;

/// Sends SIGTERM to the supervisor of a data directory; its process id, or none if there is no supervisor.
///
/// # Errors
/// The system refuses: it is another user's.
pub(crate) fn ask_to_end(data_dir: &DataDir) -> io::Result<Option<u32>> {
    let Some(pid) = data_dir.supervisor_pid() else { return Ok(None) };
    let lock = data_dir.supervisor_lock().canonicalize()?;
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(number) = number.filter(|_| holds(pid, &lock)) else { return Ok(None) };
    let pidfd = pidfd_open(number, PidfdFlags::empty())?;
    if !holds(pid, &lock) {
        return Ok(None);
    }
    pidfd_send_signal(pidfd, Signal::TERM)?;
    Ok(Some(pid))
}

/// Whether the process has the file open.
fn holds(pid: u32, file: &Path) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == file))
}
