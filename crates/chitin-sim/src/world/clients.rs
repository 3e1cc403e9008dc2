//! Who asks: clients that submit, wait, lose patience or their answer, and ask again with their key; and a person who
//! cancels, retries, deletes, pauses and resumes.

use std::collections::BTreeMap;

use chitin_core::{
    Answer, CommandId, Input, Jitter, Payload, Policy, Priority, QueueName, Refusal, RetryPolicy, Start,
    Submission, SubmissionKey, TaskId, TaskSpec, TaskState,
};

use super::engine::{Asker, Command};
use super::{Event, World};
use crate::check::Seen;

/// Whoever has got no answer by then asks again.
const PATIENCE_MS: i64 = 1_500;
/// In the calm there is no hurry: what is waited for is a wall clock that was set back by minutes.
const CALM_PATIENCE_MS: i64 = 15_000;
const ROUTE: &str = "/v1/tasks";

/// What comes back to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Heard {
    Answer(Answer),
    /// Refused by the store, or by too much waiting.
    Trouble,
}

#[derive(Debug)]
struct Client {
    key: Option<String>,
    specs: Vec<TaskSpec>,
    tries: Vec<Vec<TaskId>>,
    is_answered: bool,
}

#[derive(Debug, Default)]
pub(super) struct Clients {
    all: Vec<Client>,
    waiting: BTreeMap<CommandId, (usize, usize)>,
    next_id: u128,
}

impl Clients {
    /// Everybody who can ask again has an answer.
    pub(super) fn is_served(&self) -> bool {
        self.all.iter().all(|client| client.is_answered || client.key.is_none())
    }

    pub(super) fn unserved(&self) -> Vec<&str> {
        self.all
            .iter()
            .filter(|client| !client.is_answered)
            .filter_map(|client| client.key.as_deref())
            .collect()
    }

    fn fresh_id(&mut self) -> TaskId {
        self.next_id += 1;
        TaskId(self.next_id.to_be_bytes())
    }
}

impl World {
    pub(super) fn client_acts(&mut self) {
        if self.calm {
            return;
        }
        match self.rng.below(20) {
            0..9 => self.new_client(),
            9 => self.repeats_with_another_body(),
            10 | 11 => self.by_hand(|to, id| Input::Cancel { to, id }),
            12 | 13 => self.by_hand(|to, id| Input::Retry { to, id }),
            14 => self.by_hand(|to, id| Input::Delete { to, id }),
            15 | 16 => self.by_hand(|to, id| Input::PauseTask { to, id, paused: true }),
            17 | 18 => self.by_hand(|to, id| Input::PauseTask { to, id, paused: false }),
            _ => {
                let paused = self.rng.coin();
                self.pause_queue(QueueName::DEFAULT, paused);
            }
        }
        let pause = self.rng.between(0, self.plan.client_pause_ms.saturating_mul(2));
        self.after(pause, Event::ClientActs);
    }

    fn new_client(&mut self) {
        let at = self.clients.all.len();
        let key = self.rng.permille(700).then(|| format!("key-{at}"));
        let count = if self.rng.permille(700) { 1 } else { self.rng.between(2, 4) };
        let specs = (0..count).filter_map(|_| self.spec()).collect();
        self.clients.all.push(Client { key, specs, tries: Vec::new(), is_answered: false });
        self.submit(at);
    }

