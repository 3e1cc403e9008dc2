//! Single things: a payload to start with, a result, logs, what a spool folder is good for, and counts.

use chitin_core::{AttemptNo, KeptLogs, Payload, Seq, StoredOutput, StoredResult, TaskId, TaskState};
use rusqlite::{MAIN_DB, params};

use super::{Reader, ResultMeta};
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row::{Taker, count};
use crate::write::{all, one};

/// How a task stands, and its result if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEnd {
    /// Its place in the admission sequence.
    pub seq: Seq,
    /// Its state.
    pub state: TaskState,
    /// Its round: with the task it names the result, for a cache.
    pub round: u32,
    /// The result; `None` unless it succeeded.
    pub result: Option<StoredResult>,
}

/// The same, without the result's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndMeta {
    /// Its place in the admission sequence.
    pub seq: Seq,
    /// Its state.
    pub state: TaskState,
    /// Its round: with the task it names the result, for a cache.
    pub round: u32,
    /// What its result is; `None` unless it succeeded.
    pub result: Option<ResultMeta>,
}

/// What is to become of an attempt's spool folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpoolVerdict {
    /// The attempt is under way: hands off.
    Running,
    /// The attempt has ended; its logs are in the folder.
    EndedKeepLogs,
    /// The attempt has ended and left nothing in the folder.
    EndedRemove,
    /// No such attempt: it was deleted.
    Unknown,
}

/// How many tasks there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Open tasks by state; states without any are left out.
    pub open: Vec<(TaskState, u64)>,
    /// Ended tasks that are still kept.
    pub ended: u64,
}

const PAYLOAD: &str = "SELECT seq, command, env, cwd, stdin FROM payload WHERE seq = ?1";
const RESULT: &str = "SELECT t.seq, t.state, t.round, r.content_type, r.sha256, r.truncated, r.body \
     FROM task AS t LEFT JOIN result AS r ON r.seq = t.seq AND r.round = t.round WHERE t.id = ?1";
const RESULT_META: &str = "SELECT t.seq, t.state, t.round, r.content_type, length(r.body), r.sha256, r.truncated, r.attempt \
     FROM task AS t LEFT JOIN result AS r ON r.seq = t.seq AND r.round = t.round WHERE t.id = ?1";
const RESULT_BYTES: &str = "SELECT length(body) FROM result WHERE seq = ?1";
const OUTPUT: &str = "SELECT seq, stdout, stderr, interleave FROM output WHERE seq = ?1 AND attempt = ?2";
const SPOOL: &str = "SELECT t.seq, a.outcome, a.logs FROM task AS t \
     JOIN attempt AS a ON a.seq = t.seq AND a.attempt = ?2 WHERE t.id = ?1";
const OPEN_BY_STATE: &str = "SELECT state, count(*) FROM task INDEXED BY task_open WHERE ended_at_ms IS NULL \
     GROUP BY state ORDER BY state";
const ENDED: &str = "SELECT count(*) FROM task INDEXED BY task_ended WHERE ended_at_ms IS NOT NULL";

impl Reader {
    /// A task's payload.
    ///
    /// # Errors
    /// SQLite's.
    pub fn payload(&self, seq: Seq) -> Result<Option<Payload>, StoreError> {
        const STEP: &str = "payload";
        one(&self.conn, PAYLOAD, STEP, [seq.0], |row| {
            let mut take = Taker::new(row, STEP)?;
            Ok(Payload {
                command: take.take()?,
                env: take.take::<Option<String>>()?.unwrap_or_default(),
                cwd: take.take()?,
                stdin: take.take::<Option<Vec<u8>>>()?.unwrap_or_default(),
            })
        })
    }

