//! The engine as the product has it: whatever waits shares a batch — steps, a tick, one commit — and only then the
//! outputs go out, one by one. A refused batch is run again one command at a time; after an unknown end the gateway
//! dies. It may die between any two of these.

use std::collections::{BTreeMap, VecDeque};

use chitin_core::{
    Answer, AttemptKey, AttemptNo, CommandId, CommitOutcome, Core, Dispatch, Epoch, Input, Now, Outcome,
    Output, Pace, Seq, Token,
};

use super::clients::Heard;
use super::rest::RestingShims;
use super::runner::{Then, Wishes};
use super::{Event, World};
use crate::check::Seen;
use crate::plan::Fault;
use crate::planted::Bug;
use crate::rng::Rng;
use crate::store::{Store, Trouble};
use crate::view::Change;

/// The product's bounds, made small enough to be met.
const WAITING_COMMANDS: usize = 24;
const LONGEST_SLEEP_MS: i64 = 1_000;
pub(super) const PROBE_EVERY_MS: i64 = 250;
/// A usual commit.
const COMMIT_MS: i64 = 12;

/// One life.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) core: Core,
    pub(super) life: u64,
    inbox: VecDeque<Command>,
    turn_at: Option<i64>,
    pub(super) released: Option<(Vec<Output>, VecDeque<Command>)>,
    is_refusing: bool,
    /// Memory runs short.
    pub(super) is_pressed: bool,
    pub(super) resting: RestingShims,
    pub(super) hub: BTreeMap<(Seq, AttemptNo), Wishes>,
    pub(super) voids: BTreeMap<(Seq, AttemptNo), u32>,
    /// In safe mode, the task that this life wrote down and has not tried yet.
    pub(super) noted: Option<Seq>,
    /// All that is open is known.
    pub(super) has_recovered: bool,
}

/// A command on its way to the writer.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) to: CommandId,
    pub(super) input: Input,
    pub(super) asker: Asker,
}

/// Who waits for its end.
#[derive(Debug, Clone)]
pub(super) enum Asker {
    Client,
    Runner(Then),
}

/// Why nothing of a try is stored, or nobody knows.
enum Refused {
    No,
    Unknown,
}

/// What is to become of one transaction.
struct Fate {
    /// So many writes are taken.
    refuse_after: Option<u64>,
    is_refused: bool,
    /// Nobody knows; really, it happened or not.
    unknown: Option<bool>,
    /// Planted.
    forgets_due: bool,
    accuses: u32,
    forgets_suspect: bool,
    /// Planted.
    held_expires: bool,
    /// Planted.
    forgets_eviction: bool,
    /// Planted: the core is told that all went well.
    is_called_done: bool,
}

/// What became of it.
struct Tried {
    end: CommitOutcome,
    changes: Vec<Change>,
    outputs: Vec<Output>,
}

impl Fate {
    fn carry_out(
        &self,
        store: &mut Store,
        core: &mut Core,
        now: &Now,
        dice: &mut Rng,
        inputs: &[Input],
    ) -> Result<Tried, Trouble> {
        let mut tx = store.begin()?;
        (tx.forgets_due, tx.accuses, tx.forgets_suspect) =
            (self.forgets_due, self.accuses, self.forgets_suspect);
        (tx.held_expires, tx.forgets_eviction) = (self.held_expires, self.forgets_eviction);
        if let Some(writes) = self.refuse_after {
            tx.refuse_after(writes);
        }
        let stepped = inputs.iter().try_for_each(|input| core.step(now, dice, input, &mut tx));
        let end = match stepped {
            Err(Trouble::Refused) => CommitOutcome::RolledBack,
            Err(trouble) => return Err(trouble),
            Ok(()) if self.is_refused => CommitOutcome::RolledBack,
            Ok(()) if self.unknown.is_some() => CommitOutcome::Unknown,
            Ok(()) => CommitOutcome::Ok,
        };
        let is_stored = match end {
            CommitOutcome::Ok => true,
            CommitOutcome::RolledBack => false,
            CommitOutcome::Unknown => self.unknown == Some(true),
        };
        let changes = if is_stored { tx.commit()? } else { tx.roll_back().map(|()| Vec::new())? };
        let outputs = core.finish(if self.is_called_done { CommitOutcome::Ok } else { end });
        Ok(Tried { end, changes, outputs })
    }
}

