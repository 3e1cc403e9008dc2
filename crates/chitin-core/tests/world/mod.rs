//! A small world around the core: shims that claim, run, end and report; clients that wait, give up or ask again; a
//! clock that steps; a gateway that dies. Shims, claims and the store outlive a gateway; its inbox and its memory do
//! not; another boot takes the shims as well.

mod truth;

use std::collections::HashMap;

use chitin_core::model::ModelStore;
use chitin_core::*;

use truth::Truth;

/// Small enough that bounds are met all the time.
pub(crate) fn limits() -> Limits {
    Limits { waiting_tasks: 6, running_tasks: 2, ..Limits::default() }
}

/// How a commit goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Fine,
    /// The gateway dies after that many of its outputs.
    DiesAfter {
        outputs: u8,
        reboot: bool,
    },
    RolledBack,
    /// The gateway dies with the commit, which happened or not.
    Unknown {
        happened: bool,
        reboot: bool,
    },
}

struct Shim {
    key: AttemptKey,
    stage: Stage,
    asked_to_end: bool,
    frozen: bool,
}

enum Stage {
    /// Its process was started; it has no claim yet.
    Ordered,
    Running,
    /// Its command ended; it reports until it is told that this is settled.
    Ended(Box<(AttemptEnd, Produced)>),
    /// It went down with the machine, without a record.
    Gone,
}

/// What `claim-<token>` links to, for ever.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claim {
    Real,
    Void,
}

pub(crate) struct Client {
    key: Option<String>,
    specs: Vec<TaskSpec>,
    pub(crate) tries: Vec<Vec<TaskId>>,
    answered: bool,
}

/// SplitMix64.
struct Seeded(u64);

impl Dice for Seeded {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

pub(crate) struct World {
    store: ModelStore,
    core: Core,
    now: Now,
    dice: Seeded,
    boots: u32,
    next: u64,
    inbox: Vec<Input>,
    sent: Vec<Input>,
    recovers: Vec<(AttemptKey, bool, bool)>,
    shims: Vec<Shim>,
    claims: HashMap<Token, Claim>,
    clients: Vec<Client>,
    commands: HashMap<CommandId, (usize, usize)>,
    truth: Truth,
}

fn pick<T>(items: &[T], at: u8) -> Option<usize> {
    (!items.is_empty()).then(|| usize::from(at) % items.len())
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self {
            store: ModelStore::new(),
            core: Core::new(limits()),
            now: Now { boot: BootNo(0), boottime_ms: 1_000, wall_ms: 1_700_000_000_000 },
            dice: Seeded(1),
            boots: 1,
            next: 0,
            inbox: Vec::new(),
            sent: Vec::new(),
            recovers: Vec::new(),
            shims: Vec::new(),
            claims: HashMap::new(),
            clients: Vec::new(),
            commands: HashMap::new(),
            truth: Truth::default(),
        };
        world.boot();
        world
    }

    fn boot_id(&self) -> String {
        format!("boot-{}", self.boots)
    }

    fn boot(&mut self) {
        self.core = Core::new(limits());
        let mut tx = self.store.begin();
        let boot = Input::Boot { boot_id: format!("boot-{}", self.boots), pace: Pace::AtOnce };
        self.core.step(&self.now, &mut self.dice, &boot, &mut tx).unwrap();
        tx.commit();
        self.now.boot = self.core.boot_no();
        let outputs = self.core.finish(CommitOutcome::Ok);
        self.deliver(outputs);
    }

