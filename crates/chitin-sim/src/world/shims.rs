//! A shim around its machine. The machine is the product's own; what stands here is what the product's loop does with its
//! actions.

use std::collections::VecDeque;

use chitin_core::{AttemptKey, Outcome, StartOrder, Token};
use chitin_proto::shim::ToShim;
use chitin_shim::machine::{Action, BORN_WITH, ConnId, Input, Machine, Why};

use super::disk::Claim;
use super::net::{ConnNo, FromShim};
use super::report::{Logs, Report};
use super::trees::Exit;
use super::{Event, Fault, World};
use crate::check::Seen;
use crate::planted::Bug;

pub(super) type ShimNo = u64;

/// What may happen meanwhile: its attempt is given out anew, ends and is swept.
const STRAGGLES_MS: i64 = 3_000;

/// What waits in a socket.
#[derive(Debug)]
enum Unread {
    Input(Input),
    Frame(ConnNo, ToShim),
}

#[derive(Debug)]
pub(super) struct Shim {
    pub(super) key: AttemptKey,
    epoch: u64,
    /// The highest of its order and of all that attached.
    heard_epoch: u64,
    timeout_ms: Option<u64>,
    machine: Option<Machine>,
    conns: Vec<(ConnId, ConnNo)>,
    next_conn: ConnId,
    /// Its lock says that it lives.
    pub(super) has_claimed: bool,
    pub(super) is_listening: bool,
    /// What came before there was anybody to read it.
    unread: Vec<Unread>,
    pub(super) exit: Option<Exit>,
    started_at_ms: Option<i64>,
    report: Option<Report>,
    /// The claim it brings along from the attempt before, under that one's token.
    old_claim: Option<Token>,
    is_resting: bool,
}

impl Shim {
    fn new(order: &StartOrder, epoch: u64) -> Self {
        Self {
            key: order.attempt,
            epoch,
            heard_epoch: epoch,
            timeout_ms: order.policy.timeout_ms.map(i64::unsigned_abs),
            machine: None,
            conns: Vec::new(),
            next_conn: BORN_WITH + 1,
            has_claimed: false,
            is_listening: false,
            unread: Vec::new(),
            exit: None,
            started_at_ms: None,
            report: None,
            old_claim: None,
            is_resting: false,
        }
    }

    pub(super) fn rests(&mut self) {
        (self.is_resting, self.machine) = (true, None);
    }

    pub(super) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// It goes on as the shim of another attempt, with whoever is connected.
    pub(super) fn serves(self, order: &StartOrder, epoch: u64) -> Self {
        Self {
            conns: self.conns,
            next_conn: self.next_conn,
            is_listening: self.is_listening,
            unread: self.unread,
            old_claim: Some(self.key.token),
            ..Self::new(order, epoch)
        }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.conns.len() == 1
    }

    pub(super) fn born_with(&self) -> Option<ConnNo> {
        self.conns.iter().find(|(id, _)| *id == BORN_WITH).map(|(_, conn)| *conn)
    }

    /// The number a new connection will have; `None`: it does not listen yet.
    pub(super) fn next_conn(&self) -> Option<ConnId> {
        self.is_listening.then_some(self.next_conn)
    }
}

impl World {
    pub(super) fn spawn_shim(&mut self, order: &StartOrder) -> ShimNo {
        self.next += 1;
        let shim = self.next;
        let epoch = self.epoch().0.unsigned_abs();
        self.shims.insert(shim, Shim::new(order, epoch));
        self.comes_to_claim(shim);
        shim
    }

    pub(super) fn comes_to_claim(&mut self, shim: ShimNo) {
        let straggles = self.strikes(Fault::Straggler);
        let at = if straggles { self.rng.between(0, STRAGGLES_MS) } else { self.wait_ms(12) };
        self.after(at, Event::Claims(shim));
    }

    pub(super) fn shim_is_born_with(&mut self, shim: ShimNo, conn: ConnNo) {
        if let Some(shim) = self.shims.get_mut(&shim) {
            shim.conns.retain(|(id, _)| *id != BORN_WITH);
            shim.conns.push((BORN_WITH, conn));
        }
    }

