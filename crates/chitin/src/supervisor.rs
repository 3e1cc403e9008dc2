//! The supervisor, `chitin up`: holds the listening sockets and keeps a gateway behind them, for ever.
//!
//! ```text
//! start ──▶ serving ──asked to end──▶ gone
//!   ▲  │        │
//!   │  └─ends───┴─ends unasked, gives no sign──▶ waiting ─┐
//!   └──────────────────────────────────────────────────┘
//! ```
//!
//! Happy path: sockets → gateway → its word that it serves → its end, because somebody asked → gone. Failure path: a
//! gateway that ends unasked or gives no sign of life is followed by another (`restarts` says when); clients wait in the
//! sockets' backlog meanwhile. If this process is killed, its gateway starts another, which adopts gateway and sockets.
//!
//! Invariant: one thread, no async runtime, no wait but in `poll`, and no disk once the loop has begun: whatever hangs
//! elsewhere, the sockets are held.

pub(crate) mod adopted;
pub(crate) mod asked;
mod gateway;
mod notify;
mod restarts;
mod sockets;

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use chitin_proto::supervisor::Lives;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{WaitOptions, WaitStatus, set_child_subreaper, wait};

use crate::clock;
use crate::exit;
use gateway::{End, Gateway};
use restarts::{Life, Restarts};

pub(crate) use gateway::Recipe;
pub(crate) use sockets::{Handed, Reserved};

/// A gateway that was asked to end gets so long: three times what it gives its last answers. Killed, it loses nothing.
const STOP: Duration = Duration::from_secs(15);
/// Between two tries to start a gateway where the system refuses even that.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The exit code of a Rust program whose main thread panicked.
const PANICKED: i32 = 101;
/// Children reaped in a row.
const IN_A_ROW: usize = 1_024;

/// How a supervision ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Somebody asked.
    Asked,
    /// The first gateway refused to start, and said why.
    Refused {
        /// Its exit code.
        code: u8,
    },
}

/// Signals that this process takes from a descriptor.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks them; gateways begin by unblocking theirs.
    pub(crate) fn take() -> io::Result<Self> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Self(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Whether one of those that waited asks to end.
    fn ask_to_end(&self) -> bool {
        let mut asked = false;
        while let Ok(Some(info)) = self.0.read_signal() {
            asked |= info.ssi_signo != Signal::SIGCHLD as u32;
        }
        asked
    }
}

/// Everything a supervisor holds.
#[derive(Debug)]
pub(crate) struct Supervisor {
    recipe: Recipe,
    sockets: Handed,
    signals: Signals,
    lives: Lives,
    restarts: Restarts,
    stage: Stage,
    /// Some gateway of this instance has served.
    served: bool,
    began: Instant,
}

#[derive(Debug)]
enum Stage {
    /// The next gateway starts then.
    Waiting(Instant),
    /// A gateway lives.
    Alive(Gateway),
    /// It was asked to end, and has until then.
    Stopping(Gateway, Instant),
}

impl Supervisor {
    /// For a new instance.
    pub(crate) fn new(recipe: Recipe, sockets: Handed, signals: Signals) -> io::Result<Self> {
        let now = clock::now();
        Self::with(recipe, sockets, signals, Stage::Waiting(now), Lives::default(), false)
    }

    fn with(
        recipe: Recipe,
        sockets: Handed,
        signals: Signals,
        stage: Stage,
        lives: Lives,
        served: bool,
    ) -> io::Result<Self> {
        // Shims whose gateway died come to us, and are reaped.
        set_child_subreaper(rustix::process::Pid::from_raw(1))?;
        let (restarts, began) = (Restarts::default(), clock::now());
        Ok(Self { recipe, sockets, signals, lives, restarts, stage, served, began })
    }