    /// The gateway dies; with `reboot` the machine does.
    pub(crate) fn crash(&mut self, reboot: bool) {
        self.inbox.clear();
        self.recovers.clear();
        if reboot {
            self.boots += 1;
            self.now.boottime_ms = 1_000;
            self.shims.retain(|shim| !matches!(shim.stage, Stage::Ordered));
            for shim in self.shims.iter_mut().filter(|shim| matches!(shim.stage, Stage::Running)) {
                shim.stage = Stage::Gone;
            }
        }
        self.boot();
    }

    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now.boottime_ms += ms;
        self.now.wall_ms += ms;
    }

    pub(crate) fn step_wall_ms(&mut self, ms: i64) {
        self.now.wall_ms += ms;
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(crate) fn new_client(&mut self, keyed: bool, specs: Vec<TaskSpec>) {
        let key = keyed.then(|| format!("key-{}", self.clients.len()));
        self.clients.push(Client { key, specs, tries: Vec::new(), answered: false });
        self.submit(self.clients.len() - 1);
    }

    /// A client that got no answer asks again, if it has a key to do so safely.
    pub(crate) fn ask_again(&mut self, at: u8) {
        if let Some(at) = pick(&self.clients, at)
            && self.clients[at].key.is_some()
        {
            self.submit(at);
        }
    }

    fn submit(&mut self, at: usize) {
        let to = CommandId(self.fresh());
        let count = self.clients[at].specs.len();
        let ids: Vec<_> = (0..count).map(|_| TaskId(u128::from(self.fresh()).to_be_bytes())).collect();
        let client = &mut self.clients[at];
        self.commands.insert(to, (at, client.tries.len()));
        client.tries.push(ids.clone());
        let sha = [u8::try_from(at % 256).unwrap(); 32];
        let key = client.key.clone();
        self.inbox.push(Input::Submit(Submission {
            to,
            principal: format!("principal-{}", at % 3).into(),
            tasks: ids.into_iter().zip(client.specs.clone()).collect(),
            key: key.map(|key| SubmissionKey { route: "/v1/tasks".into(), key, body_sha256: sha }),
            deadline_boottime_ms: i64::MAX,
        }));
    }

    /// A person asks something about some task.
    pub(crate) fn by_hand(&mut self, at: u8, input: fn(CommandId, TaskId) -> Input) {
        let ids: Vec<_> = self.store.tasks().map(|row| row.id).collect();
        if let Some(at) = pick(&ids, at) {
            let input = input(CommandId(self.fresh()), ids[at]);
            if let Input::Delete { id, .. } = input {
                self.truth.may_be_deleted(id);
            }
            self.inbox.push(input);
        }
    }

    pub(crate) fn pause_queue(&mut self, paused: bool) {
        let name = QueueName::new("default").unwrap();
        let to = CommandId(self.fresh());
        self.inbox.push(Input::PauseQueue { to, name, paused });
    }

    fn send(&mut self, input: Input) {
        self.sent.push(input.clone());
        self.inbox.push(input);
    }

    /// Something that was reported before is reported again, however late.
    pub(crate) fn send_again(&mut self, at: u8) {
        if let Some(at) = pick(&self.sent, at) {
            self.inbox.push(self.sent[at].clone());
        }
    }

    /// A started shim links its claim, or obeys the void one.
    pub(crate) fn shim_claims(&mut self, at: u8) {
        let Some(at) = pick(&self.shims, at) else { return };
        if !matches!(self.shims[at].stage, Stage::Ordered) {
            return;
        }
        let key = self.shims[at].key;
        if *self.claims.entry(key.token).or_insert(Claim::Real) == Claim::Real {
            self.truth.starts(key);
            self.shims[at].stage = Stage::Running;
        } else {
            self.shims.remove(at);
        }
    }

    /// A shim could not be started: the gateway makes sure, by the void claim, and says so.
    pub(crate) fn start_fails(&mut self, at: u8) {
        let Some(at) = pick(&self.shims, at) else { return };
        if matches!(self.shims[at].stage, Stage::Ordered) {
            let key = self.shims.remove(at).key;
            if *self.claims.entry(key.token).or_insert(Claim::Void) == Claim::Void {
                self.send(Input::Voided { attempt: key });
            }
        }
    }

    pub(crate) fn command_ends(&mut self, at: u8, outcome: Outcome, put_back: bool) {
        let Some(at) = pick(&self.shims, at) else { return };
        let shim = &mut self.shims[at];
        if !matches!(shim.stage, Stage::Running) || (shim.frozen && !shim.asked_to_end) {
            return;
        }
        let outcome = match outcome {
            Outcome::Succeeded => outcome,
            _ if shim.asked_to_end => Outcome::Cancelled,
            Outcome::Cancelled | Outcome::HostLost => Outcome::Failed,
            _ => outcome,
        };
        let result = StoredResult {
            content_type: "application/octet-stream".into(),
            sha256: [0; 32],
            body: shim.key.token.0.to_vec(),
            truncated: false,
        };
        let result = (outcome == Outcome::Succeeded).then_some(result);
        let produced = Produced { result, output: None, log_bytes_in_files: 3 };
        shim.stage = Stage::Ended(Box::new((end(outcome, put_back), produced)));
    }

    pub(crate) fn shim_reports(&mut self, at: u8) {
        if let Some(at) = pick(&self.shims, at)
            && let Stage::Ended(left) = &self.shims[at].stage
        {
            let attempt = self.shims[at].key;
            let (end, produced) = left.as_ref().clone();
            self.send(Input::ShimReport { attempt, end, produced });
        }
    }

    /// The gateway looks for what an earlier one gave out.
    pub(crate) fn recovers(&mut self, at: u8) {
        let Some(at) = pick(&self.recovers, at) else { return };
        let (attempt, cancel_requested, paused) = self.recovers.swap_remove(at);
        if *self.claims.entry(attempt.token).or_insert(Claim::Void) == Claim::Void {
            return self.send(Input::Voided { attempt });
        }
        let Some(at) = self.shims.iter().position(|shim| shim.key == attempt) else {
            // It reported on its own, was settled, and is gone.
            let row = self.store.attempts().find(|row| row.token == attempt.token);
            return assert!(
                row.is_none_or(|row| row.outcome.is_some()),
                "a running attempt has lost its shim"
            );
        };
        self.shims[at].asked_to_end |= cancel_requested;
        self.shims[at].frozen = paused;
        if matches!(self.shims[at].stage, Stage::Gone) {
            let produced = Produced::default();
            self.send(Input::ShimReport { attempt, end: end(Outcome::HostLost, false), produced });
        }
    }

    pub(crate) fn commit(&mut self, fate: Fate) {
        let inputs = std::mem::take(&mut self.inbox);
        let before = self.truth.before(&self.store);
        let figures = self.core.figures();
        let mut tx = self.store.begin();
        for input in inputs.iter().chain([&Input::Tick]) {
            self.core.step(&self.now, &mut self.dice, input, &mut tx).unwrap();
        }
        if matches!(fate, Fate::Fine | Fate::DiesAfter { .. } | Fate::Unknown { happened: true, .. }) {
            tx.commit();
        } else {
            drop(tx);
        }
        match fate {
            Fate::Fine => {
                let outputs = self.core.finish(CommitOutcome::Ok);
                self.deliver(outputs);
                // Of what another life gave out the world may still have to be asked.
                if self.recovers.is_empty() {
                    let told = |shim: &Shim| self.truth.is_told(shim.key, shim.frozen, &self.store);
                    self.shims.iter().for_each(told);
                }
            }
            Fate::DiesAfter { outputs: most, reboot } => {
                let mut outputs = self.core.finish(CommitOutcome::Ok);
                outputs.truncate(usize::from(most));
                self.deliver(outputs);
                self.crash(reboot);
            }
            Fate::RolledBack => {
                assert_eq!(self.core.finish(CommitOutcome::RolledBack), [], "said before it was true");
                assert_eq!(self.core.figures(), figures);
                for input in inputs {
                    self.inbox.push(input);
                    self.commit(Fate::Fine);
                }
            }
            Fate::Unknown { reboot, .. } => {
                assert_eq!(self.core.finish(CommitOutcome::Unknown), [], "said before it was known");
                self.crash(reboot);
            }
        }
        if !matches!(fate, Fate::RolledBack) {
            self.truth.after(&before, &self.store, &limits());
        }
        self.check();
    }

    fn deliver(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            self.truth.is_true(&output, &self.store);
            match output {
                Output::Reply { to, answer } => self.answer(to, answer),
                Output::Start(order) => {
                    self.shims.push(Shim {
                        key: order.attempt,
                        stage: Stage::Ordered,
                        asked_to_end: false,
                        frozen: order.paused,
                    });
                }
                Output::EndAttempt { attempt } | Output::Evict { attempt } => {
                    self.shims
                        .iter_mut()
                        .filter(|shim| shim.key == attempt)
                        .for_each(|shim| shim.asked_to_end = true);
                }
                Output::PauseAttempt { attempt, paused } => {
                    let shims = self.shims.iter_mut().filter(|shim| shim.key == attempt);
                    shims.for_each(|shim| shim.frozen = paused);
                    let looked_for = self.recovers.iter_mut().filter(|(key, ..)| *key == attempt);
                    looked_for.for_each(|it| it.2 = paused);
                }
                Output::Recover { attempt, cancel_requested, paused, .. } => {
                    self.recovers.push((attempt, cancel_requested, paused));
                }
                Output::Settled { attempt, .. } => {
                    let runs = |shim: &Shim| shim.key == attempt && matches!(shim.stage, Stage::Running);
                    assert!(!self.shims.iter().any(runs), "a running shim was told to go");
                    self.shims.retain(|shim| shim.key != attempt);
                }
                Output::RemoveFiles { .. } | Output::Changed { .. } | Output::Publish { .. } => {}
            }
        }
    }

    fn answer(&mut self, to: CommandId, answer: Answer) {
        let Some(&(at, attempt)) = self.commands.get(&to) else { return };
        let client = &mut self.clients[at];
        client.answered = true;
        match answer {
            Answer::Accepted { ids, .. } => {
                assert_eq!(ids, client.tries[attempt]);
                self.truth.acknowledged(at, &ids);
            }
            Answer::Replayed { ids, .. } => {
                assert!(client.tries.contains(&ids), "somebody else's tasks");
                self.truth.acknowledged(at, &ids);
            }
            Answer::Refused(_) => {
                assert!(client.tries[attempt].iter().all(|id| self.store.task(*id).is_none()));
            }
            Answer::Done | Answer::Conflict(_) => panic!("{answer:?} to a submission"),
        }
    }

    /// What must hold at every moment.
    pub(crate) fn check(&mut self) {
        self.truth.holds(&self.store, &self.clients, &limits());
        let mut copy = self.store.clone();
        let mut fresh = Core::new(limits());
        let boot = Input::Boot { boot_id: self.boot_id(), pace: Pace::AtOnce };
        fresh.step(&self.now, &mut Seeded(0), &boot, &mut copy.begin()).unwrap();
        _ = fresh.finish(CommitOutcome::Ok);
        assert_eq!(self.core.figures(), fresh.figures(), "memory and store disagree");
    }

    /// Whatever a person still holds goes on.
    fn resume_all(&mut self) {
        let held = |row: &&TaskRow| matches!(row.state, TaskState::Paused(_));
        let held: Vec<_> = self.store.tasks().filter(held).map(|row| row.id).collect();
        for id in held {
            let to = CommandId(self.fresh());
            self.inbox.push(Input::PauseTask { to, id, paused: false });
        }
    }

    /// Without further faults everything comes to its end, everybody gets an answer, and the loop comes to rest.
    pub(crate) fn goes_on_to_the_end(&mut self) {
        self.pause_queue(false);
        for _ in 0..300 {
            self.resume_all();
            for at in 0..self.clients.len() {
                if !self.clients[at].answered && self.clients[at].key.is_some() {
                    self.submit(at);
                }
            }
            while !self.recovers.is_empty() {
                self.recovers(0);
            }
            for at in (0..self.shims.len()).rev().map(|at| u8::try_from(at).unwrap()) {
                self.shim_claims(at);
            }
            for at in (0..self.shims.len()).map(|at| u8::try_from(at).unwrap()) {
                self.command_ends(at, Outcome::Succeeded, false);
                self.shim_reports(at);
            }
            self.commit(Fate::Fine);
            let wake_ms = self.core.next_wake_ms(&self.now);
            let open = self.store.tasks().filter(|row| !row.state.has_ended()).count();
            if open == 0 && self.inbox.is_empty() && wake_ms > 0 {
                assert!(self.clients.iter().all(|client| client.answered || client.key.is_none()));
                return;
            }
            self.pass_ms(wake_ms);
        }
        let open: Vec<_> = self.store.tasks().filter(|row| !row.state.has_ended()).collect();
        panic!("does not come to its end: {open:#?}");
    }
}

fn end(outcome: Outcome, put_back: bool) -> AttemptEnd {
    AttemptEnd {
        outcome,
        non_retryable: false,
        put_back,
        exit_code: None,
        signal: None,
        error: None,
        started_at_ms: Some(1),
        ended_at_ms: 2,
        peak_memory_bytes: None,
        cpu_ms: None,
    }
}
