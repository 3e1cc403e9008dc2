//! A store in memory, with the exact semantics of [`Tx`]: what the tests of the core run on, and what a real store is
//! compared with. It favours being obviously right over being fast: a transaction is a copy of everything.
//!
//! It is stricter than a store need be wherever that finds a bug of the core: every guard is an error.

use std::collections::BTreeMap;

use crate::{
    AttemptNo, AttemptRow, BootNo, Epoch, EventRow, NewTask, OpenRow, Outcome, Payload, PrincipalId,
    PriorSubmission, QueueId, QueueName, QueueRow, Seq, StoredOutput, StoredResult, SubmissionRow, Suspect,
    TaskId, TaskRow, TaskState, Tx,
};

/// What a guard found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// A second row under the same key.
    #[error("a second {row} under the same key")]
    Exists {
        /// What kind of row.
        row: &'static str,
    },
    /// No row under this key.
    #[error("no {row} under this key")]
    Missing {
        /// What kind of row.
        row: &'static str,
    },
    /// The store belongs to another gateway.
    #[error("the store belongs to epoch {owner:?}, the write came from {writer:?}")]
    Fenced {
        /// Whose it is.
        owner: Epoch,
        /// Who wanted to write.
        writer: Epoch,
    },
    /// Only ended tasks can be deleted.
    #[error("the task is {state}, not ended")]
    Open {
        /// Where it is.
        state: TaskState,
    },
}

/// A remembered submission, with what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    row: SubmissionRow,
    ended_state: Option<TaskState>,
    forget_at_ms: Option<i64>,
}

/// Everything stored.
#[derive(Debug, Clone, PartialEq, Eq)]
struct State {
    epoch: Epoch,
    boots: Vec<String>,
    last_seq: Seq,
    suspect: Option<Suspect>,
    queues: BTreeMap<QueueId, QueueRow>,
    principals: BTreeMap<PrincipalId, String>,
    tasks: BTreeMap<Seq, (TaskRow, Payload)>,
    ids: BTreeMap<TaskId, Seq>,
    attempts: BTreeMap<(Seq, AttemptNo), AttemptRow>,
    results: BTreeMap<(Seq, u32), (AttemptNo, StoredResult)>,
    outputs: BTreeMap<(Seq, AttemptNo), StoredOutput>,
    submissions: BTreeMap<Seq, Remembered>,
    events: BTreeMap<i64, EventRow>,
}

/// The store: what is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelStore {
    state: State,
}

/// One open transaction. Dropped without [`ModelTx::commit`], it never was.
#[derive(Debug)]
pub struct ModelTx<'a> {
    store: &'a mut ModelStore,
    state: State,
}

impl Default for ModelStore {
    fn default() -> Self {
        Self::new()
    }
}

impl ModelStore {
    /// A new store: nothing but the default queue.
    #[must_use]
    pub fn new() -> Self {
        let queue = QueueRow { id: QueueId(1), name: QueueName::DEFAULT.to_owned(), paused: false };
        let state = State {
            epoch: Epoch(0),
            boots: Vec::new(),
            last_seq: Seq(0),
            suspect: None,
            queues: BTreeMap::from([(queue.id, queue)]),
            principals: BTreeMap::new(),
            tasks: BTreeMap::new(),
            ids: BTreeMap::new(),
            attempts: BTreeMap::new(),
            results: BTreeMap::new(),
            outputs: BTreeMap::new(),
            submissions: BTreeMap::new(),
            events: BTreeMap::new(),
        };
        Self { state }
    }

    /// Opens the one transaction.
    #[must_use]
    pub fn begin(&mut self) -> ModelTx<'_> {
        let state = self.state.clone();
        ModelTx { store: self, state }
    }

    /// All tasks, in the order of admission.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskRow> {
        self.state.tasks.values().map(|(row, _)| row)
    }

    /// A task by its id.
    #[must_use]
    pub fn task(&self, id: TaskId) -> Option<&TaskRow> {
        let seq = self.state.ids.get(&id)?;
        self.state.tasks.get(seq).map(|(row, _)| row)
    }

    /// All attempts, by task and number.
    pub fn attempts(&self) -> impl Iterator<Item = &AttemptRow> {
        self.state.attempts.values()
    }

    /// All results: task, round, the attempt that won, and what it left.
    pub fn results(&self) -> impl Iterator<Item = (Seq, u32, AttemptNo, &StoredResult)> {
        self.state.results.iter().map(|((seq, round), (attempt, result))| (*seq, *round, *attempt, result))
    }

    /// An attempt's stored logs.
    #[must_use]
    pub fn output(&self, seq: Seq, attempt: AttemptNo) -> Option<&StoredOutput> {
        self.state.outputs.get(&(seq, attempt))
    }

    /// How many submissions are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.state.submissions.len()
    }

    /// How many principals are known.
    #[must_use]
    pub fn known_principals(&self) -> usize {
        self.state.principals.len()
    }

    /// All events with their numbers, the earliest first.
    pub fn events(&self) -> impl Iterator<Item = (i64, &EventRow)> {
        self.state.events.iter().map(|(no, row)| (*no, row))
    }

    /// All queues.
    pub fn all_queues(&self) -> impl Iterator<Item = &QueueRow> {
        self.state.queues.values()
    }
}

