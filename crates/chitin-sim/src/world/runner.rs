//! The gateway's side of attempts: carries effects out, starts shims, listens to them and tells them what is wanted.
//! The same conversation as the product's: settled, end wanted, a report that is insisted on, a connection that is gone
//! and looked after.

use chitin_core::{
    AttemptEnd, AttemptKey, CommandId, Input, KeptLogs, Outcome, Output, Produced, StartOrder,
};
use chitin_proto::shim::{PROTOCOL_VERSION, ToShim};

use super::engine::{Asker, Command, PROBE_EVERY_MS};
use super::net::{ConnNo, FromShim};
use super::report::Report;
use super::shims::ShimNo;
use super::{Event, World};
use crate::plan::Fault;
use crate::planted::Bug;

/// What one attempt's listener is to do next.
#[derive(Debug)]
pub(super) struct Wishes {
    pub(super) key: AttemptKey,
    pub(super) end: bool,
    /// Its end may take no time: memory runs out.
    pub(super) at_once: bool,
    pub(super) paused: bool,
}

/// What goes on when the writer has taken what was insisted on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Then {
    Nothing,
    Conversation(ConnNo),
    /// The next open task is taken up.
    TakeUp,
}

const ATTACH_PAUSE_MS: i64 = 100;
/// From the word to end to the next blow, for an attempt that is evicted.
const EVICTION_GRACE_MS: i64 = 500;
/// So long a shim that was told that its end is committed is waited for.
const LAST_BREATH_MS: i64 = 2_000;
const SHORTAGE_PAUSE_MS: i64 = 250;
const SWEEP_FOLDERS_MS: i64 = 2_000;

impl World {
    pub(super) fn life(&self) -> u64 {
        self.lives
    }

    /// Whether the attempt is under way under this very token, and whether its end is wanted.
    pub(super) fn wishes(&self, key: AttemptKey) -> Option<&Wishes> {
        let wishes = self.gateway.as_ref()?.hub.get(&(key.seq, key.attempt))?;
        Some(wishes).filter(|wishes| wishes.key == key)
    }

    fn enter(&mut self, key: AttemptKey, end: bool, paused: bool) {
        if let Some(gateway) = &mut self.gateway {
            gateway.hub.insert((key.seq, key.attempt), Wishes { key, end, at_once: false, paused });
        }
    }

    fn conversations(&self, key: AttemptKey) -> Vec<ConnNo> {
        let mine = self.conns.iter().filter(|(_, conn)| {
            conn.key == key && conn.gateway_open && conn.stale_epoch.is_none() && conn.life == self.lives
        });
        mine.map(|(no, _)| *no).collect()
    }

    pub(super) fn carry_out(&mut self, output: Output) {
        let life = self.life();
        match output {
            Output::Reply { .. } | Output::Changed { .. } | Output::Publish { .. } => {}
            Output::Start(order) => {
                self.enter(order.attempt, false, order.paused);
                let at = self.wait_ms(15);
                self.after(at, Event::Start { life, order });
            }
            Output::Recover { attempt, cancel_requested, paused, same_boot } => {
                self.enter(attempt, cancel_requested, paused);
                if self.planted(Bug::RunAgain) {
                    return self.insist(Input::Voided { attempt }, Then::Nothing);
                }
                let same_boot = same_boot || self.planted(Bug::MissingClaimBelieved);
                let at = self.wait_ms(15);
                self.after(at, Event::Look { life, key: attempt, same_boot });
            }
            Output::EndAttempt { attempt } => self.ask_end(attempt),
            Output::Evict { attempt } => self.evict(attempt),
            Output::PauseAttempt { attempt, paused } => self.ask_pause(attempt, paused),
            Output::Settled { attempt, keep_logs } => {
                if let Some(gateway) = &mut self.gateway
                    && gateway.hub.get(&(attempt.seq, attempt.attempt)).is_some_and(|it| it.key == attempt)
                {
                    gateway.hub.remove(&(attempt.seq, attempt.attempt));
                    gateway.voids.remove(&(attempt.seq, attempt.attempt));
                }
                let listeners = self.conversations(attempt);
                for conn in &listeners {
                    if let Some(conn) = self.conns.get_mut(conn) {
                        (conn.is_settled, conn.keep_logs) = (true, keep_logs);
                    }
                    self.tell(*conn);
                }
                // Else whoever listens sees to its folder.
                if listeners.is_empty() {
                    self.remove_attempt(attempt.id, attempt.attempt, keep_logs);
                }
            }
            // The sweep ends what still runs of it first.
            Output::RemoveFiles { id } if self.may_still_run(id) => {}
            Output::RemoveFiles { id } => self.disk.remove_task(id),
        }
    }

