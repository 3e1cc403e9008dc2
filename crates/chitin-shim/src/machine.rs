//! The life of an attempt as a pure machine: what happened in, what to do out. No I/O, no clock.
//!
//! ```text
//! Running ──exit──────────────▶ Leaving ──▶ Lingering ─┐   (others remain: courtesy, SIGTERM, SIGKILL)
//!  ▲ │ timeout, cancel                                 ▼
//!  │ ├──────────────▶ Ending ──grace over──────────▶ Killing
//!  │ └─out of memory─────────────────────────────────▲ │
//!  └▶ Frozen ─cancel─▶ Ending                          │
//!          nothing is left of the tree (from any of them), or given up
//!                                 ▼
//!                            Finishing ──▶ Reported ──no gateway──▶ Recording ──▶ Parting ──▶ exit
//!                                             └──────── settled ───────────────────────────────▲
//!                                             └──────── settled, and asked to stay ──▶ rest
//! ```
//!
//! Frozen: asked for by the gateway (pause, resume). The timeout stands still, and whatever ends the command thaws it.
//!
//! Connections are the same machine, because who is obeyed and when to leave depend on each other: one gateway at a
//! time, the highest epoch; every other connection has a few seconds to say what it is.
//!
//! Public for the simulator, which runs this very machine in a made-up world.

use chitin_proto::shim::ToShim;

use crate::limits;

#[cfg(test)]
mod tests;

/// A connection, numbered in the order of arrival. The one the shim was born with is [`BORN_WITH`].
pub type ConnId = u64;

/// The socket pair to the gateway that gave the order.
pub const BORN_WITH: ConnId = 0;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Somebody connected.
    Connected(ConnId),
    /// A connection is gone, or what came over it was no frame.
    Lost(ConnId),
    /// A frame.
    Frame(ConnId, ToShim),
    /// The command itself ended.
    Exited,
    /// Nothing of the tree is left.
    TreeGone,
    /// Not every process of the tree stands still yet ([`Action::Freeze`] was done).
    NotFrozen,
    /// The tree's memory limit was met and a process was, or has to be, killed for it.
    OutOfMemory,
    /// The report is made ([`Action::Collect`] was done).
    Collected,
    /// The exit record is on disk, or could not be written.
    Recorded,
    /// Whoever waited in the listening socket's backlog has been announced.
    BacklogTaken,
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Tell that the command runs.
    SendStarted(ConnId),
    /// Tell how it ended.
    SendEnded(ConnId),
    /// Close a connection.
    Close(ConnId),
    /// Stop every process of the tree where it is; comes again until none moves.
    Freeze,
    /// Let the tree go on.
    Thaw,
    /// SIGTERM to every process of the tree, thawed.
    Terminate,
    /// SIGKILL to every process of the tree; comes again until nothing is left.
    Kill,
    /// Take what is left in the pipes, make the report. The groups go once it is told.
    Collect(Why),
    /// Make the outputs durable and write the exit record.
    Record,
    /// Accept whoever waits in the backlog.
    TakeBacklog,
    /// Leave.
    Exit,
    /// Wait for another order, or leave: the end is committed and nothing of the tree is left.
    Rest,
}

/// Who began the end of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The command itself, or somebody else's signal.
    Itself,
    /// We: its time was up.
    TimedOut,
    /// We: the gateway asked.
    Cancelled,
    /// We, or the kernel: the memory limit.
    OutOfMemory,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running { timeout_at: Option<u64> },
    Frozen { since: u64, left_ms: Option<u64>, pause_ms: u64, again_at: Option<u64> },
    Ending { why: Why, kill_at: u64 },
    Leaving { term_at: u64 },
    Lingering { kill_at: u64 },
    Killing { why: Why, next_at: u64, pause_ms: u64, give_up_at: u64 },
    Finishing,
    Reported,
    Recording,
    Parting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remains {
    Command,
    Others,
    Nothing,
}

/// One attempt's life cycle. It begins with a command that runs, or that could not be started; the claim came before.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    remains: Remains,
    grace_ms: u64,
    /// How long it has been frozen, before now.
    stood_ms: u64,
    epoch: u64,
    gateway: Option<ConnId>,
    /// Connections that have not said what they are, and until when they may.
    strangers: Vec<(ConnId, u64)>,
}

impl Machine {
    /// A command that runs since `now`, on any clock of milliseconds that does not step.
    #[must_use]
    pub fn running(now: u64, epoch: u64, timeout_ms: Option<u64>, grace_ms: u64) -> Self {
        let timeout_at = timeout_ms.map(|ms| now.saturating_add(ms));
        Self::new(Phase::Running { timeout_at }, Remains::Command, epoch, grace_ms)
    }

    /// A command that could not be started; its report is due ([`Input::Collected`]).
    #[must_use]
    pub fn not_started(epoch: u64) -> Self {
        Self::new(Phase::Finishing, Remains::Nothing, epoch, 0)
    }

    fn new(phase: Phase, remains: Remains, epoch: u64, grace_ms: u64) -> Self {
        let strangers = Vec::new();
        Self { phase, remains, grace_ms, stood_ms: 0, epoch, gateway: Some(BORN_WITH), strangers }
    }

