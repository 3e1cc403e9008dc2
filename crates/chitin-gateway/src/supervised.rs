//! A gateway under a supervisor: chitin's own, or a service manager that speaks the same conventions.
//!
//! It takes the listening sockets it was handed, says when it is ready and, again and again, that it lives; and if its
//! supervisor dies, it starts a new one and hands the sockets on. So either of the two is brought back by the other.
//!
//! Invariant: a sign of life proves that the async executor turns, and nothing about the disk: a disk that hangs must not
//! cause restarts.

mod notify;
mod successor;

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chitin_proto::supervisor::{Handover, LIVES_VARIABLE, Lives, NOTIFY_VARIABLE, SUPERVISOR_VARIABLE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, getppid, pidfd_open};

use crate::clock;
use crate::entrance::Doors;
use crate::tasks::{TaskKind, Tasks};

pub(crate) use notify::Notifier;
use successor::Raised;

/// Signs of life come three times as often as they are waited for.
const SIGNS_PER_WATCHDOG: u32 = 3;
/// After a supervisor that lived so long the next one is started at once, and so is the first.
const LONG_LIFE: Duration = Duration::from_secs(10);
/// Between two starts of supervisors that end sooner: from, doubling, to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// What a gateway was started with, beside its arguments.
#[derive(Debug, Default)]
pub struct Inherited {
    doors: Vec<OwnedFd>,
    notifier: Arc<Notifier>,
    watchdog: Option<Duration>,
    supervisor: Option<u32>,
    lives: Lives,
}

impl Inherited {
    /// Takes it from the environment and the descriptors from 3 on. To be called first in `main`, and once.
    #[must_use]
    pub fn take() -> Self {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        // Handed to another process, from which we have it by accident; without the variable they are ours.
        let is_ours = |name: &str| number(name).is_none_or(|pid| pid == u64::from(std::process::id()));
        let count = number("LISTEN_FDS").filter(|_| is_ours("LISTEN_PID"));
        let watchdog = number("WATCHDOG_USEC").filter(|_| is_ours("WATCHDOG_PID"));
        let lives = std::env::var(LIVES_VARIABLE).ok();
        let doors = count.map_or_else(Vec::new, |count| {
            chitin_shim::inherited::take(u32::try_from(count).unwrap_or(u32::MAX))
        });
        let notifier = match number(NOTIFY_VARIABLE) {
            Some(0) => Notifier::on_standard_input(),
            _ => Notifier::new(std::env::var_os("NOTIFY_SOCKET")),
        };
        Self {
            doors,
            notifier: Arc::new(notifier),
            watchdog: watchdog.map(Duration::from_micros),
            supervisor: number(SUPERVISOR_VARIABLE).and_then(|pid| u32::try_from(pid).ok()),
            lives: lives.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        }
    }

    /// Whether this life is to be careful.
    pub(crate) fn is_safe_mode(&self) -> bool {
        self.lives.safe_mode
    }

    /// The sockets that were handed over.
    pub(crate) fn take_doors(&mut self) -> Option<Doors> {
        Doors::handed_over(std::mem::take(&mut self.doors))
    }
}

/// The supervisor, as its gateway knows it.
#[derive(Debug)]
pub(crate) struct Supervised {
    notifier: Arc<Notifier>,
    /// Its process id, while it lives.
    supervisor: Mutex<Option<u32>>,
    lives: Lives,
    successor: Successor,
    /// Once true, no supervisor is started any more.
    stopping: Mutex<bool>,
}

/// All that a new supervisor needs.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) program: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) config: Option<PathBuf>,
    pub(crate) background: bool,
    pub(crate) sockets: Vec<OwnedFd>,
}

impl Supervised {
    pub(crate) fn new(inherited: Inherited, successor: Successor) -> Self {
        Self {
            notifier: inherited.notifier,
            supervisor: Mutex::new(inherited.supervisor),
            lives: inherited.lives,
            successor,
            stopping: Mutex::new(false),
        }
    }

