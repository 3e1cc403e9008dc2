//! Starting an instance in the background, for `up --detach` and for commands that find none.
//!
//! It is this same program, `up`, told to be in the background: supervisor and gateway get a session of their own and
//! leave standard error to the log once the gateway serves. Until then we read both outputs: the ready line, or why there
//! is none.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::client::{CallError, Client};
use crate::clock;
use crate::exit;
use crate::failure::Failure;
use crate::out;
use crate::paths::{self, DataDir, Lock};
use crate::runtime;

/// How long a gateway may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// How long one that closed its outputs may take to end.
const END: Duration = Duration::from_secs(5);
/// What is kept of each of its outputs.
const MAX_SAID_BYTES: usize = 64 * 1024;
/// How often a start is tried that lost against somebody who is then gone.
const MAX_STARTS: u32 = 3;

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Where.
    pub(crate) data_dir: DataDir,
    /// The configuration file that was asked for.
    pub(crate) config: Option<PathBuf>,
    /// The address that was asked for.
    pub(crate) listen: Option<String>,
    /// If the port is taken, serve the socket alone.
    pub(crate) listen_optional: bool,
}

/// How it went.
#[derive(Debug)]
pub(crate) enum Launched {
    /// It serves.
    Ready {
        /// What it said.
        line: String,
    },
    /// Another one does, as it said.
    AlreadyRunning {
        /// What it said.
        said: String,
    },
}

/// Sees to it that there is a gateway to talk to: finds one, waits for one that starts, or starts one and says so.
pub(crate) fn ensure(data_dir: &DataDir) -> Result<(), Failure> {
    for _ in 0..MAX_STARTS {
        match runtime::block_on(async { Ok(Client::new(data_dir).probe().await) })? {
            Err(CallError::Absent { .. }) if data_dir.lock()? == Lock::Free => {}
            // It is there, or about to be: whoever calls it waits for it.
            Ok(()) | Err(CallError::Absent { .. } | CallError::Busy { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let launch = Launch {
            data_dir: data_dir.clone(),
            config: paths::config(None)?,
            listen: None,
            listen_optional: true,
        };
        // Another start that was faster is as good; if it has failed since, there is another round.
        if let Launched::Ready { .. } = launch_gateway(&launch)? {
            let pid = data_dir.gateway_pid().map_or_else(String::new, |pid| format!(" (pid {pid})"));
            out::remark(&format!("started a gateway{pid}; it stays until `chitin down`"));
            return Ok(());
        }
    }
    Ok(())
}

/// Starts a gateway and waits until it is ready.
pub(crate) fn launch_gateway(launch: &Launch) -> Result<Launched, Failure> {
    let mut child = spawn(launch)?;
    let outputs = child.stdout.take().map(OwnedFd::from).zip(child.stderr.take().map(OwnedFd::from));
    let Some((stdout, stderr)) = outputs else {
        return Err(Failure::other("the gateway was started without its outputs"));
    };
    let deadline = clock::now() + READY;
    let mut pipes = [Pipe::new(stdout), Pipe::new(stderr)];
    if let Some(line) = ready_line(&mut pipes, deadline)? {
        return Ok(Launched::Ready { line });
    }
    if clock::now() >= deadline {
        return Err(Failure::other(format!(
            "the gateway (pid {}) is not ready after 30 s; it goes on",
            child.id()
        ))
        .hint(format!("see {}", launch.data_dir.log().display())));
    }
    ended(&mut child, &String::from_utf8_lossy(&pipes[1].text))
}

#[expect(clippy::disallowed_methods, reason = "the one place that starts instances")]
fn spawn(launch: &Launch) -> Result<Child, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::other(format!("cannot find myself: {error}")))?;
    let mut command = Command::new(program);
    command.arg("up").arg("--background").arg("--data-dir").arg(launch.data_dir.path());
    if let Some(config) = &launch.config {
        command.arg("--config").arg(config);
    }
    if let Some(listen) = &launch.listen {
        command.arg("--listen").arg(listen);
    }
    if launch.listen_optional {
        command.arg("--listen-optional");
    }
    // Not in the caller's directory, which would be busy for as long as the gateway lives.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| Failure::other(format!("cannot start a gateway: {error}")))
}

/// One of the gateway's outputs, as far as it is read.
struct Pipe {
    file: File,
    text: Vec<u8>,
    open: bool,
}

impl Pipe {
    fn new(fd: OwnedFd) -> Self {
        Self { file: File::from(fd), text: Vec::new(), open: true }
    }

    /// Takes what is there; past the bound it is read and dropped, so that nobody blocks on us.
    fn take(&mut self) {
        let mut buffer = [0_u8; 4096];
        match self.file.read(&mut buffer) {
            Ok(0) => self.open = false,
            Ok(count) => self.text.extend(buffer.iter().take(count.min(MAX_SAID_BYTES - self.text.len()))),
            Err(error) => self.open = error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    fn first_line(&self) -> Option<String> {
        let end = self.text.iter().position(|byte| *byte == b'\n')?;
        self.text.get(..end).map(|line| String::from_utf8_lossy(line).into_owned())
    }
}

/// Reads both outputs until there is a line on the first; none: both ended, or the deadline came.
fn ready_line(pipes: &mut [Pipe; 2], deadline: Instant) -> Result<Option<String>, Failure> {
    loop {
        if let Some(line) = pipes[0].first_line() {
            return Ok(Some(line));
        }
        let left = deadline.saturating_duration_since(clock::now());
        let mut open: Vec<&mut Pipe> = pipes.iter_mut().filter(|pipe| pipe.open).collect();
        if open.is_empty() || left.is_zero() {
            return Ok(None);
        }
        let mut fds: Vec<PollFd<'_>> =
            open.iter().map(|pipe| PollFd::new(&pipe.file, PollFlags::IN)).collect();
        match poll(&mut fds, Timespec::try_from(left).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::other(format!("cannot wait for the gateway: {error}"))),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        for (pipe, _) in open.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            pipe.take();
        }
    }
}

/// The end of a gateway that never was ready: another one runs, or its own words and exit code.
fn ended(child: &mut Child, said: &str) -> Result<Launched, Failure> {
    let begin = clock::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begin.elapsed() < END => std::thread::sleep(Duration::from_millis(5)),
            Ok(None) => return Err(Failure::other(format!("the gateway (pid {}) does not end", child.id()))),
            Err(error) => return Err(Failure::other(format!("cannot wait for the gateway: {error}"))),
        }
    };
    if status.success() {
        return Ok(Launched::AlreadyRunning { said: said.to_owned() });
    }
    // It has said `chitin: …` itself.
    out::error_bytes(said.as_bytes());
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::OTHER);
    if said.is_empty() {
        return Err(Failure::new(code, format!("the gateway ended before it was ready: {status}")));
    }
    Err(Failure::silent(code))
}