    /// When [`Input::Tick`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Running { timeout_at } => timeout_at,
            Phase::Frozen { again_at, .. } => again_at,
            Phase::Ending { kill_at, .. } | Phase::Lingering { kill_at } => Some(kill_at),
            Phase::Leaving { term_at } => Some(term_at),
            Phase::Killing { next_at, give_up_at, .. } => Some(next_at.min(give_up_at)),
            Phase::Finishing | Phase::Reported | Phase::Recording | Phase::Parting => None,
        };
        self.strangers.iter().map(|(_, until)| *until).chain(phase).min()
    }

    /// The command is still expected to run: limits are worth watching.
    #[must_use]
    pub fn watches_memory(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Frozen { .. } | Phase::Ending { .. })
    }

    /// How long the command was frozen in all; no part of its running time.
    #[must_use]
    pub fn stood_ms(&self) -> u64 {
        self.stood_ms
    }

    /// Takes one input; the actions are to be done in order.
    pub fn step(&mut self, now: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Connected(conn) => {
                self.strangers.push((conn, now.saturating_add(limits::FIRST_FRAME_MS)));
            }
            Input::Lost(conn) => self.lost(conn, &mut out),
            Input::Frame(conn, frame) => self.frame(now, conn, &frame, &mut out),
            Input::Exited => self.exited(now, &mut out),
            Input::TreeGone => {
                self.remains = Remains::Nothing;
                self.goes_on(now);
                self.finish_if_gone(&mut out);
            }
            Input::NotFrozen => {
                if let Phase::Frozen { since, left_ms, pause_ms, .. } = self.phase {
                    let again_at = Some(now.saturating_add(pause_ms));
                    let pause_ms = pause_ms.saturating_mul(2).min(limits::KILL_PAUSE_MAX_MS);
                    self.phase = Phase::Frozen { since, left_ms, pause_ms, again_at };
                }
            }
            Input::OutOfMemory => {
                if self.watches_memory() {
                    let why = self.why_or(Why::OutOfMemory);
                    self.kill(now, why, &mut out);
                }
            }
            Input::Collected => self.collected(&mut out),
            Input::Recorded => {
                if self.phase == Phase::Recording {
                    self.phase = Phase::Parting;
                    out.push(Action::TakeBacklog);
                }
            }
            Input::BacklogTaken => self.part(&mut out),
            Input::Tick => self.tick(now, &mut out),
        }
        out
    }

    fn frame(&mut self, now: u64, conn: ConnId, frame: &ToShim, out: &mut Vec<Action>) {
        if let ToShim::Attach { epoch, .. } = frame {
            self.attach(conn, *epoch, out);
            return;
        }
        if self.gateway != Some(conn) {
            // The first frame says who speaks; nobody else gives orders.
            self.close(conn, out);
            return;
        }
        match frame {
            ToShim::Attach { .. } => {}
            ToShim::Cancel => {
                if matches!(self.phase, Phase::Running { .. } | Phase::Frozen { .. }) {
                    self.terminate(now, Why::Cancelled, out);
                }
            }
            ToShim::Pause => {
                if let Phase::Running { timeout_at } = self.phase {
                    let left_ms = timeout_at.map(|at| at.saturating_sub(now));
                    let pause_ms = limits::KILL_PAUSE_MS;
                    self.phase = Phase::Frozen { since: now, left_ms, pause_ms, again_at: None };
                    out.push(Action::Freeze);
                }
            }
            ToShim::Resume => {
                if let Phase::Frozen { left_ms, .. } = self.phase {
                    self.goes_on(now);
                    self.phase = Phase::Running { timeout_at: left_ms.map(|ms| now.saturating_add(ms)) };
                    out.push(Action::Thaw);
                }
            }
            ToShim::Settled => {
                if matches!(self.phase, Phase::Reported | Phase::Recording | Phase::Parting) {
                    out.push(Action::Exit);
                }
            }
            ToShim::Rest => match (self.phase, self.remains) {
                (Phase::Reported, Remains::Nothing) => out.push(Action::Rest),
                // A process that cannot be ended stays a child of this shim, and no shim has two trees.
                (Phase::Reported | Phase::Recording | Phase::Parting, _) => out.push(Action::Exit),
                _ => {}
            },
        }
    }

    fn attach(&mut self, conn: ConnId, epoch: u64, out: &mut Vec<Action>) {
        if epoch < self.epoch {
            self.close(conn, out);
            return;
        }
        self.epoch = epoch;
        self.strangers.retain(|(stranger, _)| *stranger != conn);
        if let Some(old) = self.gateway.replace(conn).filter(|old| *old != conn) {
            out.push(Action::Close(old));
        }
        out.push(match self.phase {
            Phase::Reported | Phase::Recording | Phase::Parting => Action::SendEnded(conn),
            // About to end: `Ended` follows by itself.
            _ => Action::SendStarted(conn),
        });
    }

    fn close(&mut self, conn: ConnId, out: &mut Vec<Action>) {
        out.push(Action::Close(conn));
        self.lost(conn, out);
    }

    fn lost(&mut self, conn: ConnId, out: &mut Vec<Action>) {
        self.strangers.retain(|(stranger, _)| *stranger != conn);
        if self.gateway == Some(conn) {
            self.gateway = None;
            if self.phase == Phase::Reported {
                self.record(out);
            }
        }
        if self.phase == Phase::Parting {
            self.part(out);
        }
    }

    fn exited(&mut self, now: u64, out: &mut Vec<Action>) {
        if self.remains == Remains::Command {
            self.remains = Remains::Others;
        }
        if matches!(self.phase, Phase::Frozen { .. }) {
            self.goes_on(now);
            // Somebody else's signal. What it left behind must hear that it is to end.
            out.push(Action::Thaw);
        }
        if matches!(self.phase, Phase::Running { .. } | Phase::Frozen { .. }) {
            self.phase = Phase::Leaving { term_at: now.saturating_add(limits::COURTESY_MS) };
        }
        self.finish_if_gone(out);
    }

    /// The reason of an ending that has begun, else `new`: the first one stands.
    fn why_or(&self, new: Why) -> Why {
        match self.phase {
            Phase::Ending { why, .. } | Phase::Killing { why, .. } => why,
            _ => new,
        }
    }

    /// Counts the time it was frozen, if it is.
    fn goes_on(&mut self, now: u64) {
        if let Phase::Frozen { since, .. } = self.phase {
            self.stood_ms = self.stood_ms.saturating_add(now.saturating_sub(since));
        }
    }

    fn terminate(&mut self, now: u64, why: Why, out: &mut Vec<Action>) {
        self.goes_on(now);
        self.phase = Phase::Ending { why, kill_at: now.saturating_add(self.grace_ms) };
        out.push(Action::Terminate);
    }

    fn kill(&mut self, now: u64, why: Why, out: &mut Vec<Action>) {
        self.goes_on(now);
        self.phase = Phase::Killing {
            why,
            next_at: now.saturating_add(limits::KILL_PAUSE_MS),
            pause_ms: limits::KILL_PAUSE_MS,
            give_up_at: now.saturating_add(limits::KILL_GIVE_UP_MS),
        };
        out.push(Action::Kill);
    }

    fn finish_if_gone(&mut self, out: &mut Vec<Action>) {
        if self.remains == Remains::Nothing {
            self.finish(out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Action>) {
        let before_the_end = match self.phase {
            Phase::Running { .. } | Phase::Frozen { .. } => true,
            Phase::Ending { .. } | Phase::Killing { .. } => true,
            Phase::Leaving { .. } | Phase::Lingering { .. } => true,
            Phase::Finishing | Phase::Reported | Phase::Recording | Phase::Parting => false,
        };
        if before_the_end {
            let why = self.why_or(Why::Itself);
            self.phase = Phase::Finishing;
            out.push(Action::Collect(why));
        }
    }

    fn collected(&mut self, out: &mut Vec<Action>) {
        if self.phase != Phase::Finishing {
            return;
        }
        match self.gateway {
            Some(conn) => {
                self.phase = Phase::Reported;
                out.push(Action::SendEnded(conn));
            }
            None => self.record(out),
        }
    }

    fn record(&mut self, out: &mut Vec<Action>) {
        self.phase = Phase::Recording;
        out.push(Action::Record);
    }

    /// After the record nobody is owed anything but whoever is connected.
    fn part(&mut self, out: &mut Vec<Action>) {
        if self.phase == Phase::Parting && self.gateway.is_none() && self.strangers.is_empty() {
            out.push(Action::Exit);
        }
    }

    fn tick(&mut self, now: u64, out: &mut Vec<Action>) {
        while let Some((late, _)) = self.strangers.iter().find(|(_, until)| *until <= now).copied() {
            self.close(late, out);
        }
        match self.phase {
            Phase::Running { timeout_at: Some(at) } if at <= now => self.terminate(now, Why::TimedOut, out),
            Phase::Frozen { since, left_ms, pause_ms, again_at: Some(at) } if at <= now => {
                self.phase = Phase::Frozen { since, left_ms, pause_ms, again_at: None };
                out.push(Action::Freeze);
            }
            Phase::Ending { why, kill_at } if kill_at <= now => self.kill(now, why, out),
            Phase::Leaving { term_at } if term_at <= now => {
                let linger_ms = limits::LINGER_MS.min(self.grace_ms);
                self.phase = Phase::Lingering { kill_at: now.saturating_add(linger_ms) };
                out.push(Action::Terminate);
            }
            Phase::Lingering { kill_at } if kill_at <= now => self.kill(now, Why::Itself, out),
            Phase::Killing { give_up_at, .. } if give_up_at <= now => self.finish(out),
            Phase::Killing { why, next_at, pause_ms, give_up_at } if next_at <= now => {
                let pause_ms = pause_ms.saturating_mul(2).min(limits::KILL_PAUSE_MAX_MS);
                let next_at = now.saturating_add(pause_ms);
                self.phase = Phase::Killing { why, next_at, pause_ms, give_up_at };
                out.push(Action::Kill);
            }
            _ => {}
        }
    }
}