    /// Its end, in no time. It is struck once it has had a moment, whoever listens to it then.
    fn evict(&mut self, key: AttemptKey) {
        let Some(gateway) = &mut self.gateway else { return };
        let Some(wishes) = gateway.hub.get_mut(&(key.seq, key.attempt)).filter(|it| it.key == key) else {
            return;
        };
        wishes.at_once = true;
        self.ask_end(key);
    }

    /// Ends the tree of an attempt whose shim was told to end it, and gives it time that nobody has.
    pub(super) fn strike(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get(&no).filter(|conn| conn.gateway_open && !conn.is_settled) else {
            return;
        };
        let shim = conn.shim;
        self.note(|| format!("the tree of shim {shim} is struck"));
        self.signal(shim, true);
        let life = self.life();
        // Again, if it forked in the meantime.
        self.after(EVICTION_GRACE_MS, Event::Strike { life, conn: no });
    }

    pub(super) fn ask_end(&mut self, key: AttemptKey) {
        let Some(gateway) = &mut self.gateway else { return };
        let Some(wishes) = gateway.hub.get_mut(&(key.seq, key.attempt)) else { return };
        if wishes.key != key {
            return;
        }
        wishes.end = true;
        for conn in self.conversations(key) {
            if let Some(conn) = self.conns.get_mut(&conn) {
                conn.end_wanted = true;
            }
            self.tell(conn);
        }
    }

    fn ask_pause(&mut self, key: AttemptKey, paused: bool) {
        let Some(gateway) = &mut self.gateway else { return };
        let Some(wishes) = gateway.hub.get_mut(&(key.seq, key.attempt)).filter(|it| it.key == key) else {
            return;
        };
        wishes.paused = paused;
        for conn in self.conversations(key) {
            if let Some(conn) = self.conns.get_mut(&conn) {
                conn.pause_wanted = paused;
            }
            self.tell(conn);
        }
    }