impl Gateway {
    pub(super) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && self.released.is_none() && self.hub.is_empty()
    }

    /// Nothing is begun while memory runs short, nor while the store refuses. Whether it is so.
    fn apply_dispatch(&mut self) -> bool {
        let held = self.is_refusing || self.is_pressed;
        self.core.set_dispatch(if held { Dispatch::Paused } else { Dispatch::On });
        held
    }
}

impl World {
    pub(super) fn lives_as(&self, life: u64) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.life == life)
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.gateway.as_ref().map_or(Epoch(0), |gateway| gateway.core.epoch())
    }

    pub(super) fn gateway_starts(&mut self) {
        if self.gateway.is_some() {
            return;
        }
        self.lives += 1;
        self.tally.lives += 1;
        let opened = self.store.reopen().and_then(|()| self.store.compare(&self.view));
        self.hold("the store", opened);
        self.gateway = Some(Gateway {
            core: Core::new(self.plan.limits.clone()),
            life: self.lives,
            inbox: VecDeque::new(),
            turn_at: None,
            released: None,
            is_refusing: false,
            is_pressed: false,
            resting: RestingShims::default(),
            hub: BTreeMap::new(),
            voids: BTreeMap::new(),
            noted: None,
            has_recovered: false,
        });
        let life = self.lives;
        self.note(|| format!("gateway {life} starts"));
        let pace = self.pace();
        match self.attempt(&[Input::Boot { boot_id: self.clock.boot_id(), pace }]) {
            Ok(outputs) => {
                self.see(&Seen::Boot { is_careful: pace == Pace::OneByOne });
                self.out(outputs, VecDeque::new());
                self.wake_in(0);
                self.after(0, Event::TakeUp { life });
                let at = self.wait_ms(3_000);
                self.after(at, Event::SweepFolders { life });
            }
            Err(_) => self.gateway_dies("could not take the store over"),
        }
    }

    pub(super) fn gateway_dies(&mut self, why: &str) {
        let Some(gateway) = self.gateway.take() else { return };
        self.note(|| format!("gateway {} dies: {why}", gateway.life));
        self.counts_its_end(gateway.has_recovered);
        let held: Vec<_> =
            self.conns.iter().filter(|(_, conn)| conn.gateway_open && conn.stale_epoch.is_none()).collect();
        let held: Vec<_> = held.into_iter().map(|(no, _)| *no).collect();
        for conn in held {
            self.gateway_closes(conn);
        }
        let pause = self.rng.between(1, 300);
        self.after(pause, Event::GatewayStarts);
    }

    /// Hands a command to the writer; false: too many wait.
    pub(super) fn send(&mut self, command: Command) -> bool {
        let Some(gateway) = &mut self.gateway else { return false };
        if gateway.inbox.len() >= WAITING_COMMANDS {
            return false;
        }
        gateway.inbox.push_back(command);
        self.wake_in(0);
        true
    }

    fn wake_in(&mut self, ms: i64) {
        let at = self.clock.true_ms().saturating_add(ms);
        let Some(gateway) = &mut self.gateway else { return };
        if gateway.released.is_none() && gateway.turn_at.is_none_or(|sooner| at < sooner) {
            gateway.turn_at = Some(at);
            let life = gateway.life;
            self.at(at, Event::Turn { life, at });
        }
    }

    pub(super) fn engine_turn(&mut self, at: i64) {
        let now = self.now();
        let most = usize::try_from(self.plan.limits.batch_commands).unwrap_or(1);
        let Some(gateway) = &mut self.gateway else { return };
        if gateway.turn_at != Some(at) || gateway.released.is_some() {
            return;
        }
        gateway.turn_at = None;
        let count = gateway.inbox.len().min(most);
        let commands: VecDeque<_> = gateway.inbox.drain(..count).collect();
        if commands.is_empty() && gateway.is_refusing {
            gateway.is_refusing = false;
        }
        self.apply_dispatch();
        let Some(gateway) = &mut self.gateway else { return };
        if commands.is_empty() && gateway.core.next_wake_ms(&now) > 0 {
            let sleep = gateway.core.next_wake_ms(&now).min(LONGEST_SLEEP_MS);
            return self.wake_in(sleep);
        }
        self.batch(commands);
    }

    fn apply_dispatch(&mut self) {
        if let Some(gateway) = &mut self.gateway {
            let is_held = gateway.apply_dispatch();
            self.see(&Seen::Dispatch { is_held });
        }
    }

    fn refuses(&mut self) {
        if let Some(gateway) = &mut self.gateway {
            gateway.is_refusing = true;
        }
        self.apply_dispatch();
    }

    fn batch(&mut self, commands: VecDeque<Command>) {
        self.tally.commits += 1;
        let commands = self.refuse_new_work(commands);
        let mut inputs: Vec<_> = commands.iter().map(|command| command.input.clone()).collect();
        inputs.push(Input::Tick);
        match self.attempt(&inputs) {
            Ok(outputs) => {
                let Some(gateway) = &mut self.gateway else { return };
                gateway.released = Some((outputs, commands));
                let life = gateway.life;
                let took = self.wait_ms(COMMIT_MS);
                self.after(took, Event::Release { life });
            }
            Err(Refused::Unknown) => self.gateway_dies("the end of a commit is unknown"),
            Err(Refused::No) => {
                // Else it is the row of one of them that it does not take.
                if self.rng.coin() {
                    self.refuses();
                }
                self.one_by_one(commands);
            }
        }
    }

    /// While the store refuses, only what has begun is tried; and until all that is open was taken up.
    fn refuse_new_work(&mut self, commands: VecDeque<Command>) -> VecDeque<Command> {
        let Some(gateway) = &mut self.gateway else { return commands };
        if gateway.is_refusing {
            gateway.is_refusing = self.rng.coin() && !self.calm;
        }
        let refuses = gateway.is_refusing || gateway.core.is_recovering();
        self.apply_dispatch();
        if !refuses {
            return commands;
        }
        let (new, begun): (VecDeque<_>, VecDeque<_>) =
            commands.into_iter().partition(|command| matches!(command.input, Input::Submit(_)));
        new.into_iter().for_each(|command| self.reply(command, Heard::Trouble));
        begun
    }

    fn one_by_one(&mut self, commands: VecDeque<Command>) {
        for command in commands {
            if self.gateway.is_none() {
                return;
            }
            match self.attempt(std::slice::from_ref(&command.input)) {
                Ok(outputs) => self.out(outputs, VecDeque::from([command])),
                Err(Refused::Unknown) => return self.gateway_dies("the end of a commit is unknown"),
                Err(Refused::No) => {
                    if self.rng.coin() {
                        self.refuses();
                    }
                    self.reply(command, Heard::Trouble);
                }
            }
        }
        match self.attempt(&[Input::Tick]) {
            Ok(outputs) => self.out(outputs, VecDeque::new()),
            Err(Refused::Unknown) => return self.gateway_dies("the end of a commit is unknown"),
            Err(Refused::No) => self.refuses(),
        }
        self.wake_in(PROBE_EVERY_MS);
    }

    pub(super) fn now(&self) -> Now {
        let boot = self.gateway.as_ref().map_or(chitin_core::BootNo(0), |gateway| gateway.core.boot_no());
        self.clock.now(boot)
    }

    /// Steps and commit; nothing of a refused try is left.
    fn attempt(&mut self, inputs: &[Input]) -> Result<Vec<Output>, Refused> {
        let now = self.now();
        let inputs: Vec<_> = inputs.iter().map(|input| self.as_planted(input)).collect();
        let fate = self.draw_fate();
        if self.is_deadly(&inputs) {
            // It ends the process, as an unknown commit does.
            return Err(Refused::Unknown);
        }
        let Some(gateway) = &mut self.gateway else { return Err(Refused::No) };
        let figures = gateway.core.figures();
        let tried = fate.carry_out(&mut self.store, &mut gateway.core, &now, &mut self.dice, &inputs);
        let after = gateway.core.figures();
        let Some(Tried { end, changes, outputs }) = self.hold("the store", tried) else {
            return Err(Refused::No);
        };
        self.note(|| format!("commit {end:?} {}", described(&inputs)));
        self.apply(changes);
        if end == CommitOutcome::Ok {
            self.has_taken_up(&inputs);
            let is_recovering = self.gateway.as_ref().is_some_and(|gateway| gateway.core.is_recovering());
            self.see(&Seen::Committed((!is_recovering).then_some(&after)));
            return Ok(outputs);
        }
        if self.planted(Bug::ReleasedBeforeCommit) {
            self.out(outputs, VecDeque::new());
        } else if !self.planted(Bug::OverlayKept) {
            if !outputs.is_empty() {
                self.fail("what is visible is committed", format!("released without a commit: {outputs:?}"));
            }
            if after != figures {
                self.fail("memory is what is committed", format!("{figures:?} became {after:?}"));
            }
        }
        Err(if end == CommitOutcome::Unknown { Refused::Unknown } else { Refused::No })
    }

    fn draw_fate(&mut self) -> Fate {
        let refuse_after = self.rng.below(8);
        let happened = self.rng.coin();
        let lies = [Bug::ReleasedBeforeCommit, Bug::OverlayKept];
        Fate {
            refuse_after: self.strikes(Fault::StepRefused).then_some(refuse_after),
            is_refused: self.strikes(Fault::CommitRefused),
            unknown: self.strikes(Fault::CommitUnknown).then_some(happened),
            forgets_due: self.planted(Bug::DueTimeForgotten),
            accuses: u32::from(self.planted(Bug::SetAsideAtOnce)),
            forgets_suspect: self.planted(Bug::SuspectForgotten),
            held_expires: self.planted(Bug::HeldExpires),
            forgets_eviction: self.planted(Bug::EvictionForgotten),
            is_called_done: lies.into_iter().any(|bug| self.planted(bug)),
        }
    }

    /// The commit took its time; what it made true goes out.
    pub(super) fn release(&mut self) {
        let Some(gateway) = &mut self.gateway else { return };
        let Some((outputs, commands)) = gateway.released.take() else { return };
        self.out(outputs, commands);
        let now = self.now();
        let Some(gateway) = &self.gateway else { return };
        let sleep = gateway.core.next_wake_ms(&now).min(LONGEST_SLEEP_MS);
        let sleep = if gateway.inbox.is_empty() { sleep } else { 0 };
        self.wake_in(sleep);
    }

    /// Effects and answers in order, then whoever only waited for the commit.
    fn out(&mut self, outputs: Vec<Output>, commands: VecDeque<Command>) {
        let mut waiting = commands;
        for output in outputs {
            if self.strikes(Fault::KilledBetweenOutputs) {
                return self.gateway_dies("between two outputs");
            }
            self.tally.outputs += 1;
            self.note(|| format!("{output:?}"));
            self.see(&Seen::Output(&output));
            if let Output::Reply { to, answer } = output {
                let at = waiting.iter().position(|command| command.to == to);
                if let Some(command) = at.and_then(|at| waiting.remove(at)) {
                    self.reply(command, Heard::Answer(answer));
                }
            } else {
                self.carry_out(output);
            }
        }
        for command in waiting {
            self.reply(command, Heard::Answer(Answer::Done));
        }
        self.see(&Seen::Released);
    }

    fn reply(&mut self, command: Command, heard: Heard) {
        match command.asker {
            Asker::Client => {
                if self.strikes(Fault::ReplyLost) {
                    return;
                }
                let at = self.wait_ms(10);
                self.after(at, Event::Answered { to: command.to, answer: heard });
            }
            Asker::Runner(then) => match heard {
                Heard::Answer(_) => self.insisted(then),
                Heard::Trouble => {
                    let life = self.lives;
                    let input = Box::new(command.input);
                    self.after(PROBE_EVERY_MS, Event::Insist { life, input, then });
                }
            },
        }
    }

    /// Bugs that sit in what is decided from a report.
    fn as_planted(&self, input: &Input) -> Input {
        let Input::ShimReport { attempt, end, produced } = input else { return input.clone() };
        let (mut attempt, mut end) = (*attempt, end.clone());
        if self.planted(Bug::SettledWithoutToken) {
            attempt.token = self.current_token(attempt).unwrap_or(attempt.token);
        }
        if self.planted(Bug::HostLostIsPoison) && end.outcome == Outcome::HostLost {
            end.outcome = Outcome::WorkerLost;
        }
        Input::ShimReport { attempt, end, produced: produced.clone() }
    }

    pub(super) fn current_token(&self, attempt: AttemptKey) -> Option<Token> {
        self.view.attempts.get(&(attempt.seq, attempt.attempt)).map(|row| row.token)
    }
}

/// In a few words each.
fn described(inputs: &[Input]) -> String {
    let word = |input: &Input| match input {
        Input::Submit(submission) => format!("submit×{}", submission.tasks.len()),
        Input::Voided { attempt } => format!("voided {:?}.{}", attempt.seq, attempt.attempt.0),
        Input::ShimReport { attempt, end, .. } => {
            format!("report {:?}.{} {:?} {}", attempt.seq, attempt.attempt.0, attempt.token, end.outcome)
        }
        Input::Tick => "tick".to_owned(),
        other => format!("{other:?}"),
    };
    inputs.iter().map(word).collect::<Vec<_>>().join(", ")
}