impl ModelTx<'_> {
    /// Makes everything true at once.
    pub fn commit(self) {
        self.store.state = self.state;
    }

    fn attempt_of_a_task(&self, seq: Seq, attempt: AttemptNo) -> Result<(), ModelError> {
        self.state
            .attempts
            .contains_key(&(seq, attempt))
            .then_some(())
            .ok_or(ModelError::Missing { row: "attempt" })
    }
}

impl State {
    fn assert_owner(&self, row: &TaskRow) -> Result<(), ModelError> {
        let fenced = ModelError::Fenced { owner: self.epoch, writer: row.owner_epoch };
        if row.owner_epoch == self.epoch { Ok(()) } else { Err(fenced) }
    }

    fn is_over(&self, id: &TaskId) -> bool {
        let task = self.ids.get(id).and_then(|seq| self.tasks.get(seq));
        task.is_none_or(|(row, _)| row.state.has_ended())
    }
}

type Stored<T> = Result<T, ModelError>;

fn kept(row: &TaskRow) -> u64 {
    u64::try_from(row.kept_bytes.saturating_add(row.payload_bytes)).unwrap_or(0)
}

fn insert_new<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, row: &'static str) -> Stored<()> {
    if map.contains_key(&key) {
        return Err(ModelError::Exists { row });
    }
    map.insert(key, value);
    Ok(())
}

