//! One open transaction of the writer: the core's [`Tx`] on SQLite.
//!
//! Owns: the transaction's life — it ends by [`WriteTx::commit`], [`WriteTx::rollback`] or by being dropped, which
//! rolls back — and the way from the trait's operations to the verbs under `write/`. After a first error it is
//! spoiled: SQLite may have rolled back by itself, and what came after would stand outside any transaction.

use std::cell::Cell;
use std::path::Path;

use chitin_core::{
    AttemptNo, AttemptRow, BootNo, Epoch, EventRow, NewTask, OpenRow, PrincipalId, PriorSubmission, QueueRow,
    Seq, StoredOutput, StoredResult, SubmissionRow, Suspect, TaskId, TaskRow, TaskState, Tx,
};
use rusqlite::{CachedStatement, Connection};

use crate::StoreError;
use crate::error::sql;
use crate::wal;
use crate::write::{aside, boot, event, retain, settle, submit, task};

/// What became of a commit.
#[must_use]
#[derive(Debug)]
pub enum Commit {
    /// On the disk.
    Ok,
    /// Not stored, for sure: it was rolled back, and the store goes on.
    No(StoreError),
    /// Nobody knows.
    Unknown(StoreError),
}

/// One open transaction.
#[derive(Debug)]
pub struct WriteTx<'w> {
    conn: &'w Connection,
    log: &'w Path,
    /// The epoch that this writer's gateway has begun, once that is committed.
    owner: &'w Cell<Option<Epoch>>,
    /// The epoch that this transaction begins.
    begun: Option<Epoch>,
    hot: Hot<'w>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Spoiled,
    Ended,
}

/// Statements that run many times in one transaction, kept at hand so that each is looked up once.
#[derive(Debug, Default)]
pub(crate) struct Hot<'w> {
    pub(crate) insert_task: Slot<'w>,
    pub(crate) insert_payload: Slot<'w>,
    pub(crate) load_task: Slot<'w>,
    pub(crate) update_open: Slot<'w>,
    pub(crate) insert_attempt: Slot<'w>,
    pub(crate) insert_submission: Slot<'w>,
    pub(crate) find_submission: Slot<'w>,
    pub(crate) insert_event: Slot<'w>,
}

/// A place for one statement.
#[derive(Default)]
pub(crate) struct Slot<'w>(Option<CachedStatement<'w>>);

impl std::fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "prepared" } else { "empty" })
    }
}

impl<'w> Slot<'w> {
    pub(crate) fn of(
        &mut self,
        conn: &'w Connection,
        text: &'static str,
        step: &'static str,
    ) -> Result<&mut CachedStatement<'w>, StoreError> {
        let statement = match self.0.take() {
            Some(statement) => statement,
            None => conn.prepare_cached(text).map_err(sql(step))?,
        };
        Ok(self.0.insert(statement))
    }
}

impl<'w> WriteTx<'w> {
    /// Fails where a later gateway has begun its epoch: whatever this one still wants to write, it is too late.
    pub(crate) fn begin(
        conn: &'w Connection,
        log: &'w Path,
        owner: &'w Cell<Option<Epoch>>,
    ) -> Result<Self, StoreError> {
        run(conn, "BEGIN IMMEDIATE", "begin")?;
        let tx = Self { conn, log, owner, begun: None, hot: Hot::default(), state: State::Open };
        match owner.get() {
            Some(ours) if boot::epoch(conn)? != ours => Err(StoreError::Fenced { step: "begin", seq: 0 }),
            _ => Ok(tx),
        }
    }

    /// Makes everything since the beginning durable.
    pub fn commit(mut self) -> Commit {
        if self.state != State::Open || self.conn.is_autocommit() {
            return match self.end() {
                Ok(()) => Commit::No(StoreError::Spoiled),
                Err(error) => Commit::Unknown(error),
            };
        }
        self.hot = Hot::default();
        chitin_failpoints::failpoint!("store.commit.before");
        let Err(error) = run(self.conn, "COMMIT", "commit") else {
            self.state = State::Ended;
            self.owner.set(self.begun.or(self.owner.get()));
            return Commit::Ok;
        };
        match (self.end(), error.verdict()) {
            // A no must stay one, also for whoever opens the log next.
            (Ok(()), crate::Verdict::No(_)) => match wal::void_after(self.conn, self.log) {
                Ok(()) => Commit::No(error),
                Err(error) => Commit::Unknown(error),
            },
            _ if chitin_failpoints::planted!("trust-failed-commit") => Commit::Ok,
            _ => Commit::Unknown(error),
        }
    }

