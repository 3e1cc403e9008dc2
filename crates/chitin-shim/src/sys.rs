//! All of this crate's unsafe code: what the standard library and `nix` rightly do not offer as safe. Each function
//! here is safe to call under the condition it states, and that condition is the shim's shape: one thread.
#![allow(unsafe_code)]

use std::convert::Infallible;
use std::os::fd::{FromRawFd, OwnedFd};

use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, fork};

/// More listening sockets than anybody hands over.
const MOST_INHERITED: u32 = 16;

/// Runs `child` in a new process. If it returns, the child ends with 127 at once, without any destructor or exit
/// handler of the parent.
pub(crate) fn fork_child(child: impl FnOnce() -> Result<Infallible, nix::Error>) -> nix::Result<Pid> {
    // SAFETY: the shim never starts a thread, so the child is a whole copy: no lock can be held by a thread that does
    // not exist there. Unavoidable: the child has to join its groups before it executes, which posix_spawn cannot do.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let _ = child();
            // SAFETY: `_exit` has no precondition. Unavoidable: `std::process::exit` would run the parent's handlers.
            unsafe { libc::_exit(127) }
        }
    }
}

/// Every signal back to its default action: what a parent ignored stays ignored over `exec`, and the runtime ignores
/// SIGPIPE.
pub(crate) fn default_signals() {
    // Real-time signals too, which `nix` does not name. SIGKILL, SIGSTOP and the C library's own two refuse.
    for number in 1..=64 {
        // SAFETY: the default action is no handler, so no code of ours can run in signal context.
        // Unavoidable: `signal` is unsafe for every action alike.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
}

/// SIGCHLD as it must be for `waitpid` to see every child: a parent may have left it ignored.
pub(crate) fn default_sigchld() {
    // SAFETY: as in `default_signals`.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
}

/// Closes every descriptor from 3 on: leaks of whoever started us. To be called before anything is opened.
pub(crate) fn close_inherited() {
    // SAFETY: called first in `main`, when no object of ours owns a descriptor above 2, so none is closed behind its
    // owner's back. Unavoidable: no safe interface can know that.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
}

/// Descriptors from 3 on as objects of ours, marked close-on-exec; at most as many as a process may be handed.
pub(crate) fn take_inherited(count: u32) -> Vec<OwnedFd> {
    let last = count.min(MOST_INHERITED).cast_signed() + 3;
    let open = (3..last).filter(|fd| {
        // SAFETY: setting a flag of a descriptor that may not be open has no effect but an error.
        // Unavoidable: a descriptor that nobody owns yet has no safe type.
        unsafe { libc::fcntl(*fd, libc::F_SETFD, libc::FD_CLOEXEC) == 0 }
    });
    // SAFETY: called first in `main` and once, when no object of ours owns a descriptor above 2; each is open, as just
    // seen. Unavoidable: no safe interface can know that.
    open.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// Marks every descriptor from 3 on close-on-exec: only 0, 1 and 2 reach the command, whatever was forgotten.
pub(crate) fn cloexec_from_3() {
    // SAFETY: marking closes nothing in this process; owners keep what they own.
    // Unavoidable: `nix` has no wrapper.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
}
