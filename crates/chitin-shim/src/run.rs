//! The loop: waits for whatever may happen to an attempt, tells the machine, does what it says. One thread; nothing
//! here waits for anything but in `poll`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;

use chitin_failpoints::{failpoint, planted};
use chitin_proto::shim::{ExitReport, FromShim, Order, PROTOCOL_VERSION, names};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use rustix::buffer::spare_capacity;
use rustix::io::{Errno, read};

use crate::child::Running;
use crate::claim::OldClaim;
use crate::conn::{self, Conn, Heard};
use crate::groups::Groups;
use crate::machine::{Action, BORN_WITH, ConnId, Input, Machine, Why};
use crate::memory::MemoryWatch;
use crate::output::{Output, Which};
use crate::report::{self, Before, Exit, Run};
use crate::rest::Rest;
use crate::spool::Spool;
use crate::{clock, limits, tree};

/// Children reaped in one round.
const REAPED_A_ROUND: usize = 1_024;

/// What made the loop turn.
#[derive(Debug, Clone, Copy)]
enum Source {
    Signal,
    Output(Which),
    Listener,
    Memory,
    Conn(ConnId),
}

/// Everything a shim holds.
pub(crate) struct Shim {
    pub(crate) spool: Spool,
    pub(crate) order: Order,
    pub(crate) machine: Machine,
    pub(crate) groups: Groups,
    pub(crate) memory: MemoryWatch,
    pub(crate) signals: SignalFd,
    pub(crate) listener: Option<UnixListener>,
    pub(crate) conns: Vec<Conn>,
    /// Its lock says that this shim lives.
    pub(crate) claim: File,
    pub(crate) draft: Option<File>,
    pub(crate) command: Option<Command>,
    pub(crate) report: Option<ExitReport>,
    pub(crate) before: Before,
    /// Whether it may serve another attempt.
    pub(crate) may_rest: bool,
}

/// A command that was started.
pub(crate) struct Command {
    pid: u32,
    stdout: Option<PipeReader>,
    stderr: Option<PipeReader>,
    started_at_ms: i64,
    started_ms: u64,
    /// Its end, and when, on both clocks.
    ended: Option<(Exit, i64, u64)>,
    output: Output,
    /// Memory that is never touched costs nothing: it is not cleared beforehand.
    buffer: Vec<u8>,
}

impl Command {
    /// Just started.
    pub(crate) fn new(running: Running, segment_bytes: u64) -> io::Result<Self> {
        for pipe in [Some(&running.stdout), running.stderr.as_ref()].into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok(Self {
            pid: running.pid.as_raw().cast_unsigned(),
            stdout: Some(running.stdout),
            stderr: running.stderr,
            started_at_ms: clock::wall_ms(),
            started_ms: clock::now_ms(),
            ended: None,
            output: Output::new(segment_bytes),
            buffer: Vec::with_capacity(limits::READ_BUFFER_BYTES),
        })
    }

    fn pipe(&mut self, which: Which) -> &mut Option<PipeReader> {
        match which {
            Which::Stdout => &mut self.stdout,
            Which::Stderr => &mut self.stderr,
        }
    }

    /// Reads once; whether there may be more right now.
    fn read(&mut self, spool: &Spool, which: Which) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let read = self.pipe(which).as_ref().map_or(Ok(0), |p| read(p, spare_capacity(&mut buffer)));
        let more = match read {
            Ok(0) => {
                *self.pipe(which) = None;
                false
            }
            Ok(_) => {
                self.output.take(spool, clock::now_ms(), which, &buffer);
                true
            }
            Err(e) => e == Errno::INTR,
        };
        self.buffer = buffer;
        more
    }
}

impl Shim {
    /// Runs until there is nothing left to do, or until another attempt may be served.
    pub(crate) fn run(mut self, first: Option<Input>) -> Option<Rest> {
        let mut inputs: VecDeque<Input> = first.into_iter().collect();
        let mut children_left = false;
        loop {
            let now = clock::now_ms();
            if self.machine.deadline().is_some_and(|at| at <= now) {
                inputs.push_back(Input::Tick);
            }
            if self.machine.watches_memory() && self.memory.look(now, &self.groups) {
                inputs.push_back(Input::OutOfMemory);
            }
            while let Some(input) = inputs.pop_front() {
                for action in self.machine.step(clock::now_ms(), input) {
                    match action {
                        Action::Exit => return self.leave(),
                        Action::Rest => return self.rest(),
                        action => self.act(action, &mut inputs),
                    }
                }
            }
            for source in self.wait(if children_left { Some(now) } else { self.deadline() }) {
                match source {
                    Source::Signal => {
                        while let Ok(Some(_)) = self.signals.read_signal() {}
                        children_left = true;
                    }
                    Source::Output(which) => {
                        if let Some(command) = &mut self.command {
                            command.read(&self.spool, which);
                        }
                    }
                    Source::Listener => self.accept(&mut inputs),
                    Source::Memory => self.memory.announced(clock::now_ms()),
                    Source::Conn(id) => self.hear(id, &mut inputs),
                }
            }
            if children_left {
                children_left = self.reap(&mut inputs);
            }
        }
    }

