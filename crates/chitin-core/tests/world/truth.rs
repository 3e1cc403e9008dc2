//! What the world remembers apart from the store, and the invariants it holds the store to.

use std::collections::{HashMap, HashSet};

use chitin_core::model::ModelStore;
use chitin_core::*;

use super::Client;

#[derive(Default)]
pub(crate) struct Truth {
    /// What clients were promised.
    promised: HashMap<usize, Vec<TaskId>>,
    may_be_deleted: HashSet<TaskId>,
    /// Attempts whose command was really started.
    started: HashSet<(TaskId, AttemptNo)>,
    /// Every task that was ever seen in the store.
    seen: HashSet<TaskId>,
    ends: HashMap<(TaskId, u32), (TaskState, AttemptNo)>,
    results: HashMap<(Seq, u32), (AttemptNo, StoredResult)>,
    tokens: HashSet<Token>,
}

/// A look at the store before a commit.
pub(crate) struct Before {
    waiting: usize,
    running: HashSet<TaskId>,
}

impl Truth {
    pub(crate) fn may_be_deleted(&mut self, id: TaskId) {
        self.may_be_deleted.insert(id);
    }

    pub(crate) fn starts(&mut self, key: AttemptKey) {
        assert!(self.started.insert((key.id, key.attempt)), "{key:?} was started twice");
    }

    pub(crate) fn acknowledged(&mut self, client: usize, ids: &[TaskId]) {
        let promised = self.promised.entry(client).or_insert_with(|| ids.to_vec());
        assert_eq!(promised, ids, "two answers to one submission");
    }

    pub(crate) fn before(&self, store: &ModelStore) -> Before {
        Before {
            waiting: store.tasks().filter(|row| row.state.is_waiting()).count(),
            running: store.tasks().filter(|row| row.state.is_under_way()).map(|row| row.id).collect(),
        }
    }

    /// The bound of what waits is passed by nothing but what came back from running.
    pub(crate) fn after(&self, before: &Before, store: &ModelStore, limits: &Limits) {
        let waiting: Vec<_> = store.tasks().filter(|row| row.state.is_waiting()).collect();
        let back = waiting.iter().filter(|row| before.running.contains(&row.id)).count();
        let limit = usize::try_from(limits.waiting_tasks).unwrap();
        assert!(waiting.len() <= before.waiting.max(limit) + back, "{} wait", waiting.len());
    }

    /// What is said is already so in the store.
    pub(crate) fn is_true(&mut self, output: &Output, store: &ModelStore) {
        let stored = |key: &AttemptKey| {
            store
                .attempts()
                .find(|row| (row.seq, row.attempt, row.token) == (key.seq, key.attempt, key.token))
        };
        match output {
            Output::Reply { answer: Answer::Accepted { ids, .. }, .. } => {
                let there = |id: &TaskId| store.task(*id).is_some() || self.may_be_deleted.contains(id);
                assert!(ids.iter().all(there), "accepted, but not stored");
            }
            Output::Start(order) => {
                assert!(stored(&order.attempt).is_some(), "started without an intent");
                assert!(self.tokens.insert(order.attempt.token), "a token was given out twice");
            }
            Output::Recover { attempt, .. } => assert!(stored(attempt).is_some(), "nobody's attempt"),
            // One that was voided in the same commit has another token, and its order says that it is paused.
            Output::PauseAttempt { attempt, .. } => {
                let gone = store.task(attempt.id).is_none();
                let of_it = |row: &AttemptRow| (row.seq, row.attempt) == (attempt.seq, attempt.attempt);
                assert!(gone || store.attempts().any(of_it), "nobody's attempt");
            }
            Output::EndAttempt { attempt } | Output::Evict { attempt } => {
                let gone = store.task(attempt.id).is_none();
                assert!(gone || stored(attempt).is_some(), "nobody's attempt");
            }
            Output::Settled { attempt, .. } => {
                let gone = store.task(attempt.id).is_none();
                assert!(gone || stored(attempt).is_some_and(|row| row.outcome.is_some()), "not settled");
            }
            Output::Publish { attempt, round } => {
                let task = store.task(attempt.id);
                assert!(task.is_none_or(|row| row.state == TaskState::Succeeded && row.round == *round));
            }
            Output::RemoveFiles { id } => assert!(store.task(*id).is_none(), "it is still there"),
            Output::Reply { .. } | Output::Changed { .. } => {}
        }
    }

