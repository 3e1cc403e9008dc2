//! What the tests of the verbs stand on: a core on a store in memory, a clock that is set by hand, and dice that are
//! foretold. One [`Bench::batch`] is what a gateway does between two commits.

use crate::model::ModelStore;
use crate::*;

pub(crate) const BOOT: &str = "boot-a";

/// Dice that count.
#[derive(Debug, Default)]
pub(crate) struct Counter(u64);

impl Dice for Counter {
    fn roll(&mut self) -> u64 {
        self.0 += 1;
        self.0
    }
}

pub(crate) struct Bench {
    pub(crate) store: ModelStore,
    pub(crate) core: Core,
    pub(crate) now: Now,
    dice: Counter,
    next: u64,
}

impl Bench {
    /// A gateway that has booted on an empty store.
    pub(crate) fn new(limits: Limits) -> Self {
        let now = Now { boot: BootNo(1), boottime_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let core = Core::new(limits);
        let mut bench = Self { store: ModelStore::new(), core, now, dice: Counter::default(), next: 0 };
        bench.boot(BOOT);
        bench
    }

    pub(crate) fn default() -> Self {
        Self::new(Limits::default())
    }

    /// Another life on the same store.
    pub(crate) fn boot(&mut self, boot_id: &str) -> Vec<Output> {
        self.boot_at(boot_id, Pace::AtOnce)
    }

    pub(crate) fn boot_at(&mut self, boot_id: &str, pace: Pace) -> Vec<Output> {
        self.core = Core::new(self.core.limits.clone());
        let mut tx = self.store.begin();
        let boot = Input::Boot { boot_id: boot_id.to_owned(), pace };
        self.core.step(&self.now, &mut self.dice, &boot, &mut tx).unwrap();
        tx.commit();
        self.now.boot = self.core.boot_no();
        self.core.finish(CommitOutcome::Ok)
    }

    /// The inputs and a tick in one transaction, committed.
    pub(crate) fn batch(&mut self, inputs: &[Input]) -> Vec<Output> {
        self.batch_ending(inputs, CommitOutcome::Ok)
    }

    pub(crate) fn batch_ending(&mut self, inputs: &[Input], outcome: CommitOutcome) -> Vec<Output> {
        let mut tx = self.store.begin();
        for input in inputs.iter().chain([&Input::Tick]) {
            self.core.step(&self.now, &mut self.dice, input, &mut tx).unwrap();
        }
        if outcome == CommitOutcome::Ok {
            tx.commit();
        }
        let outputs = self.core.finish(outcome);
        if outcome == CommitOutcome::Ok {
            self.index_agrees_with_the_store();
        }
        outputs
    }

    /// One input alone in a transaction, committed.
    pub(crate) fn step(&mut self, input: &Input) -> Vec<Output> {
        let mut tx = self.store.begin();
        self.core.step(&self.now, &mut self.dice, input, &mut tx).unwrap();
        tx.commit();
        self.core.finish(CommitOutcome::Ok)
    }

    pub(crate) fn pass_ms(&mut self, ms: i64) {
        self.now.boottime_ms += ms;
        self.now.wall_ms += ms;
    }

    pub(crate) fn id(&mut self) -> TaskId {
        self.next += 1;
        TaskId(u128::from(self.next).to_be_bytes())
    }

    pub(crate) fn command(&mut self) -> CommandId {
        self.next += 1;
        CommandId(self.next)
    }

    pub(crate) fn submission(&mut self, specs: Vec<TaskSpec>) -> Submission {
        Submission {
            to: self.command(),
            principal: "anna".into(),
            tasks: specs.into_iter().map(|spec| (self.id(), spec)).collect(),
            key: None,
            deadline_boottime_ms: i64::MAX,
        }
    }

    /// Submits one task in a batch of its own and returns its id.
    pub(crate) fn submit(&mut self, spec: TaskSpec) -> TaskId {
        let submission = self.submission(vec![spec]);
        let id = submission.tasks[0].0;
        let outputs = self.batch(&[Input::Submit(submission)]);
        assert!(matches!(answers(&outputs)[..], [Answer::Accepted { .. }]), "{outputs:?}");
        id
    }

    /// Submits one task and lets it start.
    pub(crate) fn running(&mut self, spec: TaskSpec) -> AttemptKey {
        self.submit(spec);
        starts(&self.batch(&[]))[0]
    }

    /// A task that was given up.
    pub(crate) fn dead(&mut self) -> TaskId {
        let attempt = self.running(spec());
        let end = AttemptEnd { non_retryable: true, ..end(Outcome::Failed) };
        self.batch(&[report(attempt, end)]);
        assert_eq!(self.state(attempt.id), TaskState::Dead(DeadReason::NonRetryable));
        attempt.id
    }

    pub(crate) fn cancel(&mut self, id: TaskId) -> Input {
        Input::Cancel { to: self.command(), id }
    }

    pub(crate) fn retry(&mut self, id: TaskId) -> Input {
        Input::Retry { to: self.command(), id }
    }

    pub(crate) fn delete(&mut self, id: TaskId) -> Input {
        Input::Delete { to: self.command(), id }
    }

    pub(crate) fn pause_queue(&mut self, name: &str, paused: bool) -> Input {
        Input::PauseQueue { to: self.command(), name: QueueName::new(name).unwrap(), paused }
    }

    pub(crate) fn row(&self, id: TaskId) -> TaskRow {
        self.store.task(id).expect("no such task").clone()
    }

    pub(crate) fn state(&self, id: TaskId) -> TaskState {
        self.row(id).state
    }

    pub(crate) fn attempt(&self, key: AttemptKey) -> AttemptRow {
        let mut all = self.store.attempts();
        all.find(|row| row.seq == key.seq && row.attempt == key.attempt).expect("no such attempt").clone()
    }

    /// What the index says is what a new life would read from the store.
    pub(crate) fn index_agrees_with_the_store(&self) {
        let mut copy = self.store.clone();
        let mut fresh = Core::new(self.core.limits.clone());
        let boot = Input::Boot { boot_id: BOOT.to_owned(), pace: Pace::AtOnce };
        fresh.step(&self.now, &mut Counter::default(), &boot, &mut copy.begin()).unwrap();
        _ = fresh.finish(CommitOutcome::Ok);
        assert_eq!(self.core.figures(), fresh.figures(), "memory and store disagree");
    }
}

/// A task that runs `true`, at once, with two retries after 1 s and 5 s.
pub(crate) fn spec() -> TaskSpec {
    TaskSpec {
        queue: QueueName::new("default").unwrap(),
        priority: Priority::DEFAULT,
        start: Start::Now,
        policy: Policy {
            timeout_ms: None,
            ttl_ms: 60_000,
            retry: RetryPolicy { max: 2, backoff_ms: vec![1_000, 5_000], jitter: Jitter::NONE },
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            merge: false,
        },
        tags: Vec::new(),
        payload: Payload { command: r#"["true"]"#.to_owned(), ..Payload::default() },
    }
}

pub(crate) fn end(outcome: Outcome) -> AttemptEnd {
    AttemptEnd {
        outcome,
        non_retryable: false,
        put_back: false,
        exit_code: None,
        signal: None,
        error: None,
        started_at_ms: Some(7),
        ended_at_ms: 8,
        peak_memory_bytes: None,
        cpu_ms: None,
    }
}

pub(crate) fn report(attempt: AttemptKey, end: AttemptEnd) -> Input {
    Input::ShimReport { attempt, end, produced: Produced::default() }
}

pub(crate) fn result(body: &[u8]) -> StoredResult {
    StoredResult {
        content_type: "text/plain".to_owned(),
        sha256: [0; 32],
        body: body.to_vec(),
        truncated: false,
    }
}

pub(crate) fn answers(outputs: &[Output]) -> Vec<&Answer> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Reply { answer, .. } => Some(answer),
            _ => None,
        })
        .collect()
}

pub(crate) fn starts(outputs: &[Output]) -> Vec<AttemptKey> {
    outputs
        .iter()
        .filter_map(|output| match output {
            Output::Start(order) => Some(order.attempt),
            _ => None,
        })
        .collect()
}
