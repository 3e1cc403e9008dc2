//! The gateway's end of its [fork server](crate::fork_server): started when it is first needed, and anew when it is
//! gone. A start is asked for once: if no answer comes, what became of it is told by the shim's socket and its claim,
//! as of every shim that goes silent.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use chitin_proto::shim::Order;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

use super::{Parts, SpawnError, Spawned};
use crate::{fork_server, limits, request};

/// Starts shims through a fork server, and without one where that fails.
#[derive(Debug)]
pub struct ForkServer {
    shim_binary: PathBuf,
    /// The longest name of a spool folder, bytes.
    longest: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Not needed yet, or gone.
    Down,
    /// Waits for requests.
    Up(Server),
    /// The last one did not answer: the next start goes without.
    Failed,
}

#[derive(Debug)]
struct Server {
    connection: OwnedFd,
    process: Option<OwnedFd>,
}

/// What became of a request.
enum Asked {
    Started(u32),
    /// No shim was started.
    Refused(io::Error),
    /// The server was gone before it could hear of it.
    Unheard,
    /// Perhaps a shim was started, perhaps not.
    Unanswered,
}

impl ForkServer {
    /// Starts nothing yet. `longest` is the length in bytes of the longest spool folder's path: shims are shown with
    /// it. A longer one is served as well, only slower.
    #[must_use]
    pub fn new(shim_binary: PathBuf, longest: usize) -> Self {
        Self { shim_binary, longest, state: Mutex::new(State::Down) }
    }

    /// As [`super::spawn`], at a fraction of its cost. If the fork server ends or goes silent in between, the result is
    /// `Ok` without a process id: whether a shim was started is told by the socket, which closes if not.
    ///
    /// # Errors
    /// See [`SpawnError`]. An error means that no shim was started.
    pub fn start(
        &self,
        spool_dir: &Path,
        order: &Order,
        stdin: Option<&[u8]>,
    ) -> Result<Spawned, SpawnError> {
        let parts = Parts::new(order, stdin)?;
        if spool_dir.as_os_str().len() > self.longest {
            return parts.spawn(&self.shim_binary, spool_dir);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |source| SpawnError::Process { program: self.shim_binary.clone(), source };
        // Twice, since one that is gone is only noticed here.
        for _ in 0..2 {
            let server = match std::mem::replace(&mut *state, State::Down) {
                State::Up(server) => server,
                State::Down => Server::start(&self.shim_binary, self.longest).map_err(failed)?,
                State::Failed => break,
            };
            match server.ask(spool_dir, &parts) {
                Asked::Started(pid) => {
                    *state = State::Up(server);
                    return Ok(parts.handed_over(Some(pid)));
                }
                Asked::Refused(error) => {
                    *state = State::Up(server);
                    return Err(failed(error));
                }
                Asked::Unheard => {}
                Asked::Unanswered => {
                    server.kill();
                    *state = State::Failed;
                    return Ok(parts.handed_over(None));
                }
            }
        }
        parts.spawn(&self.shim_binary, spool_dir)
    }

    /// Lets the server go and waits for that, but not for long. Shims go on.
    pub fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Up(server) = std::mem::replace(&mut *state, State::Down) {
            server.close();
        }
    }
}

impl Server {
    fn start(shim_binary: &Path, longest: usize) -> io::Result<Self> {
        let (connection, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        // Room for the arguments of its copies.
        let room = ".".repeat(longest);
        let pid = super::execute(
            shim_binary,
            fork_server::NAME,
            [fork_server::ARGUMENT.as_ref(), room.as_ref()],
            [Stdio::from(theirs), Stdio::null(), Stdio::null()],
        )?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        // It may be gone, and reaped, already: then there is nothing to be killed.
        let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        Ok(Self { connection, process })
    }

    fn ask(&self, spool_dir: &Path, parts: &Parts) -> Asked {
        if request::send(self.connection.as_fd(), spool_dir, &parts.descriptors()).is_err() {
            return Asked::Unheard;
        }
        if !self.is_readable(limits::FORK_ANSWER_MS) {
            return Asked::Unanswered;
        }
        match fork_server::hear(self.connection.as_fd()) {
            Some(Ok(pid)) => Asked::Started(pid),
            Some(Err(error)) => Asked::Refused(error),
            None => Asked::Unanswered,
        }
    }

    /// Waits until there is an answer, or never will be one.
    fn is_readable(&self, patience_ms: u16) -> bool {
        let mut fds = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut fds, PollTimeout::from(patience_ms)) {
                Err(nix::errno::Errno::EINTR) => {}
                ready => return ready.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// What it holds closes with it.
    fn kill(self) {
        if let Some(process) = &self.process {
            // An error says that it is gone.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }

    fn close(self) {
        if shutdown(&self.connection, Shutdown::Write).is_ok()
            && self.is_readable(limits::FORK_ANSWER_MS)
            && let Some(process) = &self.process
        {
            // It has closed its end, which is what it does when it ends; an error says that it was reaped already.
            let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
        }
    }
}
