//! The fork server: one process in a gateway's life that starts its shims by forking, never executing. What a fresh
//! program costs each time (its loader, its relocations, its pages) is paid once; what is left of a start is a copy of
//! a small process.
//!
//! It holds nothing and decides nothing. A request is a spool folder and three descriptors; the answer says that a copy
//! was made, or why not. From then on that copy is a shim like any other: it has a session of its own, reads its order,
//! claims, and needs neither this process nor the gateway.
//!
//! `kill -9` before the fork: the descriptors close with this process, and so does the shim's end of its socket, which
//! is what a gateway sees of a shim that ended before its claim. After it: the shim runs, and nobody here is needed. It
//! ends when its gateway's end of the connection closes, which a killed gateway's does by itself.
//!
//! Invariant: one thread, so that a copy is whole. Invariant: it never reads an order.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::attempt::{self, Given};
use crate::title::{self, Arguments};
use crate::{request, sys};

/// The argument that asks for it, in the place of a spool folder, whose path has a slash.
pub(crate) const ARGUMENT: &str = "--fork-server";

/// What it is called: not a shim, since it runs no attempt. No shorter than their name, whose place it takes.
pub(crate) const NAME: &std::ffi::CStr = c"chitin-forks";

const _: () = assert!(NAME.count_bytes() >= title::SHIM.count_bytes());

/// Serves the connection on descriptor 0 until its other end closes.
pub(crate) fn serve() -> ExitCode {
    let Ok(parent) = Parent::prepare() else { return ExitCode::FAILURE };
    loop {
        match request::receive(std::io::stdin().as_fd()) {
            Ok(Some((spool_dir, descriptors))) => {
                let forked = sys::fork_copy(|| parent.become_shim(spool_dir, descriptors));
                if answer(std::io::stdin().as_fd(), forked).is_err() {
                    return ExitCode::SUCCESS;
                }
            }
            Ok(None) => return ExitCode::SUCCESS,
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

/// What every copy inherits, besides `/dev/null` on descriptors 1 and 2.
struct Parent {
    arguments: Option<Arguments>,
    oom_score: crate::child::OomScore,
}

impl Parent {
    /// A session of its own and no signal that ends it, as a shim; children that nobody has to wait for.
    fn prepare() -> std::io::Result<Self> {
        title::name(NAME);
        let _ = setsid();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
        sys::ignore_sigchld();
        let null = File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        Ok(Self { arguments: Arguments::of_process(), oom_score: attempt::protect() })
    }

    /// In the copy: the connection is closed, and the rest is a shim's life.
    fn become_shim(&self, spool_dir: PathBuf, [order, gateway, stdin]: [OwnedFd; 3]) -> u8 {
        if dup2_stdin(std::io::stdout()).is_err() {
            return 1;
        }
        if let Some(arguments) = self.arguments {
            arguments.become_shim(&spool_dir);
        }
        let given = Given { order: order.into(), gateway: gateway.into(), stdin };
        u8::from(!attempt::live(spool_dir, Ok(given), self.oom_score, self.arguments))
    }
}

/// Says which process is the shim, or why there is none, as the negative error number.
fn answer(connection: BorrowedFd<'_>, forked: nix::Result<Pid>) -> Result<(), Errno> {
    let number = forked.map_or_else(|e| (e as i32).saturating_neg(), Pid::as_raw);
    send(connection, &number.to_ne_bytes(), SendFlags::NOSIGNAL).map(|_| ())
}

/// Hears the answer; `None`: the server ended without one.
pub(crate) fn hear(connection: BorrowedFd<'_>) -> Option<Result<u32, std::io::Error>> {
    let mut number = [0; 4];
    let (got, _) = recv(connection, &mut number, RecvFlags::DONTWAIT).ok()?;
    if got != number.len() {
        return None;
    }
    let number = i32::from_ne_bytes(number);
    Some(u32::try_from(number).map_err(|_| std::io::Error::from_raw_os_error(number.saturating_neg())))
}