    /// Links its claim, or obeys the void one.
    pub(super) fn claims(&mut self, no: ShimNo) {
        let Some(shim) = self.shims.get(&no) else { return };
        let (key, old) = (shim.key, shim.old_claim);
        let boot = self.clock.boot();
        let ours = Claim::Shim { shim: no, boot };
        let claimed = self.disk.get((key.id, key.attempt)).map(|folder| folder.claims(old, key.token, ours));
        let obeys = !self.planted(Bug::StartedWithoutClaim);
        self.note(|| {
            format!("shim {no} claims {:?}.{} {:?}: {claimed:?}", key.seq, key.attempt.0, key.token)
        });
        match claimed {
            Some(claim) if claim == ours || !obeys => {
                if let Some(shim) = self.shims.get_mut(&no) {
                    shim.has_claimed = true;
                }
                let at = self.wait_ms(6);
                self.after(at, Event::Begins(no));
            }
            Some(_) => {
                if let Some(conn) = self.shims.get(&no).and_then(Shim::born_with) {
                    self.send_to_gateway(conn, FromShim::Void);
                }
                self.shim_leaves(no);
            }
            // The folder was swept.
            None => self.shim_leaves(no),
        }
    }

    /// Starts the command, or cannot.
    pub(super) fn begins(&mut self, no: ShimNo) {
        let now = self.clock.boottime_ms().unsigned_abs();
        let wall_ms = self.clock.wall_ms();
        let grace_ms = self.plan.limits.grace_ms;
        let cannot = self.strikes(Fault::StartFails);
        let not_found = self.rng.coin();
        let Some(key) = self.shims.get(&no).map(|shim| shim.key) else { return };
        let is_swept = self.disk.get((key.id, key.attempt)).is_none();
        let Some(shim) = self.shims.get_mut(&no) else { return };
        shim.is_listening = true;
        if cannot || is_swept {
            shim.machine = Some(Machine::not_started(shim.epoch));
            shim.report = Some(Report {
                key,
                outcome: Outcome::Failed,
                exit_code: Some(if not_found && !is_swept { 127 } else { 125 }),
                signal: None,
                non_retryable: not_found && !is_swept,
                started_at_ms: None,
                ended_at_ms: wall_ms,
                logs: Logs::None,
            });
            self.see(&Seen::Collected { key, outcome: Outcome::Failed });
            return self.begins_with(no, Some(Input::Collected));
        }
        shim.machine = Some(Machine::running(now, shim.epoch, shim.timeout_ms, grace_ms));
        shim.started_at_ms = Some(wall_ms);
        self.plant_tree(no, key);
        self.see(&Seen::Begins(key));
        self.note(|| format!("shim {no} runs {:?}.{} {:?}", key.seq, key.attempt.0, key.token));
        let born_with = self.shims.get(&no).and_then(Shim::born_with);
        let told = born_with.is_some_and(|conn| self.send_to_gateway(conn, FromShim::Started));
        self.begins_with(no, (!told).then_some(Input::Lost(BORN_WITH)));
    }

    /// The machine is there: it hears what has happened, then what was waiting to be read.
    fn begins_with(&mut self, no: ShimNo, first: Option<Input>) {
        let Some(shim) = self.shims.get_mut(&no) else { return };
        let unread = std::mem::take(&mut shim.unread);
        for unread in first.into_iter().map(Unread::Input).chain(unread) {
            match unread {
                Unread::Input(input) => self.drive(no, input),
                Unread::Frame(conn, frame) => self.shim_hears(conn, frame),
            }
        }
        self.wake_shim(no);
    }

    pub(super) fn out_of_memory(&mut self, no: ShimNo) {
        let watches = self.shims.get(&no).and_then(|shim| shim.machine.as_ref());
        if watches.is_some_and(Machine::watches_memory) {
            self.drive(no, Input::OutOfMemory);
        }
    }

    pub(super) fn shim_tick(&mut self, no: ShimNo, at: i64) {
        let now = self.clock.boottime_ms().unsigned_abs();
        let deadline = self.shims.get(&no).and_then(|shim| shim.machine.as_ref()?.deadline());
        if deadline.is_some_and(|deadline| deadline <= now) && at <= self.clock.true_ms() {
            self.drive(no, Input::Tick);
        }
    }