    /// A task's state and its result, from one moment. `None`: no such task.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn result(&self, id: TaskId) -> Result<Option<StoredEnd>, StoreError> {
        const STEP: &str = "result";
        one(&self.conn, RESULT, STEP, [id.0], |row| {
            let mut take = Taker::new(row, STEP)?;
            let (seq, state) = (take.seq(), take.take_as("task.state", codes::to_state)?);
            let round = take.take()?;
            let result = match take.take::<Option<String>>()? {
                None => None,
                Some(content_type) => Some(StoredResult {
                    content_type,
                    sha256: take.take()?,
                    truncated: take.take()?,
                    body: take.take()?,
                }),
            };
            Ok(StoredEnd { seq, state, round, result })
        })
    }

    /// A task's state and what its result is. `None`: no such task.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn result_meta(&self, id: TaskId) -> Result<Option<EndMeta>, StoreError> {
        const STEP: &str = "result_meta";
        one(&self.conn, RESULT_META, STEP, [id.0], |row| {
            let mut take = Taker::new(row, STEP)?;
            let (seq, state) = (take.seq(), take.take_as("task.state", codes::to_state)?);
            let round = take.take()?;
            let result = match take.take::<Option<String>>()? {
                None => None,
                Some(content_type) => Some(ResultMeta {
                    content_type,
                    bytes: take.take::<i64>()?.unsigned_abs(),
                    sha256: take.take()?,
                    truncated: take.take()?,
                    attempt: AttemptNo(take.take()?),
                }),
            };
            Ok(EndMeta { seq, state, round, result })
        })
    }

    /// Up to `most` bytes of a result of `bytes` bytes, from `offset` on. `None`: it is not there any more.
    ///
    /// # Errors
    /// SQLite's.
    pub fn result_piece(
        &self,
        seq: Seq,
        bytes: u64,
        offset: u64,
        most: usize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        const STEP: &str = "result_piece";
        self.snapshot(STEP, |tx| {
            let found = one(tx, RESULT_BYTES, STEP, [seq.0], |row| count(row, 0).map_err(sql(STEP)))?;
            if found != Some(bytes) {
                return Ok(None);
            }
            let left = usize::try_from(bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            let mut piece = vec![0; left.min(most)];
            let body = tx.blob_open(MAIN_DB, "result", "body", seq.0, true).map_err(sql(STEP))?;
            let from = usize::try_from(offset).unwrap_or(usize::MAX);
            body.read_at_exact(&mut piece, from).map_err(sql(STEP))?;
            Ok(Some(piece))
        })
    }

    /// An attempt's stored logs. A standard output of `None` is the result's body.
    ///
    /// # Errors
    /// SQLite's.
    pub fn output(&self, seq: Seq, attempt: AttemptNo) -> Result<Option<StoredOutput>, StoreError> {
        const STEP: &str = "output";
        one(&self.conn, OUTPUT, STEP, params![seq.0, attempt.0], |row| {
            let mut take = Taker::new(row, STEP)?;
            Ok(StoredOutput { stdout: take.take()?, stderr: take.take()?, interleave: take.take()? })
        })
    }

    /// What is to become of the folder of this attempt.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn spool_verdict(&self, id: TaskId, attempt: AttemptNo) -> Result<SpoolVerdict, StoreError> {
        const STEP: &str = "spool_verdict";
        let verdict = one(&self.conn, SPOOL, STEP, params![id.0, attempt.0], |row| {
            let mut take = Taker::new(row, STEP)?;
            let outcome = take.take_optional_as("attempt.outcome", codes::to_outcome)?;
            let logs = take.take_as("attempt.logs", codes::to_logs)?;
            Ok(match (outcome, logs) {
                (None, _) => SpoolVerdict::Running,
                (Some(_), KeptLogs::Files) => SpoolVerdict::EndedKeepLogs,
                (Some(_), KeptLogs::None | KeptLogs::Stored) => SpoolVerdict::EndedRemove,
            })
        })?;
        Ok(verdict.unwrap_or(SpoolVerdict::Unknown))
    }

    /// How many tasks there are. Looks at every open task and at the index of the ended ones: not for every request.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        const STEP: &str = "counts";
        self.snapshot(STEP, |tx| {
            let open = all(tx, OPEN_BY_STATE, STEP, [], |row| {
                let code: i64 = row.get(0).map_err(sql(STEP))?;
                let state =
                    codes::to_state(code).ok_or(StoreError::Meaningless { column: "task.state", seq: 0 })?;
                Ok((state, count(row, 1).map_err(sql(STEP))?))
            })?;
            let ended = one(tx, ENDED, STEP, [], |row| count(row, 0).map_err(sql(STEP)))?.unwrap_or(0);
            Ok(Counts { open, ended })
        })
    }
}