    fn spec(&mut self) -> Option<TaskSpec> {
        let queue = QueueName::new(if self.rng.coin() { QueueName::DEFAULT } else { "other" }).ok()?;
        let start = match self.rng.below(8) {
            0 => Start::After(self.rng.between(0, 3_000)),
            1 => Start::At(self.clock.wall_ms().saturating_add(self.rng.between(-500, 3_000))),
            _ => Start::Now,
        };
        let ttl_ms = if self.rng.permille(700) { 604_800_000 } else { self.rng.between(300, 8_000) };
        let waits = self.rng.below(4);
        let longest_ms = if self.rng.coin() { 60 } else { 3_000 };
        let backoff_ms = (0..waits).map(|_| u32::try_from(self.rng.below(longest_ms)).unwrap_or(0)).collect();
        let jitter = u16::try_from(self.rng.below(1_001)).ok().and_then(Jitter::from_permille);
        let stdin = vec![0; usize::try_from(self.rng.below(60)).unwrap_or(0)];
        Some(TaskSpec {
            queue,
            priority: Priority::new(self.rng.between(0, 9)).unwrap_or(Priority::DEFAULT),
            start,
            policy: Policy {
                timeout_ms: self.rng.permille(250).then(|| self.rng.between(10, 4_000)),
                ttl_ms,
                retry: RetryPolicy {
                    max: u32::try_from(self.rng.below(4)).unwrap_or(0),
                    backoff_ms,
                    jitter: jitter.unwrap_or(Jitter::NONE),
                },
                memory_bytes: None,
                cpu_millis: None,
                pids: None,
                merge: false,
            },
            tags: Vec::new(),
            payload: Payload { command: r#"["true"]"#.to_owned(), stdin, ..Payload::default() },
        })
    }

    fn submit(&mut self, at: usize) {
        self.next += 1;
        let to = CommandId(self.next);
        let deadline = i64::try_from(self.plan.limits.submit_timeout_ms).unwrap_or(i64::MAX);
        let deadline_boottime_ms = self.clock.boottime_ms().saturating_add(deadline);
        let clients = &mut self.clients;
        let count = clients.all.get(at).map_or(0, |client| client.specs.len());
        let ids: Vec<_> = (0..count).map(|_| clients.fresh_id()).collect();
        let Some(client) = clients.all.get_mut(at) else { return };
        clients.waiting.insert(to, (at, client.tries.len()));
        client.tries.push(ids.clone());
        let body_sha256 = sha(at);
        let key = client.key.clone().map(|key| SubmissionKey { route: ROUTE.to_owned(), key, body_sha256 });
        let tasks: Vec<_> = ids.iter().copied().zip(client.specs.clone()).collect();
        let has_key = key.is_some();
        self.see(&Seen::Submits { client: at, ids: &ids });
        let principal = format!("principal-{}", at % 3).into();
        let input = Input::Submit(Submission { to, principal, tasks, key, deadline_boottime_ms });
        // Nobody listens, or too many wait: the client hears that, or nothing.
        self.send(Command { to, input, asker: Asker::Client });
        if has_key {
            let patience = if self.calm { CALM_PATIENCE_MS } else { PATIENCE_MS };
            self.after(patience, Event::AsksAgain(at));
        }
    }

    /// With the same key, if there was no answer.
    pub(super) fn asks_again(&mut self, at: usize) {
        if self.clients.all.get(at).is_some_and(|client| !client.is_answered && client.key.is_some()) {
            self.submit(at);
        }
    }

    /// Somebody uses a key for something else.
    fn repeats_with_another_body(&mut self) {
        let keyed: Vec<_> = (0..self.clients.all.len())
            .filter(|at| self.clients.all.get(*at).is_some_and(|client| client.key.is_some()))
            .collect();
        let Some(at) = self.rng.pick(&keyed).copied() else { return };
        let Some(key) = self.clients.all.get(at).and_then(|client| client.key.clone()) else { return };
        self.next += 1;
        let to = CommandId(self.next);
        let id = self.clients.fresh_id();
        let Some(spec) = self.spec() else { return };
        self.see(&Seen::Misuses { client: at, id });
        let input = Input::Submit(Submission {
            to,
            principal: format!("principal-{}", at % 3).into(),
            tasks: vec![(id, spec)],
            key: Some(SubmissionKey { route: ROUTE.to_owned(), key, body_sha256: [255; 32] }),
            deadline_boottime_ms: i64::MAX,
        });
        self.send(Command { to, input, asker: Asker::Client });
    }

    pub(super) fn answered(&mut self, to: CommandId, heard: Heard) {
        let Some((at, attempt)) = self.clients.waiting.remove(&to) else { return };
        let Some(client) = self.clients.all.get_mut(at) else { return };
        let Heard::Answer(answer) = heard else { return };
        let ids = client.tries.get(attempt).cloned().unwrap_or_default();
        // Refused for now: with a key, it is asked again. What does not even fit while nobody waits never will.
        let is_final = match &answer {
            Answer::Refused(Refusal::QueueFull { waiting, .. } | Refusal::BytesFull { waiting, .. }) => {
                *waiting == 0
            }
            Answer::Refused(_) => false,
            Answer::Accepted { .. } | Answer::Replayed { .. } | Answer::Done | Answer::Conflict(_) => true,
        };
        client.is_answered |= is_final;
        self.note(|| format!("client {at} hears {answer:?}"));
        self.see(&Seen::Answered { client: at, ids: &ids, answer: &answer });
    }

    /// Mostly of what is open, else of any task.
    fn by_hand(&mut self, input: fn(CommandId, TaskId) -> Input) {
        let open: Vec<_> = self.view.open().map(|row| row.id).collect();
        let is_any = self.rng.permille(400) || open.is_empty();
        let ids = if is_any { self.view.ids.keys().copied().collect() } else { open };
        if let Some(id) = self.rng.pick(&ids).copied().filter(|id| !self.still_runs(*id)) {
            self.ask(id, input);
        }
    }

    fn ask(&mut self, id: TaskId, input: fn(CommandId, TaskId) -> Input) {
        self.next += 1;
        let to = CommandId(self.next);
        let input = input(to, id);
        self.see(&Seen::Asked(&input));
        self.send(Command { to, input, asker: Asker::Client });
    }

    fn pause_queue(&mut self, name: &str, paused: bool) {
        let Ok(name) = QueueName::new(name) else { return };
        self.next += 1;
        let to = CommandId(self.next);
        self.send(Command { to, input: Input::PauseQueue { to, name, paused }, asker: Asker::Client });
    }

    /// A person sees that nothing goes on, and until it does lets it.
    pub(super) fn resume_all(&mut self) {
        let paused = |row: &&chitin_core::TaskRow| matches!(row.state, TaskState::Paused(_));
        let held: Vec<_> = self.view.open().filter(paused).map(|row| row.id).collect();
        for id in held {
            self.ask(id, |to, id| Input::PauseTask { to, id, paused: false });
        }
        let paused: Vec<_> =
            self.view.queues.values().filter(|queue| queue.paused).map(|queue| queue.name.clone()).collect();
        for name in paused {
            self.pause_queue(&name, false);
        }
    }
}

fn sha(client: usize) -> [u8; 32] {
    [u8::try_from(client % 250).unwrap_or(0); 32]
}