    pub(crate) fn holds(&mut self, store: &ModelStore, clients: &[Client], limits: &Limits) {
        self.seen.extend(store.tasks().map(|row| row.id));
        for id in self.promised.values().flatten() {
            let there = store.task(*id).is_some();
            assert!(there || self.may_be_deleted.contains(id), "{id} was accepted and is lost");
        }
        for client in clients {
            let stored = |ids: &&Vec<TaskId>| ids.iter().any(|id| self.seen.contains(id));
            let whole = |ids: &Vec<TaskId>| ids.iter().all(|id| self.seen.contains(id));
            assert!(client.tries.iter().filter(stored).count() <= 1, "one submission, twice in the store");
            assert!(client.tries.iter().filter(stored).all(whole), "accepted in part");
        }
        let running = store.tasks().filter(|row| row.state.is_under_way()).count();
        assert!(u64::try_from(running).unwrap() <= limits.running_tasks, "{running} run");
        store.tasks().for_each(|row| self.one_end_a_round(row));
        self.results_belong_to_who_won(store);
        self.what_runs_is_the_newest_attempt(store);
    }

    /// Whoever runs an attempt knows whether it is to be frozen.
    pub(crate) fn is_told(&self, key: AttemptKey, frozen: bool, store: &ModelStore) {
        let current = store.task(key.id).filter(|row| row.attempt == key.attempt && row.state.is_under_way());
        if let Some(row) = current
            && store.attempts().any(|row| row.token == key.token)
        {
            let is_held = row.state == TaskState::Paused(PausedReason::Frozen);
            assert_eq!(frozen, is_held, "{key:?}: its shim was not told");
        }
    }

    fn one_end_a_round(&mut self, row: &TaskRow) {
        let end = self.ends.get(&(row.id, row.round)).copied();
        if let Some(end) = end {
            assert_eq!((row.state, row.attempt), end, "an end that did not last");
        } else if row.state.has_ended() {
            self.ends.insert((row.id, row.round), (row.state, row.attempt));
        }
        if row.cancel_requested {
            let ok = matches!(row.state, TaskState::Running | TaskState::Cancelled | TaskState::Succeeded);
            assert!(ok, "{} went on after it was cancelled: {}", row.id, row.state);
        }
    }

    fn results_belong_to_who_won(&mut self, store: &ModelStore) {
        for (seq, round, attempt, result) in store.results() {
            let before = self.results.entry((seq, round)).or_insert_with(|| (attempt, result.clone()));
            assert_eq!((&before.0, &before.1), (&attempt, result), "a second result");
            let winner = store.attempts().find(|row| (row.seq, row.attempt) == (seq, attempt)).unwrap();
            assert_eq!((winner.outcome, winner.round), (Some(Outcome::Succeeded), round));
            assert_eq!(result.body, winner.token.0, "another attempt's result");
        }
        for row in store.tasks().filter(|row| row.state == TaskState::Succeeded) {
            assert!(self.results.contains_key(&(row.seq, row.round)), "an end without its result");
        }
    }

    fn what_runs_is_the_newest_attempt(&self, store: &ModelStore) {
        for row in store.tasks() {
            let attempts: Vec<_> = store.attempts().filter(|attempt| attempt.seq == row.seq).collect();
            assert_eq!(
                attempts.len(),
                usize::try_from(row.attempt.0).unwrap(),
                "attempts are numbered from 1"
            );
            let under_way: Vec<_> = attempts.iter().filter(|attempt| attempt.outcome.is_none()).collect();
            assert_eq!(under_way.len(), usize::from(row.state.is_under_way()));
            assert!(under_way.iter().all(|attempt| attempt.attempt == row.attempt));
        }
    }
}