    fn deadline(&self) -> Option<u64> {
        let memory = self.memory.deadline().filter(|_| self.machine.watches_memory());
        [self.machine.deadline(), memory].into_iter().flatten().min()
    }

    /// Waits until something happens or `until` comes.
    fn wait(&self, until: Option<u64>) -> Vec<Source> {
        let mut sources: Vec<(Source, BorrowedFd<'_>)> = Vec::with_capacity(8);
        sources.push((Source::Signal, self.signals.as_fd()));
        if let Some(command) = &self.command {
            sources.extend(command.stdout.iter().map(|p| (Source::Output(Which::Stdout), p.as_fd())));
            sources.extend(command.stderr.iter().map(|p| (Source::Output(Which::Stderr), p.as_fd())));
        }
        sources.extend(self.memory.fd().map(|fd| (Source::Memory, fd)));
        if self.conns.len() < limits::CONNECTIONS {
            sources.extend(self.listener.iter().map(|l| (Source::Listener, l.as_fd())));
        }
        sources.extend(self.conns.iter().map(|c| (Source::Conn(c.id), c.fd())));
        let mut fds: Vec<_> = sources.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let timeout = until.map_or(PollTimeout::NONE, |at| {
            let ms = i32::try_from(at.saturating_sub(clock::now_ms())).unwrap_or(i32::MAX);
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        if poll(&mut fds, timeout).is_err() {
            // Interrupted, or out of kernel memory for a moment: look again.
            return Vec::new();
        }
        let ready = fds.iter().map(|fd| fd.any().unwrap_or(true));
        sources.iter().zip(ready).filter(|(_, ready)| *ready).map(|((source, _), _)| *source).collect()
    }

    /// Takes ended children; whether there may be more of them right now.
    fn reap(&mut self, inputs: &mut VecDeque<Input>) -> bool {
        for _ in 0..REAPED_A_ROUND {
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let Some(command) = &mut self.command else { continue };
                    if pid.as_raw_nonzero().get().cast_unsigned() != command.pid {
                        continue;
                    }
                    let code = status.exit_status().map(Exit::Code);
                    if let Some(exit) = code.or(status.terminating_signal().map(Exit::Signal)) {
                        command.ended = Some((exit, clock::wall_ms(), clock::now_ms()));
                        inputs.push_back(Input::Exited);
                    }
                }
                Ok(None) => return false,
                Err(_) => {
                    // No child at all: being the subreaper of all it started, the tree is gone.
                    inputs.push_back(Input::TreeGone);
                    return false;
                }
            }
        }
        true
    }

    fn accept(&mut self, inputs: &mut VecDeque<Input>) {
        while self.conns.len() < limits::CONNECTIONS {
            let Some(listener) = &self.listener else { return };
            let stream = match conn::accept(listener) {
                Ok(Some(stream)) => stream,
                Ok(None) => continue,
                Err(_) => return,
            };
            let id = self.conns.iter().map(|c| c.id).max().unwrap_or(BORN_WITH).saturating_add(1);
            if let Ok(conn) = Conn::new(id, stream) {
                self.conns.push(conn);
                inputs.push_back(Input::Connected(id));
            }
        }
    }

    fn hear(&mut self, id: ConnId, inputs: &mut VecDeque<Input>) {
        let Some(conn) = self.conns.iter_mut().find(|c| c.id == id) else { return };
        let (frames, last) = match conn.hear() {
            Heard::Frames(frames) => (frames, false),
            Heard::LastFrames(frames) => (frames, true),
        };
        inputs.extend(frames.into_iter().map(|f| Input::Frame(id, f)));
        if last {
            self.conns.retain(|c| c.id != id);
            inputs.push_back(Input::Lost(id));
            if planted!("shim-dies-with-gateway") {
                std::process::exit(1);
            }
        }
    }

    fn act(&mut self, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::SendStarted(id) => {
                if let Some(started) = self.started() {
                    self.send(id, &started, inputs);
                }
            }
            Action::SendEnded(id) => {
                if let Some(report) = self.report.clone() {
                    failpoint!("shim.report.before");
                    self.send(id, &FromShim::Ended(Box::new(report)), inputs);
                }
                // While the gateway commits: what was measured in them stands in the report.
                self.groups.remove();
            }
            Action::Close(id) => self.conns.retain(|c| c.id != id),
            Action::Freeze => {
                if tree::freeze(&self.groups) == tree::Freezing::StillMoves {
                    inputs.push_back(Input::NotFrozen);
                }
            }
            Action::Thaw => tree::thaw(&self.groups),
            Action::Terminate => tree::terminate(&self.groups),
            Action::Kill => tree::kill(&self.groups),
            Action::Collect(why) => {
                failpoint!("shim.collect.before");
                self.collect(why);
                inputs.push_back(Input::Collected);
            }
            Action::Record => {
                self.record();
                inputs.push_back(Input::Recorded);
            }
            Action::TakeBacklog => {
                self.accept(inputs);
                inputs.push_back(Input::BacklogTaken);
            }
            Action::Exit | Action::Rest => {}
        }
    }