    /// What the shim is to hear next, unless the conversation waits for the writer.
    fn tell(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no) else { return };
        if conn.is_settling || !conn.gateway_open {
            return;
        }
        if conn.is_settled && !conn.has_parted {
            conn.has_parted = true;
            let rest = self.asks_to_rest(no);
            if let Some(conn) = self.conns.get_mut(&no) {
                conn.is_asked_to_rest = rest;
            }
            self.send_to_shim(no, if rest { ToShim::Rest } else { ToShim::Settled });
            self.after(LAST_BREATH_MS, Event::LostByGateway(no));
        } else if conn.is_settled {
            // The last word is said.
        } else if conn.end_wanted && !conn.end_sent {
            conn.end_sent = true;
            let (key, life) = (conn.key, conn.life);
            self.send_to_shim(no, ToShim::Cancel);
            if self.wishes(key).is_some_and(|wishes| wishes.at_once) {
                self.after(EVICTION_GRACE_MS, Event::Strike { life, conn: no });
            }
        } else if !conn.end_sent && conn.has_spoken && conn.pause_heard != Some(conn.pause_wanted) {
            let (first, pause) = (conn.pause_heard.is_none(), conn.pause_wanted);
            conn.pause_heard = Some(pause);
            if !(first && !pause && self.planted(Bug::ResumeNotRepeated)) {
                self.send_to_shim(no, if pause { ToShim::Pause } else { ToShim::Resume });
            }
        }
    }

    pub(super) fn start(&mut self, order: StartOrder) {
        let key = order.attempt;
        let life = self.life();
        if self.strikes(Fault::StartFails) {
            match self.rng.below(3) {
                // It passes: the same attempt again, soon.
                0 => self.after(SHORTAGE_PAUSE_MS, Event::BeginAgain { life, key }),
                1 => {
                    let end =
                        AttemptEnd::unreported(Outcome::Failed, self.clock.wall_ms(), "could not be started");
                    self.report(key, end, Produced::default(), Then::Nothing);
                }
                // A shim that ends before it claims.
                _ => {
                    self.disk.make((key.id, key.attempt));
                    self.after(5, Event::Look { life, key, same_boot: true });
                }
            }
            return;
        }
        if self.is_served_by_one_that_rests(&order) {
            return;
        }
        self.disk.make((key.id, key.attempt));
        let shim = self.spawn_shim(&order);
        self.converse(key, shim, chitin_shim::machine::BORN_WITH);
    }

    /// Listens to a shim; one that was found again is told first who speaks.
    pub(super) fn converse(&mut self, key: AttemptKey, shim: ShimNo, id: chitin_shim::machine::ConnId) {
        let no = self.new_conn(key, shim, id);
        if id == chitin_shim::machine::BORN_WITH {
            self.shim_is_born_with(shim, no);
        } else {
            let at = self.reaches_shim_at(no);
            self.at(at, Event::Accepted(no));
            let epoch = self.epoch().0.unsigned_abs();
            self.send_to_shim(no, ToShim::Attach { v: PROTOCOL_VERSION, epoch });
        }
        self.listens(no);
    }

    pub(super) fn listens(&mut self, no: ConnNo) {
        let Some(key) = self.conns.get(&no).map(|conn| conn.key) else { return };
        let wishes = self.wishes(key).map(|wishes| (wishes.end, wishes.paused));
        let (end_wanted, pause_wanted) = wishes.unwrap_or_default();
        if let Some(conn) = self.conns.get_mut(&no) {
            (conn.end_wanted, conn.pause_wanted) = (end_wanted, pause_wanted);
        }
        self.tell(no);
    }

    pub(super) fn gateway_hears(&mut self, no: ConnNo, frame: FromShim) {
        let Some(conn) = self.conns.get(&no) else { return };
        if !conn.gateway_open || conn.stale_epoch.is_some() {
            return;
        }
        let key = conn.key;
        match frame {
            FromShim::Started => {
                if let Some(conn) = self.conns.get_mut(&no) {
                    conn.has_spoken = true;
                }
                self.tell(no);
            }
            FromShim::Void => self.conversation_over(no),
            FromShim::Resting => self.hears_that_it_rests(no),
            FromShim::Ended(report) => {
                if self.wishes(key).is_none() {
                    return;
                }
                if let Some(conn) = self.conns.get_mut(&no) {
                    conn.is_settling = true;
                }
                self.settle_by(key, &report, Then::Conversation(no));
            }
        }
    }

    pub(super) fn lost_by_gateway(&mut self, no: ConnNo) {
        self.conversation_over(no);
    }

    fn conversation_over(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get(&no) else { return };
        let (key, was_open, is_stale) = (conn.key, conn.gateway_open, conn.stale_epoch.is_some());
        if !was_open {
            return self.forget_closed(no);
        }
        if conn.rests {
            return;
        }
        if conn.is_settling {
            // Its word is with the writer; what is to be done then is done then.
            let at = self.clock.true_ms().saturating_add(PROBE_EVERY_MS);
            return self.at(at, Event::LostByGateway(no));
        }
        let pause = if conn.is_attached { ATTACH_PAUSE_MS } else { 0 };
        let (is_settled, keep_logs) = (conn.is_settled, conn.keep_logs);
        self.gateway_closes(no);
        self.forget_closed(no);
        if is_settled {
            self.parted(key, keep_logs);
        } else if !is_stale {
            let life = self.life();
            self.after(pause, Event::Look { life, key, same_boot: true });
        }
    }

    /// A report, with what the files beside it say.
    pub(super) fn settle_by(&mut self, key: AttemptKey, report: &Report, then: Then) {
        if report.key.token != key.token {
            return self.fail("fencing", format!("{key:?} was answered by {:?}", report.key));
        }
        let (end, produced) = report.collected();
        self.report(key, end, produced, then);
    }

    pub(super) fn report(&mut self, attempt: AttemptKey, end: AttemptEnd, produced: Produced, then: Then) {
        let input = Input::ShimReport { attempt, end, produced };
        self.sent.push(input.clone());
        self.insist(input, then);
    }

    /// Until the writer has taken it.
    pub(super) fn insist(&mut self, input: Input, then: Then) {
        self.next += 1;
        let to = CommandId(self.next);
        let command = Command { to, input: input.clone(), asker: Asker::Runner(then) };
        if !self.send(command) {
            let life = self.life();
            self.after(PROBE_EVERY_MS, Event::Insist { life, input: Box::new(input), then });
        }
    }

    pub(super) fn insisted(&mut self, then: Then) {
        match then {
            Then::Nothing => {}
            Then::TakeUp => self.took_up(),
            Then::Conversation(no) => {
                if let Some(conn) = self.conns.get_mut(&no) {
                    conn.is_settling = false;
                }
                self.tell(no);
            }
        }
    }

    /// What a lost removal left, and what still runs of attempts that have ended without their shims.
    pub(super) fn sweep_folders(&mut self) {
        let life = self.life();
        self.after(SWEEP_FOLDERS_MS, Event::SweepFolders { life });
        if self.gateway.as_ref().is_some_and(|gateway| gateway.core.is_recovering()) {
            return;
        }
        for (id, attempt) in self.disk.names() {
            let row = self.view.ids.get(&id).and_then(|seq| self.view.attempts.get(&(*seq, attempt)));
            if row.is_some_and(|row| row.outcome.is_none()) {
                continue;
            }
            let keep_logs = row.is_some_and(|row| row.logs == KeptLogs::Files);
            if self.gateway.as_ref().is_some_and(|gateway| gateway.resting.is_held(id)) {
                continue;
            }
            if self.has_left(id, attempt) {
                self.remove_attempt(id, attempt, keep_logs);
            }
        }
    }
}
