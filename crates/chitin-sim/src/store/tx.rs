//! One transaction on both stores: each operation runs on both, their answers are compared, and what it writes is
//! written down.

use std::fmt::Debug;

use chitin_core::model::{ModelError, ModelTx};
use chitin_core::{
    AttemptNo, AttemptRow, BootNo, Epoch, EventRow, NewTask, OpenRow, PausedReason, PrincipalId,
    PriorSubmission, QueueRow, Seq, StoredOutput, StoredResult, SubmissionRow, Suspect, TaskId, TaskRow,
    TaskState, Tx,
};
use chitin_store::{StoreError, WriteTx};

use crate::view::Change;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// Put in: a clean refusal.
    #[error("refused, as planned")]
    Refused,
    /// A guard of the model: a bug of the core's.
    #[error("a guard of the model")]
    Guard(#[from] ModelError),
    /// SQLite's; none was put in.
    #[error("SQLite")]
    Sqlite(#[from] StoreError),
    /// The two stores part.
    #[error("{op}: the model answers {model}, SQLite {sqlite}")]
    Differ { op: &'static str, model: String, sqlite: String },
    /// A store does not hold what was committed.
    #[error("{0}")]
    Lost(String),
    /// The simulator's own trouble.
    #[error("the simulator itself: {0}")]
    Harness(String),
}

impl Trouble {
    pub(crate) fn lost(what: impl Into<String>) -> Self {
        Self::Lost(what.into())
    }

    /// With its causes, in one line.
    pub(crate) fn chain(&self) -> String {
        let cause = std::error::Error::source(self);
        cause.map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SimTx<'a> {
    model: Option<ModelTx<'a>>,
    sqlite: Option<WriteTx<'a>>,
    changes: Vec<Change>,
    /// Writes until a refusal.
    refuse_after: Option<u64>,
    /// A planted bug: backoffs are stored without their due time.
    pub(crate) forgets_due: bool,
    /// A planted bug: how many lives a suspect is said to have ended, more than it has.
    pub(crate) accuses: u32,
    /// A planted bug: nobody is ever a suspect.
    pub(crate) forgets_suspect: bool,
    /// A planted bug: the time to live of what is held goes on.
    pub(crate) held_expires: bool,
    /// A planted bug: no attempt is ever marked as evicted.
    pub(crate) forgets_eviction: bool,
}

type Asked<T> = Result<T, Trouble>;

impl<'a> SimTx<'a> {
    pub(super) fn new(model: Option<ModelTx<'a>>, sqlite: Option<WriteTx<'a>>) -> Self {
        Self {
            model,
            sqlite,
            changes: Vec::new(),
            refuse_after: None,
            forgets_due: false,
            accuses: 0,
            forgets_suspect: false,
            held_expires: false,
            forgets_eviction: false,
        }
    }

    /// The store refuses the n-th write from now.
    pub(crate) fn refuse_after(&mut self, writes: u64) {
        self.refuse_after = Some(writes);
    }

    /// What was written, in order.
    pub(crate) fn commit(self) -> Asked<Vec<Change>> {
        super::commit_both(self.model, self.sqlite)?;
        Ok(self.changes)
    }

    pub(crate) fn roll_back(self) -> Asked<()> {
        self.sqlite.map_or(Ok(()), WriteTx::rollback)?;
        Ok(())
    }

    fn ask<T: PartialEq + Debug>(
        &mut self,
        op: &'static str,
        model: impl FnOnce(&mut ModelTx<'a>) -> Result<T, ModelError>,
        sqlite: impl FnOnce(&mut WriteTx<'a>) -> Result<T, StoreError>,
    ) -> Asked<T> {
        let model = self.model.as_mut().map(model);
        let sqlite = self.sqlite.as_mut().map(sqlite);
        match (model, sqlite) {
            (Some(Ok(model)), Some(Ok(sqlite))) if model == sqlite => Ok(model),
            (Some(Ok(model)), Some(sqlite)) => {
                Err(Trouble::Differ { op, model: format!("{model:?}"), sqlite: format!("{sqlite:?}") })
            }
            (Some(model), None) => Ok(model?),
            (None, Some(sqlite)) => Ok(sqlite?),
            (Some(Err(error)), Some(_)) => Err(error.into()),
            (None, None) => Err(Trouble::Harness("no store".to_owned())),
        }
    }

    fn write(
        &mut self,
        op: &'static str,
        change: Change,
        model: impl FnOnce(&mut ModelTx<'a>) -> Result<(), ModelError>,
        sqlite: impl FnOnce(&mut WriteTx<'a>) -> Result<(), StoreError>,
    ) -> Asked<()> {
        self.refuse_in_turn()?;
        self.ask(op, model, sqlite)?;
        self.changes.push(change);
        Ok(())
    }

    fn refuse_in_turn(&mut self) -> Asked<()> {
        match &mut self.refuse_after {
            Some(0) => Err(Trouble::Refused),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Tx for SimTx<'_> {
    type Error = Trouble;

    fn begin_epoch(&mut self, boot_id: &str) -> Asked<(Epoch, BootNo)> {
        self.refuse_in_turn()?;
        let (epoch, boot) =
            self.ask("begin_epoch", |tx| tx.begin_epoch(boot_id), |tx| tx.begin_epoch(boot_id))?;
        self.changes.push(Change::Epoch(epoch, boot));
        Ok((epoch, boot))
    }

    fn open_tasks(&mut self, after: Seq, limit: usize) -> Asked<Vec<OpenRow>> {
        self.ask("open_tasks", |tx| tx.open_tasks(after, limit), |tx| tx.open_tasks(after, limit))
    }

    fn next_open(&mut self, after: Seq) -> Asked<Option<Seq>> {
        self.ask("next_open", |tx| tx.next_open(after), |tx| tx.next_open(after))
    }

    fn suspect(&mut self) -> Asked<Option<Suspect>> {
        let suspect = self.ask("suspect", Tx::suspect, Tx::suspect)?;
        let accused = |it: Suspect| Suspect { lives: it.lives.saturating_add(self.accuses), ..it };
        Ok(suspect.filter(|_| !self.forgets_suspect).map(accused))
    }

    fn set_suspect(&mut self, suspect: Option<Suspect>) -> Asked<()> {
        let change = Change::Suspect(suspect);
        self.write("set_suspect", change, |tx| tx.set_suspect(suspect), |tx| tx.set_suspect(suspect))
    }

    fn set_aside(&mut self, seq: Seq, state: TaskState, wall_ms: i64, why: &str) -> Asked<Option<TaskId>> {
        self.refuse_in_turn()?;
        let before = self.load_task(seq)?.filter(|row| !row.state.has_ended());
        let id = self.ask(
            "set_aside",
            |tx| tx.set_aside(seq, state, wall_ms, why),
            |tx| tx.set_aside(seq, state, wall_ms, why),
        )?;
        let Some(before) = before else { return Ok(id) };
        if let Some(task) = self.load_task(seq)? {
            let ran = before.state.is_under_way();
            let attempt = if ran { self.load_attempt(seq, before.attempt)? } else { None };
            self.changes.push(Change::SetAside(task, attempt));
        }
        Ok(id)
    }

    fn last_seq(&mut self) -> Asked<Seq> {
        self.ask("last_seq", Tx::last_seq, Tx::last_seq)
    }

    fn queues(&mut self) -> Asked<Vec<QueueRow>> {
        self.ask("queues", Tx::queues, Tx::queues)
    }

    fn principals(&mut self) -> Asked<Vec<(PrincipalId, String)>> {
        self.ask("principals", Tx::principals, Tx::principals)
    }

    fn kept_bytes(&mut self) -> Asked<u64> {
        self.ask("kept_bytes", Tx::kept_bytes, Tx::kept_bytes)
    }

    fn insert_queue(&mut self, row: &QueueRow) -> Asked<()> {
        let change = Change::InsertQueue(row.clone());
        self.write("insert_queue", change, |tx| tx.insert_queue(row), |tx| tx.insert_queue(row))
    }

    fn update_queue(&mut self, row: &QueueRow) -> Asked<()> {
        let change = Change::UpdateQueue(row.clone());
        self.write("update_queue", change, |tx| tx.update_queue(row), |tx| tx.update_queue(row))
    }

    fn insert_principal(&mut self, id: PrincipalId, name: &str) -> Asked<()> {
        let change = Change::InsertPrincipal(id, name.to_owned());
        self.write(
            "insert_principal",
            change,
            |tx| tx.insert_principal(id, name),
            |tx| tx.insert_principal(id, name),
        )
    }

    fn insert_task(&mut self, task: NewTask<'_>) -> Asked<()> {
        let change = Change::InsertTask(task.row.clone());
        self.write("insert_task", change, |tx| tx.insert_task(task), |tx| tx.insert_task(task))
    }

    fn load_task(&mut self, seq: Seq) -> Asked<Option<TaskRow>> {
        self.ask("load_task", |tx| tx.load_task(seq), |tx| tx.load_task(seq))
    }

    fn find_task(&mut self, id: TaskId) -> Asked<Option<Seq>> {
        self.ask("find_task", |tx| tx.find_task(id), |tx| tx.find_task(id))
    }

    fn update_task(&mut self, row: &TaskRow) -> Asked<()> {
        let mut row = row.clone();
        if self.forgets_due && row.retries > 0 {
            row.due = None;
        }
        let held = TaskState::Paused(PausedReason::Held);
        if self.held_expires && row.state != held {
            let before = self.load_task(row.seq)?.filter(|before| before.state == held);
            row.expires = before.map_or(row.expires, |before| before.expires);
        }
        let change = Change::UpdateTask(row.clone());
        self.write("update_task", change, |tx| tx.update_task(&row), |tx| tx.update_task(&row))
    }

    fn delete_task(&mut self, seq: Seq) -> Asked<()> {
        let change = Change::DeleteTask(seq);
        self.write("delete_task", change, |tx| tx.delete_task(seq), |tx| tx.delete_task(seq))
    }

    fn insert_attempt(&mut self, row: &AttemptRow) -> Asked<()> {
        let change = Change::InsertAttempt(row.clone());
        self.write("insert_attempt", change, |tx| tx.insert_attempt(row), |tx| tx.insert_attempt(row))
    }

    fn load_attempt(&mut self, seq: Seq, attempt: AttemptNo) -> Asked<Option<AttemptRow>> {
        self.ask("load_attempt", |tx| tx.load_attempt(seq, attempt), |tx| tx.load_attempt(seq, attempt))
    }

    fn update_attempt(&mut self, row: &AttemptRow) -> Asked<()> {
        let mut row = row.clone();
        row.evicted &= !self.forgets_eviction;
        let change = Change::UpdateAttempt(row.clone());
        self.write("update_attempt", change, |tx| tx.update_attempt(&row), |tx| tx.update_attempt(&row))
    }

    fn put_result(&mut self, seq: Seq, round: u32, attempt: AttemptNo, result: &StoredResult) -> Asked<()> {
        let change = Change::PutResult { seq, round, attempt, result: result.clone() };
        self.write(
            "put_result",
            change,
            |tx| tx.put_result(seq, round, attempt, result),
            |tx| tx.put_result(seq, round, attempt, result),
        )
    }

    fn put_output(&mut self, seq: Seq, attempt: AttemptNo, output: &StoredOutput) -> Asked<()> {
        let change = Change::PutOutput { seq, attempt, output: output.clone() };
        self.write(
            "put_output",
            change,
            |tx| tx.put_output(seq, attempt, output),
            |tx| tx.put_output(seq, attempt, output),
        )
    }

    fn find_submission(
        &mut self,
        principal: PrincipalId,
        route: &str,
        key: &str,
    ) -> Asked<Option<PriorSubmission>> {
        self.ask(
            "find_submission",
            |tx| tx.find_submission(principal, route, key),
            |tx| tx.find_submission(principal, route, key),
        )
    }

    fn insert_submission(&mut self, row: &SubmissionRow) -> Asked<()> {
        let change = Change::InsertSubmission(row.clone());
        self.write(
            "insert_submission",
            change,
            |tx| tx.insert_submission(row),
            |tx| tx.insert_submission(row),
        )
    }

    fn submission_ended(&mut self, first_seq: Seq, ended: Option<(TaskState, i64)>) -> Asked<()> {
        self.refuse_in_turn()?;
        self.ask(
            "submission_ended",
            |tx| tx.submission_ended(first_seq, ended),
            |tx| tx.submission_ended(first_seq, ended),
        )
    }

    fn sweep_submissions(&mut self, now_ms: i64, keep_ms: i64, limit: usize) -> Asked<usize> {
        self.refuse_in_turn()?;
        self.ask(
            "sweep_submissions",
            |tx| tx.sweep_submissions(now_ms, keep_ms, limit),
            |tx| tx.sweep_submissions(now_ms, keep_ms, limit),
        )
    }

    fn insert_event(&mut self, row: &EventRow) -> Asked<()> {
        let change = Change::InsertEvent(row.clone());
        self.write("insert_event", change, |tx| tx.insert_event(row), |tx| tx.insert_event(row))
    }

    fn sweep_events(&mut self, before_ms: i64, keep: u64, limit: usize) -> Asked<usize> {
        self.refuse_in_turn()?;
        self.ask(
            "sweep_events",
            |tx| tx.sweep_events(before_ms, keep, limit),
            |tx| tx.sweep_events(before_ms, keep, limit),
        )
    }

    fn ended_before(&mut self, wall_ms: i64, limit: usize) -> Asked<Vec<(Seq, TaskId, u64)>> {
        self.ask("ended_before", |tx| tx.ended_before(wall_ms, limit), |tx| tx.ended_before(wall_ms, limit))
    }
}
