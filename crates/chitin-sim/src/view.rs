//! What is committed, as the simulator wrote it down itself: every row as it passed on its way into a transaction that
//! was committed. Checkers judge by this and by nothing a store says, and a store is judged by it too.

use std::collections::{BTreeMap, BTreeSet};

use chitin_core::{
    AttemptNo, AttemptRow, BootNo, Epoch, EventRow, PrincipalId, QueueId, QueueRow, Seq, StoredOutput,
    StoredResult, SubmissionRow, Suspect, TaskId, TaskRow, Token,
};

/// One row on its way into the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Epoch(Epoch, BootNo),
    InsertQueue(QueueRow),
    UpdateQueue(QueueRow),
    InsertPrincipal(PrincipalId, String),
    InsertTask(TaskRow),
    UpdateTask(TaskRow),
    DeleteTask(Seq),
    InsertAttempt(AttemptRow),
    UpdateAttempt(AttemptRow),
    PutResult {
        seq: Seq,
        round: u32,
        attempt: AttemptNo,
        result: StoredResult,
    },
    PutOutput {
        seq: Seq,
        attempt: AttemptNo,
        output: StoredOutput,
    },
    InsertSubmission(SubmissionRow),
    InsertEvent(EventRow),
    /// Whose recovery is tried.
    Suspect(Option<Suspect>),
    /// The task, and the attempt that ran, as they are after it was given up unread.
    SetAside(TaskRow, Option<AttemptRow>),
}

/// Everything committed.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) epoch: i64,
    pub(crate) boot: i64,
    pub(crate) tasks: BTreeMap<Seq, TaskRow>,
    pub(crate) ids: BTreeMap<TaskId, Seq>,
    pub(crate) attempts: BTreeMap<(Seq, AttemptNo), AttemptRow>,
    pub(crate) results: BTreeMap<(Seq, u32), (AttemptNo, StoredResult)>,
    pub(crate) outputs: BTreeMap<(Seq, AttemptNo), StoredOutput>,
    pub(crate) queues: BTreeMap<QueueId, QueueRow>,
    pub(crate) principals: BTreeMap<PrincipalId, String>,
    pub(crate) suspect: Option<Suspect>,
    /// Attempts that were given up unread: their shims know nothing of it.
    pub(crate) aside: BTreeSet<Token>,
    /// Ids that were there once, and are not any more.
    pub(crate) deleted: BTreeSet<TaskId>,
}

impl View {
    pub(crate) fn task(&self, id: TaskId) -> Option<&TaskRow> {
        self.tasks.get(self.ids.get(&id)?)
    }

    /// It is there, or was.
    pub(crate) fn knows(&self, id: TaskId) -> bool {
        self.ids.contains_key(&id) || self.deleted.contains(&id)
    }

    pub(crate) fn waiting(&self) -> impl Iterator<Item = &TaskRow> {
        self.tasks.values().filter(|row| row.state.is_waiting())
    }

    pub(crate) fn running(&self) -> impl Iterator<Item = &TaskRow> {
        self.tasks.values().filter(|row| row.state.is_under_way())
    }

    pub(crate) fn open(&self) -> impl Iterator<Item = &TaskRow> {
        self.tasks.values().filter(|row| !row.state.has_ended())
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::Epoch(epoch, boot) => {
                self.epoch = epoch.0;
                self.boot = boot.0;
            }
            Change::InsertQueue(row) | Change::UpdateQueue(row) => _ = self.queues.insert(row.id, row),
            Change::InsertPrincipal(id, name) => _ = self.principals.insert(id, name),
            Change::InsertTask(row) => {
                self.ids.insert(row.id, row.seq);
                self.tasks.insert(row.seq, row);
            }
            Change::UpdateTask(row) => _ = self.tasks.insert(row.seq, row),
            Change::DeleteTask(seq) => {
                if let Some(row) = self.tasks.remove(&seq) {
                    self.ids.remove(&row.id);
                    self.deleted.insert(row.id);
                }
                self.attempts.retain(|(of, _), _| *of != seq);
                self.results.retain(|(of, _), _| *of != seq);
                self.outputs.retain(|(of, _), _| *of != seq);
            }
            Change::InsertAttempt(row) | Change::UpdateAttempt(row) => {
                self.attempts.insert((row.seq, row.attempt), row);
            }
            Change::PutResult { seq, round, attempt, result } => {
                self.results.insert((seq, round), (attempt, result));
            }
            Change::PutOutput { seq, attempt, output } => _ = self.outputs.insert((seq, attempt), output),
            Change::InsertSubmission(_) | Change::InsertEvent(_) => {}
            Change::Suspect(suspect) => self.suspect = suspect,
            Change::SetAside(task, attempt) => {
                self.tasks.insert(task.seq, task);
                if let Some(attempt) = attempt {
                    self.aside.insert(attempt.token);
                    self.attempts.insert((attempt.seq, attempt.attempt), attempt);
                }
            }
        }
    }
}