    /// A tick when the machine asks for one.
    fn wake_shim(&mut self, no: ShimNo) {
        let now = self.clock.boottime_ms();
        let Some(deadline) = self.shims.get(&no).and_then(|shim| shim.machine.as_ref()?.deadline()) else {
            return;
        };
        let wait_ms = i64::try_from(deadline).unwrap_or(i64::MAX).saturating_sub(now).max(0);
        let at = self.clock.true_ms().saturating_add(wait_ms);
        self.at(at, Event::ShimTick { shim: no, at });
    }

    /// The product's loop: every action in order, and the inputs they bring. What comes over a connection before the loop
    /// begins waits in the socket, its end as well.
    pub(super) fn drive(&mut self, no: ShimNo, input: Input) {
        if let Some(shim) = self.shims.get_mut(&no).filter(|shim| shim.machine.is_none()) {
            return shim.unread.push(Unread::Input(input));
        }
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.clock.boottime_ms().unsigned_abs();
            let Some(machine) = self.shims.get_mut(&no).and_then(|shim| shim.machine.as_mut()) else {
                return;
            };
            for action in machine.step(now, input) {
                match action {
                    Action::Exit => return self.shim_leaves(no),
                    Action::Rest => return self.shim_rests(no),
                    action => self.act(no, action, &mut inputs),
                }
            }
        }
        self.wake_shim(no);
    }

    fn act(&mut self, no: ShimNo, action: Action, inputs: &mut VecDeque<Input>) {
        match action {
            Action::SendStarted(id) => self.say(no, id, FromShim::Started, inputs),
            Action::SendEnded(id) => {
                if let Some(report) = self.shims.get(&no).and_then(|shim| shim.report.clone()) {
                    self.say(no, id, FromShim::Ended(Box::new(report)), inputs);
                }
            }
            Action::Close(id) => {
                let Some(shim) = self.shims.get_mut(&no) else { return };
                let at = shim.conns.iter().position(|(conn, _)| *conn == id);
                if let Some(at) = at {
                    let (_, conn) = shim.conns.remove(at);
                    self.shim_closes(conn);
                }
            }
            Action::Freeze => self.freeze(no),
            Action::Thaw => self.thaw(no),
            Action::Terminate => self.signal(no, false),
            Action::Kill => self.signal(no, true),
            Action::Collect(why) => {
                self.collect(no, why);
                inputs.push_back(Input::Collected);
            }
            Action::Record => self.record(no),
            Action::TakeBacklog => {
                let backlog: Vec<_> = self
                    .conns
                    .iter()
                    .filter(|(_, conn)| conn.shim == no && !conn.is_accepted)
                    .map(|(conn, _)| *conn)
                    .collect();
                inputs
                    .extend(backlog.into_iter().filter_map(|conn| self.take_in(conn)).map(Input::Connected));
                inputs.push_back(Input::BacklogTaken);
            }
            Action::Exit | Action::Rest => {}
        }
    }

    fn say(&mut self, no: ShimNo, id: ConnId, frame: FromShim, inputs: &mut VecDeque<Input>) {
        let Some(shim) = self.shims.get(&no) else { return };
        let Some((_, conn)) = shim.conns.iter().find(|(of, _)| *of == id).copied() else { return };
        if !self.send_to_gateway(conn, frame) {
            if let Some(shim) = self.shims.get_mut(&no) {
                shim.conns.retain(|(of, _)| *of != id);
            }
            // Whatever still was on its way is not read any more.
            self.shim_closes(conn);
            inputs.push_back(Input::Lost(id));
        }
    }

    fn collect(&mut self, no: ShimNo, why: Why) {
        let wall_ms = self.clock.wall_ms();
        let logs = match self.rng.below(3) {
            0 => Logs::None,
            1 => Logs::Stored,
            _ => Logs::Files,
        };
        let Some(shim) = self.shims.get_mut(&no) else { return };
        let (exit_code, signal) = match shim.exit {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let outcome = match why {
            Why::Itself if exit_code == Some(0) => Outcome::Succeeded,
            Why::Itself if signal.is_some() => Outcome::Signalled,
            Why::Itself => Outcome::Failed,
            Why::TimedOut => Outcome::TimedOut,
            Why::Cancelled => Outcome::Cancelled,
            Why::OutOfMemory => Outcome::OomKilled,
        };
        let key = shim.key;
        shim.report = Some(Report {
            key,
            outcome,
            exit_code,
            signal,
            non_retryable: false,
            started_at_ms: shim.started_at_ms,
            ended_at_ms: wall_ms,
            logs,
        });
        if let Some(folder) = self.disk.get((key.id, key.attempt)) {
            folder.has_logs = logs == Logs::Files;
        }
        self.note(|| format!("shim {no} ends {:?}.{} {:?}: {outcome}", key.seq, key.attempt.0, key.token));
        self.see(&Seen::Collected { key, outcome });
    }

    /// Written now, durable when it is synced; the shim may be killed between the two.
    fn record(&mut self, no: ShimNo) {
        let Some(shim) = self.shims.get(&no) else { return };
        if let Some(report) = shim.report.clone()
            && let Some(folder) = self.disk.get((shim.key.id, shim.key.attempt))
        {
            folder.put_record(report);
        }
        let at = self.wait_ms(10);
        self.after(at, Event::Recorded(no));
    }

    pub(super) fn recorded(&mut self, no: ShimNo) {
        let Some(shim) = self.shims.get(&no) else { return };
        let key = shim.key;
        if let Some(folder) = self.disk.get((key.id, key.attempt)) {
            folder.sync();
            self.see(&Seen::Recorded(key));
        }
        self.drive(no, Input::Recorded);
    }

    /// Its process ends; whoever is connected sees that.
    pub(super) fn shim_leaves(&mut self, no: ShimNo) {
        let Some(shim) = self.shims.remove(&no) else { return };
        for (_, conn) in shim.conns {
            self.shim_closes(conn);
        }
        let unheard: Vec<_> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.shim == no && conn.shim_open)
            .map(|(conn, _)| *conn)
            .collect();
        unheard.into_iter().for_each(|conn| self.shim_closes(conn));
    }

    /// From the backlog; its number.
    fn take_in(&mut self, no: ConnNo) -> Option<ConnId> {
        let conn = self.conns.get_mut(&no).filter(|conn| !conn.is_accepted && conn.shim_open)?;
        let shim = self.shims.get_mut(&conn.shim)?;
        conn.is_accepted = true;
        conn.shim_id = shim.next_conn;
        shim.next_conn += 1;
        shim.conns.push((conn.shim_id, no));
        Some(conn.shim_id)
    }

    pub(super) fn accepted(&mut self, no: ConnNo) {
        let Some(shim) = self.conns.get(&no).map(|conn| conn.shim) else { return };
        if let Some(id) = self.take_in(no) {
            self.drive(shim, Input::Connected(id));
        }
    }

    pub(super) fn shim_hears(&mut self, no: ConnNo, frame: ToShim) {
        let Some(conn) = self.conns.get(&no).filter(|conn| conn.shim_open) else { return };
        let (shim, id, stale_epoch) = (conn.shim, conn.shim_id, conn.stale_epoch);
        let obeys_all = self.planted(Bug::StaleGatewayObeyed);
        if let Some(shim) = self.shims.get_mut(&shim).filter(|shim| shim.machine.is_none()) {
            return shim.unread.push(Unread::Frame(no, frame));
        }
        self.note(|| format!("shim {shim} hears {frame:?} on {no}"));
        let Some(it) = self.shims.get_mut(&shim) else { return };
        let (key, heard_epoch) = (it.key, it.heard_epoch);
        let frame = match frame {
            ToShim::Attach { v, epoch } => {
                it.heard_epoch = it.heard_epoch.max(epoch);
                ToShim::Attach { v, epoch: if obeys_all { heard_epoch.max(epoch) } else { epoch } }
            }
            ToShim::Cancel | ToShim::Pause | ToShim::Resume | ToShim::Settled | ToShim::Rest => frame,
        };
        if let Some(epoch) = stale_epoch.filter(|_| !matches!(frame, ToShim::Attach { .. })) {
            self.see(&Seen::StaleOrder { key, epoch, heard_epoch });
        }
        self.drive(shim, Input::Frame(id, frame));
    }

    pub(super) fn lost_by_shim(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no) else { return };
        let (shim, id, was_open, was_accepted) = (conn.shim, conn.shim_id, conn.shim_open, conn.is_accepted);
        conn.shim_open = false;
        self.forget_closed(no);
        if was_open && was_accepted {
            let Some(it) = self.shims.get_mut(&shim) else { return };
            it.conns.retain(|(of, _)| *of != id);
            if it.is_resting && id == BORN_WITH {
                return self.shim_leaves(shim);
            }
            self.drive(shim, Input::Lost(id));
        }
    }
}