    /// Drops everything since the beginning.
    ///
    /// # Errors
    /// The database does not even take that: it is to be given up.
    pub fn rollback(mut self) -> Result<(), StoreError> {
        self.end()
    }

    /// Rolls back unless SQLite has done so.
    fn end(&mut self) -> Result<(), StoreError> {
        if self.state == State::Ended {
            return Ok(());
        }
        self.state = State::Ended;
        self.hot = Hot::default();
        if self.conn.is_autocommit() { Ok(()) } else { run(self.conn, "ROLLBACK", "rollback") }
    }

    /// A row that is written names the epoch it is written in. Without one, as in a copy that is made ready, none is asserted.
    fn assert_ours(&self, row: &TaskRow, step: &'static str) -> Result<(), StoreError> {
        match self.begun.or(self.owner.get()) {
            Some(ours) if row.owner_epoch != ours => Err(StoreError::Fenced { step, seq: row.seq.0 }),
            _ => Ok(()),
        }
    }

    /// Runs one operation; a failure spoils the transaction.
    fn step<T>(
        &mut self,
        operation: impl FnOnce(&'w Connection, &mut Hot<'w>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.state != State::Open {
            return Err(StoreError::Spoiled);
        }
        let done = operation(self.conn, &mut self.hot);
        if done.is_err() {
            self.state = State::Spoiled;
        }
        done
    }
}

impl Drop for WriteTx<'_> {
    fn drop(&mut self) {
        // What a failed rollback leaves shows itself at the next `begin`.
        let _ = self.end();
    }
}

fn run(conn: &Connection, text: &'static str, step: &'static str) -> Result<(), StoreError> {
    conn.prepare_cached(text).and_then(|mut statement| statement.raw_execute()).map_err(sql(step))?;
    Ok(())
}