    /// Supervises until somebody asks it to end; `ready` is called when a gateway serves for the first time.
    pub(crate) fn run(mut self, ready: impl FnOnce()) -> Ended {
        let mut ready = Some(ready);
        loop {
            self.start_if_due();
            self.wait();
            let asked = self.signals.ask_to_end();
            // In this order: what is known to have ended is reaped, and its last word heard, before it is judged.
            let gone = self.gateway().is_some_and(Gateway::is_gone);
            let status = self.reap();
            let gone = gone || status.is_some();
            let now = clock::now();
            // After a stall of ours its signs are waiting.
            let said = self.gateway().map(Gateway::says).unwrap_or_default();
            let stage = std::mem::replace(&mut self.stage, Stage::Waiting(now));
            self.stage = match stage {
                Stage::Waiting(_) if asked => return Ended::Asked,
                Stage::Waiting(at) => Stage::Waiting(at),
                Stage::Alive(mut gateway) => {
                    if gateway.heard(said, now) {
                        self.served = true;
                        if let Some(ready) = ready.take() {
                            ready();
                        }
                    }
                    gateway.watch(now);
                    if gone {
                        match self.judge(&gateway, End::of(status), asked, now) {
                            Ok(at) => Stage::Waiting(at),
                            Err(ended) => return ended,
                        }
                    } else if asked {
                        gateway.terminate();
                        Stage::Stopping(gateway, now + STOP)
                    } else if gateway.stopping {
                        Stage::Stopping(gateway, now + STOP)
                    } else {
                        Stage::Alive(gateway)
                    }
                }
                Stage::Stopping(..) if gone => return Ended::Asked,
                Stage::Stopping(mut gateway, until) => {
                    if asked || until <= now {
                        gateway.kill("did not end when it was asked to");
                    }
                    Stage::Stopping(gateway, until)
                }
            };
        }
    }

    fn start_if_due(&mut self) {
        let now = clock::now();
        if !matches!(self.stage, Stage::Waiting(at) if at <= now) {
            return;
        }
        let started = Gateway::start(&self.recipe, self.sockets.count(), &self.lives, now);
        self.stage = match started {
            Ok(gateway) => Stage::Alive(gateway),
            Err(error) => {
                self.note(format!("a gateway could not be started: {error}"));
                Stage::Waiting(now + TRY_AGAIN)
            }
        };
    }

    fn gateway(&self) -> Option<&Gateway> {
        match &self.stage {
            Stage::Waiting(_) => None,
            Stage::Alive(gateway) | Stage::Stopping(gateway, _) => Some(gateway),
        }
    }

    /// Waits until something happens, or until something is due.
    fn wait(&self) {
        let gateway = self.gateway();
        let due = match &self.stage {
            Stage::Waiting(at) | Stage::Stopping(_, at) => Some(*at),
            Stage::Alive(gateway) => gateway.deadline(),
        };
        // One that was killed and does not go (its disk hangs) is waited for by its descriptor alone.
        let due = due.filter(|_| !gateway.is_some_and(Gateway::was_killed));
        let left = due.map(|due| due.saturating_duration_since(clock::now()));
        let left = left.and_then(|left| Timespec::try_from(left + Duration::from_millis(1)).ok());
        let signals = self.signals.0.as_fd();
        let fds = [Some(signals), gateway.map(Gateway::ear), gateway.map(Gateway::fd)];
        let mut fds: Vec<PollFd<'_>> =
            fds.into_iter().flatten().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        // Interrupted, or short of memory for a moment: look again.
        let _ = poll(&mut fds, left.as_ref());
    }

    /// Reaps; how the gateway ended, if it was among them.
    fn reap(&self) -> Option<WaitStatus> {
        let pid = self.gateway().map(Gateway::pid);
        let mut status = None;
        for _ in 0..IN_A_ROW {
            let Ok(Some((ended, how))) = wait(WaitOptions::NOHANG) else { break };
            if Some(ended.as_raw_nonzero().get().cast_unsigned()) == pid {
                status = Some(how);
            }
        }
        status
    }

    /// What follows on a gateway's end: when the next one starts, or none does.
    fn judge(&mut self, gateway: &Gateway, end: End, asked: bool, now: Instant) -> Result<Instant, Ended> {
        if asked || gateway.stopping || (gateway.served && end == End::Exit(0)) {
            return Err(Ended::Asked);
        }
        let is_first = !self.served && self.lives.restarts == 0;
        if let (true, None, End::Exit(code)) = (is_first, gateway.killed_because, end)
            && ![i32::from(exit::CRASHED), PANICKED].contains(&code)
        {
            // Whoever started the instance is told, and may mend it; nobody has been served yet.
            return Err(Ended::Refused { code: u8::try_from(code).unwrap_or(exit::OTHER) });
        }
        let life = if gateway.served { Life::Served } else { Life::NeverServed };
        let since = u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX);
        let start = self.restarts.ended(since, life);
        self.note(end.describe(gateway));
        self.lives.safe_mode = start.safe_mode;
        self.lives.was_killed = end.is_plain_kill_of(gateway);
        Ok(now + Duration::from_millis(start.wait_ms))
    }

    /// For the next gateway, which shows it.
    fn note(&mut self, how: String) {
        self.lives.restarts = self.lives.restarts.saturating_add(1);
        self.lives.last_end = Some(how);
        self.lives.last_end_at_ms = Some(clock::wall().as_millisecond());
    }
}