impl Tx for ModelTx<'_> {
    type Error = ModelError;

    fn begin_epoch(&mut self, boot_id: &str) -> Stored<(Epoch, BootNo)> {
        let state = &mut self.state;
        state.epoch = Epoch(state.epoch.0.saturating_add(1));
        let known = state.boots.iter().position(|boot| boot == boot_id);
        let at = known.unwrap_or_else(|| {
            state.boots.push(boot_id.to_owned());
            state.boots.len().saturating_sub(1)
        });
        Ok((state.epoch, BootNo(i64::try_from(at).unwrap_or(i64::MAX).saturating_add(1))))
    }

    fn open_tasks(&mut self, after: Seq, limit: usize) -> Stored<Vec<OpenRow>> {
        let state = &self.state;
        let open = state.tasks.range(after.next()..).map(|(_, (row, _))| row);
        let rows = open.filter(|row| !row.state.has_ended()).take(limit).map(|row| {
            let attempt = state.attempts.get(&(row.seq, row.attempt));
            OpenRow {
                seq: row.seq,
                id: row.id,
                principal: row.principal,
                queue: row.queue,
                priority: row.priority,
                state: row.state,
                due: row.due,
                expires: row.expires,
                cancel_requested: row.cancel_requested,
                payload_bytes: row.payload_bytes,
                evicted: row.state.is_under_way() && attempt.is_some_and(|attempt| attempt.evicted),
                running: attempt
                    .filter(|_| row.state.is_under_way())
                    .map(|attempt| (attempt.attempt, attempt.token, attempt.boot)),
            }
        });
        Ok(rows.collect())
    }

    fn next_open(&mut self, after: Seq) -> Stored<Option<Seq>> {
        let mut behind = self.state.tasks.range(after.next()..);
        Ok(behind.find(|(_, (row, _))| !row.state.has_ended()).map(|(seq, _)| *seq))
    }

    fn suspect(&mut self) -> Stored<Option<Suspect>> {
        Ok(self.state.suspect)
    }

    fn set_suspect(&mut self, suspect: Option<Suspect>) -> Stored<()> {
        self.state.suspect = suspect;
        Ok(())
    }

    fn set_aside(&mut self, seq: Seq, to: TaskState, wall_ms: i64, why: &str) -> Stored<Option<TaskId>> {
        let state = &mut self.state;
        let Some((row, _)) = state.tasks.get_mut(&seq).filter(|(row, _)| !row.state.has_ended()) else {
            return Ok(None);
        };
        let id = row.id;
        (row.state, row.ended_at_ms, row.due, row.expires) = (to, Some(wall_ms), None, None);
        for attempt in state.attempts.values_mut().filter(|it| it.seq == seq && it.outcome.is_none()) {
            attempt.outcome = Some(Outcome::WorkerLost);
            attempt.ended_at_ms = Some(wall_ms);
            attempt.error = Some(why.to_owned());
        }
        Ok(Some(id))
    }

    fn last_seq(&mut self) -> Stored<Seq> {
        Ok(self.state.last_seq)
    }

    fn queues(&mut self) -> Stored<Vec<QueueRow>> {
        Ok(self.state.queues.values().cloned().collect())
    }

    fn principals(&mut self) -> Stored<Vec<(PrincipalId, String)>> {
        Ok(self.state.principals.iter().map(|(id, name)| (*id, name.clone())).collect())
    }

    fn kept_bytes(&mut self) -> Stored<u64> {
        let ended = self.state.tasks.values().filter(|(row, _)| row.state.has_ended());
        Ok(ended.map(|(row, _)| kept(row)).sum())
    }

    fn insert_queue(&mut self, queue: &QueueRow) -> Stored<()> {
        if self.state.queues.values().any(|row| row.name == queue.name) {
            return Err(ModelError::Exists { row: "queue" });
        }
        insert_new(&mut self.state.queues, queue.id, queue.clone(), "queue")
    }

    fn update_queue(&mut self, queue: &QueueRow) -> Stored<()> {
        let row = self.state.queues.get_mut(&queue.id).ok_or(ModelError::Missing { row: "queue" })?;
        row.paused = queue.paused;
        Ok(())
    }

    fn insert_principal(&mut self, id: PrincipalId, name: &str) -> Stored<()> {
        if self.state.principals.values().any(|known| known == name) {
            return Err(ModelError::Exists { row: "principal" });
        }
        insert_new(&mut self.state.principals, id, name.to_owned(), "principal")
    }

    fn insert_task(&mut self, task: NewTask<'_>) -> Stored<()> {
        let state = &mut self.state;
        state.assert_owner(task.row)?;
        if !state.queues.contains_key(&task.row.queue) {
            return Err(ModelError::Missing { row: "queue" });
        }
        if !state.principals.contains_key(&task.row.principal) {
            return Err(ModelError::Missing { row: "principal" });
        }
        insert_new(&mut state.ids, task.row.id, task.row.seq, "task")?;
        state.last_seq = state.last_seq.max(task.row.seq);
        insert_new(&mut state.tasks, task.row.seq, (task.row.clone(), task.payload.clone()), "task")
    }

    fn load_task(&mut self, seq: Seq) -> Stored<Option<TaskRow>> {
        Ok(self.state.tasks.get(&seq).map(|(row, _)| row.clone()))
    }

    fn find_task(&mut self, id: TaskId) -> Stored<Option<Seq>> {
        Ok(self.state.ids.get(&id).copied())
    }

    fn update_task(&mut self, row: &TaskRow) -> Stored<()> {
        self.state.assert_owner(row)?;
        let (stored, _) = self.state.tasks.get_mut(&row.seq).ok_or(ModelError::Missing { row: "task" })?;
        // Every field is named, so that a new one cannot be forgotten: kept as it was, or changed.
        *stored = TaskRow {
            seq: stored.seq,
            id: stored.id,
            principal: stored.principal,
            queue: stored.queue,
            priority: stored.priority,
            submitted_at_ms: stored.submitted_at_ms,
            payload_bytes: stored.payload_bytes,
            policy: stored.policy.clone(),
            tags: stored.tags.clone(),
            state: row.state,
            owner_epoch: row.owner_epoch,
            due: row.due,
            expires: row.expires,
            started_at_ms: row.started_at_ms,
            ended_at_ms: row.ended_at_ms,
            round: row.round,
            attempt: row.attempt,
            retries: row.retries,
            poison: row.poison,
            cancel_requested: row.cancel_requested,
            kept_bytes: row.kept_bytes,
        };
        Ok(())
    }

    fn delete_task(&mut self, seq: Seq) -> Stored<()> {
        let state = &mut self.state;
        let (row, _) = state.tasks.get(&seq).ok_or(ModelError::Missing { row: "task" })?;
        if !row.state.has_ended() {
            return Err(ModelError::Open { state: row.state });
        }
        state.ids.remove(&row.id);
        state.tasks.remove(&seq);
        state.attempts.retain(|(of, _), _| *of != seq);
        state.results.retain(|(of, _), _| *of != seq);
        state.outputs.retain(|(of, _), _| *of != seq);
        Ok(())
    }

    fn insert_attempt(&mut self, row: &AttemptRow) -> Stored<()> {
        if !self.state.tasks.contains_key(&row.seq) {
            return Err(ModelError::Missing { row: "task" });
        }
        insert_new(&mut self.state.attempts, (row.seq, row.attempt), row.clone(), "attempt")
    }

    fn load_attempt(&mut self, seq: Seq, attempt: AttemptNo) -> Stored<Option<AttemptRow>> {
        Ok(self.state.attempts.get(&(seq, attempt)).cloned())
    }

    fn update_attempt(&mut self, row: &AttemptRow) -> Stored<()> {
        self.attempt_of_a_task(row.seq, row.attempt)?;
        self.state.attempts.insert((row.seq, row.attempt), row.clone());
        Ok(())
    }

    fn put_result(&mut self, seq: Seq, round: u32, attempt: AttemptNo, result: &StoredResult) -> Stored<()> {
        self.attempt_of_a_task(seq, attempt)?;
        self.state.results.insert((seq, round), (attempt, result.clone()));
        Ok(())
    }

    fn put_output(&mut self, seq: Seq, attempt: AttemptNo, output: &StoredOutput) -> Stored<()> {
        self.attempt_of_a_task(seq, attempt)?;
        self.state.outputs.insert((seq, attempt), output.clone());
        Ok(())
    }

    fn find_submission(
        &mut self,
        principal: PrincipalId,
        route: &str,
        key: &str,
    ) -> Stored<Option<PriorSubmission>> {
        let mut all = self.state.submissions.values();
        let found =
            all.find(|it| it.row.principal == principal && it.row.route == route && it.row.key == key);
        Ok(found.map(|it| PriorSubmission {
            first_seq: it.row.first_seq,
            ids: it.row.ids.clone(),
            body_sha256: it.row.body_sha256,
            ended_state: it.ended_state,
        }))
    }

    fn insert_submission(&mut self, row: &SubmissionRow) -> Stored<()> {
        if self.find_submission(row.principal, &row.route, &row.key)?.is_some() {
            return Err(ModelError::Exists { row: "submission" });
        }
        let new = Remembered { row: row.clone(), ended_state: None, forget_at_ms: None };
        insert_new(&mut self.state.submissions, row.first_seq, new, "submission")
    }

    fn submission_ended(&mut self, first_seq: Seq, ended: Option<(TaskState, i64)>) -> Stored<()> {
        let found = self.state.submissions.get_mut(&first_seq);
        if let Some(submission) = found.filter(|it| it.row.ids.len() == 1) {
            submission.ended_state = ended.map(|(state, _)| state);
            submission.forget_at_ms = ended.map(|(_, forget_at_ms)| forget_at_ms);
        }
        Ok(())
    }

    fn sweep_submissions(&mut self, now_ms: i64, keep_ms: i64, limit: usize) -> Stored<usize> {
        let state = &self.state;
        let bulk = state.submissions.iter().filter(|(_, it)| it.row.ids.len() > 1);
        let over = bulk.filter(|(_, it)| it.forget_at_ms.is_none());
        let over = over.filter(|(_, it)| it.row.ids.iter().all(|id| state.is_over(id)));
        let over: Vec<Seq> = over.map(|(seq, _)| *seq).take(limit).collect();
        for seq in &over {
            if let Some(submission) = self.state.submissions.get_mut(seq) {
                submission.forget_at_ms = Some(now_ms.saturating_add(keep_ms));
            }
        }
        let forgotten = self.state.submissions.iter();
        let forgotten = forgotten.filter(|(_, it)| it.forget_at_ms.is_some_and(|at| at <= now_ms));
        let forgotten: Vec<Seq> = forgotten.map(|(seq, _)| *seq).take(limit).collect();
        for seq in &forgotten {
            self.state.submissions.remove(seq);
        }
        Ok(over.len().max(forgotten.len()))
    }

    fn insert_event(&mut self, row: &EventRow) -> Stored<()> {
        let newest = self.state.events.keys().next_back().copied().unwrap_or(0);
        insert_new(&mut self.state.events, newest.saturating_add(1), row.clone(), "event")
    }

    fn sweep_events(&mut self, before_ms: i64, keep: u64, limit: usize) -> Stored<usize> {
        let events = &mut self.state.events;
        let newest = events.keys().next_back().copied().unwrap_or(0);
        let floor = newest.saturating_sub(i64::try_from(keep).unwrap_or(i64::MAX));
        let earliest = events.iter().take(limit);
        let over = earliest.filter(|(no, row)| **no < newest && (**no <= floor || row.at_ms < before_ms));
        let over: Vec<i64> = over.map(|(no, _)| *no).collect();
        over.iter().for_each(|no| drop(events.remove(no)));
        Ok(over.len())
    }

    fn ended_before(&mut self, wall_ms: i64, limit: usize) -> Stored<Vec<(Seq, TaskId, u64)>> {
        let rows = self.state.tasks.values().map(|(row, _)| row);
        let mut ended: Vec<_> = rows
            .filter(|row| row.state.has_ended())
            .filter_map(|row| Some((row.ended_at_ms.filter(|at| *at < wall_ms)?, row)))
            .collect();
        ended.sort_by_key(|(at, row)| (*at, row.seq));
        Ok(ended.into_iter().take(limit).map(|(_, row)| (row.seq, row.id, kept(row))).collect())
    }
}
