//! Processes of a measurement: the only file here that starts any. Each ends with its owner.

use std::io::Read;
use std::path::Path;
use std::process::{self, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use crate::clock;
use crate::failure::Failure;

/// How long a child may take to say that it is ready.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to end before it is killed.
const END: Duration = Duration::from_secs(10);

/// A process that is this same program.
#[derive(Debug)]
pub(super) struct Child(process::Child);

impl Child {
    /// Starts it. Its standard input is a pipe that closes with us; its standard error is ours.
    #[expect(clippy::disallowed_methods, reason = "the one place of a measurement that starts processes")]
    pub(super) fn start(args: &[&str], paths: &[(&str, &Path)]) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::other(format!("cannot find myself: {error}")))?;
        let mut command = Command::new(program);
        command.args(args);
        for (option, path) in paths {
            command.arg(option).arg(path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().map(Self).map_err(|error| Failure::other(format!("cannot start a process: {error}")))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its first line; an error if there is none in time.
    pub(super) fn first_line(&mut self) -> Result<String, Failure> {
        let lost = || Failure::other("a process of the measurement did not start; see above");
        let stdout = self.0.stdout.as_mut().ok_or_else(lost)?;
        let deadline = clock::now() + READY;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = Timespec::try_from(deadline.saturating_duration_since(clock::now())).ok();
            match poll(&mut [PollFd::new(stdout, PollFlags::IN)], left.as_ref()) {
                Ok(0) => return Err(Failure::other("a process of the measurement is not ready after 30 s")),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(Failure::other(format!("cannot wait for a process: {error}"))),
            }
            let mut byte = [0];
            match stdout.read(&mut byte) {
                Ok(1) if line.len() < 4_096 => line.extend(byte),
                _ => return Err(lost()),
            }
        }
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// Waits for its end, but not longer than this.
    pub(super) fn wait(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = clock::now() + patience;
        loop {
            match self.0.try_wait() {
                Ok(None) if clock::now() < deadline => std::thread::sleep(Duration::from_millis(2)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Child {
    /// Asks it to end, and sees to it that it does.
    fn drop(&mut self) {
        if let Ok(Some(_)) = self.0.try_wait() {
            return;
        }
        // Not reaped yet: the id is still its own.
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            _ = kill_process(pid, Signal::TERM);
        }
        if self.wait(END).is_none() {
            _ = self.0.kill();
            _ = self.0.wait();
        }
    }
}

/// Starts `/bin/true` as cheaply as this system can, and waits for it.
#[expect(clippy::disallowed_methods, reason = "the one place of a measurement that starts processes")]
pub(super) fn spawn_true() -> Result<(), Failure> {
    // Nothing is set up between fork and exec, so that the library may use posix_spawn.
    match Command::new("/bin/true").status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(Failure::other(format!("/bin/true failed: {status}"))),
        Err(error) => Err(Failure::other(format!("cannot start /bin/true: {error}"))),
    }
}