    /// The frame that tells a running command.
    pub(crate) fn started(&self) -> Option<FromShim> {
        let command = self.command.as_ref()?;
        Some(FromShim::Started {
            v: PROTOCOL_VERSION,
            shim_pid: std::process::id(),
            pid: command.pid,
            started_at_ms: command.started_at_ms,
        })
    }

    fn send(&mut self, id: ConnId, frame: &FromShim, inputs: &mut VecDeque<Input>) {
        if let Some(conn) = self.conns.iter_mut().find(|c| c.id == id)
            && conn.send(frame).is_err()
        {
            self.conns.retain(|c| c.id != id);
            inputs.push_back(Input::Lost(id));
        }
    }

    fn collect(&mut self, why: Why) {
        let Some(command) = &mut self.command else { return };
        for _ in 0..limits::FINAL_READS {
            let stdout = command.read(&self.spool, Which::Stdout);
            let stderr = command.read(&self.spool, Which::Stderr);
            if !stdout && !stderr {
                break;
            }
        }
        (command.stdout, command.stderr) = (None, None);
        command.buffer = Vec::new();
        let now = (clock::wall_ms(), clock::now_ms());
        let (exit, (ended_at_ms, ended_ms)) = match command.ended {
            Some((exit, wall, boot)) => (Some(exit), (wall, boot)),
            None => (None, now),
        };
        let (started_at_ms, started_ms) = (command.started_at_ms, command.started_ms);
        let stood_ms = self.machine.stood_ms();
        let run = Run { before: self.before, started_at_ms, started_ms, ended_at_ms, ended_ms, stood_ms };
        let report = report::of_run(&self.order, run, why, exit, &self.spool, &self.groups, &command.output);
        self.report = Some(report);
        self.memory = MemoryWatch::none();
    }

    fn record(&mut self) {
        self.groups.remove();
        let Some(report) = &self.report else { return };
        let nothing = Output::new(0);
        let output = self.command.as_ref().map_or(&nothing, |c| &c.output);
        let draft = self.draft.take().map_or_else(|| report::reserve(&self.spool), Ok);
        let recorded = draft.and_then(|d| report::record(&self.spool, &d, output, report));
        if let Err(e) = recorded {
            // Nobody listens and nothing can be kept: the attempt counts as lost, this line says why.
            self.spool.log(&format!("cannot write the exit record: {e}"));
        }
    }

    /// What must not be found by anybody any more.
    fn leave(self) -> Option<Rest> {
        failpoint!("shim.leave");
        let _ = self.spool.remove_file(names::SOCKET);
        None
    }

    /// Keeps what the next attempt can use, if this one was an ordinary one.
    fn rest(mut self) -> Option<Rest> {
        let name = names::claim(&self.order.token);
        let is_ordinary = self.may_rest && self.groups.measure_all() && self.conns.len() == 1;
        if !is_ordinary || !self.spool.empty(&name).is_ok_and(|emptied| emptied) {
            return self.leave();
        }
        let (Some(gateway), Some(draft), Some(listener)) =
            (self.conns.pop(), self.draft.take(), self.listener.take())
        else {
            return self.leave();
        };
        let claim = OldClaim { file: self.claim, name };
        Some(Rest { spool: self.spool, signals: self.signals, gateway, claim, draft, listener })
    }
}
