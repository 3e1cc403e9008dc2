//! One gateway's life as its supervisor sees it: starts it, knows it by a pidfd, hears when it ends and how.
//!
//! Invariant: no gateway is started before the death of the one before was observed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chitin_proto::supervisor::{LIVES_VARIABLE, Lives, NOTIFY_VARIABLE, SUPERVISOR_VARIABLE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitStatus, getpid, pidfd_open, pidfd_send_signal};

use super::notify::{Notify, Said};

/// A gateway that gives no sign of life for so long is ended: its executor hangs, or it was stopped.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(3);
/// A look that comes so long after it was due was held up.
const LATE: Duration = Duration::from_millis(100);
/// The first sign may take longer: a machine under load takes a while to start a program.
const FIRST_SIGN: Duration = Duration::from_secs(30);

/// How to start one.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// This program.
    pub(crate) program: PathBuf,
    /// The data directory.
    pub(crate) data_dir: PathBuf,
    /// The configuration file, if one was named.
    pub(crate) config: Option<PathBuf>,
    /// Nobody reads this instance's standard error.
    pub(crate) background: bool,
}

/// A gateway that lives.
#[derive(Debug)]
pub(crate) struct Gateway {
    pid: u32,
    pidfd: OwnedFd,
    notify: Notify,
    /// It has said that it serves.
    pub(crate) served: bool,
    /// It has said that it was asked to end.
    pub(crate) stopping: bool,
    /// By when it has to give a sign; none: it was killed already.
    sign_by: Option<Instant>,
    /// Its time was counted anew once, because we had stood still.
    had_grace: bool,
    /// Why it was killed, if it was.
    pub(crate) killed_because: Option<&'static str>,
}

impl Gateway {
    /// Starts one. It gets the listening sockets by their numbers.
    #[expect(clippy::disallowed_methods, reason = "the one place that starts gateways")]
    pub(crate) fn start(recipe: &Recipe, sockets: usize, lives: &Lives, now: Instant) -> io::Result<Self> {
        let (notify, its_end) = Notify::pair()?;
        let mut command = Command::new(&recipe.program);
        command.arg("gateway").arg("--data-dir").arg(&recipe.data_dir);
        if let Some(config) = &recipe.config {
            command.arg("--config").arg(config);
        }
        if recipe.background {
            command.arg("--background");
        }
        command
            .env("LISTEN_FDS", sockets.to_string())
            .env(NOTIFY_VARIABLE, "0")
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
            .env(SUPERVISOR_VARIABLE, getpid().to_string())
            .env(LIVES_VARIABLE, serde_json::to_string(lives)?);
        for name in ["LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        let child = command.current_dir("/").stdin(its_end).stdout(Stdio::null()).spawn()?;
        // Ours and not reaped yet: the number is this process's.
        Self::known(Pid::from_child(&child), notify, now)
    }

    /// One that served already, started this process and is its parent, and whose supervisor died; none: it died, too.
    pub(crate) fn adopt(pid: Pid, notify: Notify, now: Instant) -> io::Result<Option<Self>> {
        let gateway = match Self::known(pid, notify, now) {
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                return Ok(None);
            }
            other => other?,
        };
        // If it still is our parent, it was alive when the descriptor was opened, and the descriptor is its.
        let is_parent = rustix::process::getppid() == Some(pid);
        Ok(is_parent.then_some(Self { served: true, ..gateway }))
    }

    fn known(pid: Pid, notify: Notify, now: Instant) -> io::Result<Self> {
        Ok(Self {
            notify,
            pid: pid.as_raw_nonzero().get().cast_unsigned(),
            pidfd: pidfd_open(pid, PidfdFlags::empty())?,
            served: false,
            stopping: false,
            sign_by: Some(now + FIRST_SIGN),
            had_grace: false,
            killed_because: None,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Where it is heard.
    pub(crate) fn ear(&self) -> BorrowedFd<'_> {
        self.notify.fd()
    }

    /// All that it has said since the last time.
    pub(crate) fn says(&self) -> Said {
        self.notify.hear(self.pid)
    }

    /// Takes note of what it said; true the first time it serves.
    pub(crate) fn heard(&mut self, said: Said, now: Instant) -> bool {
        if said.alive && self.sign_by.is_some() {
            self.sign_by = Some(now + WATCHDOG);
            self.had_grace = false;
        }
        let first = said.ready && !self.served;
        self.served |= said.ready;
        if said.stopping {
            // Its executor ends before it does.
            self.stopping = true;
            self.sign_by = None;
        }
        first
    }

    /// When it is to be looked at although nothing happened.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.sign_by
    }

    /// It has ended.
    pub(crate) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// It was killed, and need not be looked at until it is gone.
    pub(crate) fn was_killed(&self) -> bool {
        self.killed_because.is_some()
    }

    /// Ends it if it gave no sign. All that it had said must have been heard. Where we look late, we had stood still, and so
    /// may have the gateway: a group that was stopped, a machine that was paused. Then its time is counted anew, once.
    pub(crate) fn watch(&mut self, now: Instant) {
        let Some(by) = self.sign_by.filter(|by| *by <= now) else { return };
        if now.saturating_duration_since(by) > LATE && !self.had_grace {
            self.had_grace = true;
            self.sign_by = Some(now + WATCHDOG);
        } else {
            self.kill("gave no sign of life");
        }
    }

    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        // Gone already: the loop will hear of it.
        let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
    }

    /// Ends it.
    pub(crate) fn kill(&mut self, why: &'static str) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        self.sign_by = None;
        self.killed_because.get_or_insert(why);
    }
}

/// How a gateway ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With an exit code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// It was another's child: nobody tells.
    Unknown,
}

impl End {
    pub(crate) fn of(status: Option<WaitStatus>) -> Self {
        let exit = status.and_then(WaitStatus::exit_status).map(Self::Exit);
        let signal = status.and_then(WaitStatus::terminating_signal).map(Self::Signal);
        exit.or(signal).unwrap_or(Self::Unknown)
    }

    /// A life that served was ended from outside. Not by just any signal: what a segmentation fault or an abort had met may
    /// be in the store.
    pub(crate) fn is_plain_kill_of(self, gateway: &Gateway) -> bool {
        gateway.served && (self == Self::Signal(Signal::KILL.as_raw()) || gateway.was_killed())
    }

    /// For people.
    pub(crate) fn describe(self, gateway: &Gateway) -> String {
        let pid = gateway.pid;
        let when = if gateway.served { "" } else { " before it served" };
        match (gateway.killed_because, self) {
            (Some(why), _) => format!("process {pid} {why} and was ended{when}"),
            (None, Self::Exit(code)) => format!("process {pid} ended with exit code {code}{when}"),
            (None, Self::Signal(number)) => format!("process {pid} was killed by signal {number}{when}"),
            (None, Self::Unknown) => format!("process {pid} ended{when}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn only_a_life_that_served_and_was_ended_from_outside_was_plainly_killed() {
        let mut gateway = Gateway::known(getpid(), Notify::pair().unwrap().0, clock::now()).unwrap();
        let ends =
            [End::Exit(0), End::Exit(70), End::Signal(9), End::Signal(11), End::Signal(7), End::Unknown];
        let plain = |gateway: &Gateway| ends.map(|end| end.is_plain_kill_of(gateway));
        assert_eq!(plain(&gateway), [false; 6], "it never served");
        gateway.served = true;
        assert_eq!(plain(&gateway), [false, false, true, false, false, false]);
        gateway.killed_because = Some("gave no sign of life");
        assert_eq!(plain(&gateway), [true; 6], "we did it ourselves");
    }
}
