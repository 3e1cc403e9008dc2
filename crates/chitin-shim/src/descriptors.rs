//! How many descriptors a gateway may open: all that the system grants it, and for what it starts, what it was granted
//! itself. Programs that count on the usual soft limit must not meet another one because a gateway started them.

use std::io;
use std::sync::OnceLock;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

/// The limits this process was started with, once they were raised.
static INHERITED: OnceLock<Rlimit> = OnceLock::new();

/// Raises the soft limit to the hard one; how many descriptors this process may have from now on.
///
/// # Errors
/// The system refuses: the limit stays as it was, which [`most`] tells.
pub fn raise() -> io::Result<u64> {
    let inherited = getrlimit(Resource::Nofile);
    if inherited.current == inherited.maximum {
        return Ok(most());
    }
    setrlimit(Resource::Nofile, Rlimit { current: inherited.maximum, maximum: inherited.maximum })?;
    _ = INHERITED.set(inherited);
    Ok(most())
}

/// How many descriptors this process may have now.
#[must_use]
pub fn most() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// How many it could have at most, once they were raised.
#[must_use]
pub fn most_ever() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Gives a process that was just started the limits that this one was started with. One that is gone needs none.
pub fn restore(pid: u32) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let (Some(pid), Some(inherited)) = (pid, INHERITED.get()) {
        _ = prlimit(Some(pid), Resource::Nofile, *inherited);
    }
}