    /// The supervisor's process id; none without one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.supervisor.lock().ok().and_then(|pid| *pid)
    }

    /// The lives before this one.
    pub(crate) fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Puts on record how the life before this one ended: its supervisor has no log.
    pub(crate) fn log_lives(&self) {
        if let Lives { restarts, last_end: Some(last_end), safe_mode, .. } = &self.lives {
            tracing::warn!(restarts, last_end, safe_mode, "an earlier gateway ended unasked");
        }
    }

    /// It serves.
    pub(crate) fn ready(&self) {
        self.notifier.say("READY=1");
    }

    /// It was asked to end, and does: nobody is to start it again.
    pub(crate) fn stopping(&self) {
        // Waits for a supervisor that is just being started: it has to hear this, too.
        if let Ok(mut stopping) = self.stopping.lock() {
            *stopping = true;
        }
        self.notifier.say_surely("STOPPING=1");
    }

    /// Watches the supervisor, and starts another when it dies, until the bell rings.
    fn keep_supervisor(&self, bell: &PipeReader) {
        // Chitin's own is this process's parent. If that is somebody else by now, it died before we looked.
        let Some(pid) = self.pid() else { return };
        let is_parent = getppid().is_some_and(|parent| parent.as_raw_nonzero().get().cast_unsigned() == pid);
        let mut alive = if is_parent { open(pid) } else { None };
        let mut pause = Duration::ZERO;
        loop {
            let began = clock::steady();
            if let Some(pidfd) = alive.take()
                && until(bell, Some(pidfd.as_fd()), None) == Woken::Stop
            {
                return;
            }
            self.set_pid(None);
            tracing::warn!("the supervisor ended without having been asked to; starting another");
            if clock::steady().saturating_sub(began) >= LONG_LIFE {
                pause = Duration::ZERO;
            }
            if until(bell, None, Some(pause)) == Woken::Stop {
                return;
            }
            pause = (pause * 2).clamp(PAUSES.0, PAUSES.1);
            match self.raise() {
                Ok(Some(raised)) => {
                    tracing::info!(supervisor.pid = raised.pid, "a new supervisor has the sockets");
                    self.set_pid(Some(raised.pid));
                    alive = Some(raised.pidfd);
                }
                // The gateway stops.
                Ok(None) => return,
                Err(error) => tracing::error!(%error, "no new supervisor could be started"),
            }
        }
    }

    /// A new supervisor; none: the gateway is to end, and with it the instance.
    fn raise(&self) -> io::Result<Option<Raised>> {
        let Ok(stopping) = self.stopping.lock() else { return Ok(None) };
        if *stopping {
            return Ok(None);
        }
        let Successor { data_dir, config, background, .. } = &self.successor;
        let handover = Handover {
            data_dir: data_dir.clone(),
            config: config.clone(),
            background: *background,
            lives: self.lives.clone(),
        };
        let (raised, notify) = successor::raise(&self.successor.program, &handover, &self.successor.sockets)?;
        self.notifier.report_on(notify);
        // It knows nothing of this life yet.
        self.ready();
        Ok(Some(raised))
    }

    fn set_pid(&self, pid: Option<u32>) {
        if let Ok(mut place) = self.supervisor.lock() {
            *place = pid;
        }
    }
}

/// Gives signs of life from the executor's first moment on, before anything waits for a disk: a start that takes long is
/// told from one that hangs.
pub(crate) fn begin_signs(inherited: &Inherited, tasks: &Tasks) {
    let Some(every) = inherited.watchdog.map(|watchdog| watchdog / SIGNS_PER_WATCHDOG) else { return };
    let (notifier, all) = (Arc::clone(&inherited.notifier), tasks.clone());
    tasks.spawn(TaskKind::Upkeep, async move {
        loop {
            notifier.say("WATCHDOG=1");
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = all.stopped() => return,
            }
        }
    });
}

/// The thread that watches over the supervisor; it ends when this is dropped.
pub(crate) struct Watch {
    _bell: PipeWriter,
}

/// Begins to watch over the supervisor.
pub(crate) fn begin_watch(supervised: &Arc<Supervised>) -> io::Result<Watch> {
    let (bell, ringer) = io::pipe()?;
    let this = Arc::clone(supervised);
    let work = move || this.keep_supervisor(&bell);
    thread::Builder::new().name("chitin-watch".to_owned()).spawn(work)?;
    Ok(Watch { _bell: ringer })
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    /// The gateway stops.
    Stop,
    /// What was waited for.
    Go,
}

/// Waits for a process to end, or for so long, or for the bell: the other end of it is gone.
fn until(bell: &PipeReader, process: Option<BorrowedFd<'_>>, most: Option<Duration>) -> Woken {
    let most = most.and_then(|most| Timespec::try_from(most).ok());
    loop {
        let mut fds = [PollFd::new(bell, PollFlags::IN), PollFd::new(bell, PollFlags::IN)];
        if let Some(process) = process {
            fds[1] = PollFd::from_borrowed_fd(process, PollFlags::IN);
        }
        match poll(&mut fds, most.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            // Out of kernel memory for a moment: to look again at once would not help.
            Err(_) => thread::sleep(PAUSES.0),
            Ok(_) if !fds[0].revents().is_empty() => return Woken::Stop,
            Ok(_) => return Woken::Go,
        }
    }
}