impl Tx for WriteTx<'_> {
    type Error = StoreError;

    fn begin_epoch(&mut self, boot_id: &str) -> Result<(Epoch, BootNo), StoreError> {
        let (epoch, boot) = self.step(|conn, _| boot::begin_epoch(conn, boot_id))?;
        self.begun = Some(epoch);
        Ok((epoch, boot))
    }

    fn open_tasks(&mut self, after: Seq, limit: usize) -> Result<Vec<OpenRow>, StoreError> {
        self.step(|conn, _| boot::open_tasks(conn, after, limit))
    }

    fn next_open(&mut self, after: Seq) -> Result<Option<Seq>, StoreError> {
        self.step(|conn, _| aside::next_open(conn, after))
    }

    fn suspect(&mut self) -> Result<Option<Suspect>, StoreError> {
        self.step(|conn, _| aside::suspect(conn))
    }

    fn set_suspect(&mut self, suspect: Option<Suspect>) -> Result<(), StoreError> {
        self.step(|conn, _| aside::set_suspect(conn, suspect))
    }

    fn set_aside(
        &mut self,
        seq: Seq,
        state: TaskState,
        wall_ms: i64,
        why: &str,
    ) -> Result<Option<TaskId>, StoreError> {
        self.step(|conn, _| aside::set_aside(conn, seq, state, wall_ms, why))
    }

    fn last_seq(&mut self) -> Result<Seq, StoreError> {
        self.step(|conn, _| boot::last_seq(conn))
    }

    fn queues(&mut self) -> Result<Vec<QueueRow>, StoreError> {
        self.step(|conn, _| boot::queues(conn))
    }

    fn principals(&mut self) -> Result<Vec<(PrincipalId, String)>, StoreError> {
        self.step(|conn, _| boot::principals(conn))
    }

    fn kept_bytes(&mut self) -> Result<u64, StoreError> {
        self.step(|conn, _| retain::kept_bytes(conn))
    }

    fn insert_queue(&mut self, queue: &QueueRow) -> Result<(), StoreError> {
        self.step(|conn, _| submit::insert_queue(conn, queue))
    }

    fn update_queue(&mut self, queue: &QueueRow) -> Result<(), StoreError> {
        self.step(|conn, _| task::update_queue(conn, queue))
    }

    fn insert_principal(&mut self, id: PrincipalId, name: &str) -> Result<(), StoreError> {
        self.step(|conn, _| submit::insert_principal(conn, id, name))
    }

    fn insert_task(&mut self, task: NewTask<'_>) -> Result<(), StoreError> {
        let ours = self.assert_ours(task.row, "insert_task");
        self.step(|conn, hot| ours.and_then(|()| submit::insert_task(conn, hot, task)))
    }

    fn load_task(&mut self, seq: Seq) -> Result<Option<TaskRow>, StoreError> {
        self.step(|conn, hot| task::load_task(conn, hot, seq))
    }

    fn find_task(&mut self, id: TaskId) -> Result<Option<Seq>, StoreError> {
        self.step(|conn, _| task::find_task(conn, id))
    }

    fn update_task(&mut self, row: &TaskRow) -> Result<(), StoreError> {
        let ours = self.assert_ours(row, "update_task");
        self.step(|conn, hot| ours.and_then(|()| task::update_task(conn, hot, row)))
    }

    fn delete_task(&mut self, seq: Seq) -> Result<(), StoreError> {
        self.step(|conn, _| retain::delete_task(conn, seq))
    }

    fn insert_attempt(&mut self, row: &AttemptRow) -> Result<(), StoreError> {
        self.step(|conn, hot| settle::insert_attempt(conn, hot, row))
    }

    fn load_attempt(&mut self, seq: Seq, attempt: AttemptNo) -> Result<Option<AttemptRow>, StoreError> {
        self.step(|conn, _| settle::load_attempt(conn, seq, attempt))
    }

    fn update_attempt(&mut self, row: &AttemptRow) -> Result<(), StoreError> {
        self.step(|conn, _| settle::update_attempt(conn, row))
    }

    fn put_result(
        &mut self,
        seq: Seq,
        round: u32,
        attempt: AttemptNo,
        result: &StoredResult,
    ) -> Result<(), StoreError> {
        self.step(|conn, _| settle::put_result(conn, seq, round, attempt, result))
    }

    fn put_output(&mut self, seq: Seq, attempt: AttemptNo, output: &StoredOutput) -> Result<(), StoreError> {
        self.step(|conn, _| settle::put_output(conn, seq, attempt, output))
    }

    fn find_submission(
        &mut self,
        principal: PrincipalId,
        route: &str,
        key: &str,
    ) -> Result<Option<PriorSubmission>, StoreError> {
        self.step(|conn, hot| submit::find_submission(conn, hot, principal, route, key))
    }

    fn insert_submission(&mut self, row: &SubmissionRow) -> Result<(), StoreError> {
        self.step(|conn, hot| submit::insert_submission(conn, hot, row))
    }

    fn submission_ended(
        &mut self,
        first_seq: Seq,
        ended: Option<(TaskState, i64)>,
    ) -> Result<(), StoreError> {
        self.step(|conn, _| retain::submission_ended(conn, first_seq, ended))
    }

    fn sweep_submissions(&mut self, now_ms: i64, keep_ms: i64, limit: usize) -> Result<usize, StoreError> {
        self.step(|conn, _| retain::sweep_submissions(conn, now_ms, keep_ms, limit))
    }

    fn insert_event(&mut self, row: &EventRow) -> Result<(), StoreError> {
        self.step(|conn, hot| event::insert_event(conn, hot, row))
    }

    fn sweep_events(&mut self, before_ms: i64, keep: u64, limit: usize) -> Result<usize, StoreError> {
        self.step(|conn, _| event::sweep_events(conn, before_ms, keep, limit))
    }

    fn ended_before(&mut self, wall_ms: i64, limit: usize) -> Result<Vec<(Seq, TaskId, u64)>, StoreError> {
        self.step(|conn, _| retain::ended_before(conn, wall_ms, limit))
    }
}
