//! Everything about one task, as of one moment.

use chitin_core::{AttemptNo, AttemptRow, TaskId, TaskRow};

use super::Reader;
use crate::StoreError;
use crate::error::sql;
use crate::row::{self, attempt_columns, task_columns};
use crate::write::{all, one};

/// A task with all that is shown of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDetail {
    /// Its row.
    pub row: TaskRow,
    /// Program and arguments, a JSON array.
    pub payload_command: String,
    /// Its queue's name.
    pub queue: String,
    /// All its attempts, the first one first.
    pub attempts: Vec<AttemptRow>,
    /// Its result, without the bytes.
    pub result: Option<ResultMeta>,
}

/// What is known of a result without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultMeta {
    /// Its media type.
    pub content_type: String,
    /// Its length.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// There were more.
    pub truncated: bool,
    /// The attempt that left it.
    pub attempt: AttemptNo,
}

const TASK: &str = concat!("SELECT ", task_columns!(), " FROM task AS t WHERE t.id = ?1");
const COMMAND: &str = "SELECT command FROM payload WHERE seq = ?1";
const QUEUE: &str = "SELECT name FROM queue WHERE id = ?1";
const ATTEMPTS: &str =
    concat!("SELECT ", attempt_columns!(), " FROM attempt WHERE seq = ?1 ORDER BY attempt");
const RESULT: &str =
    "SELECT content_type, length(body), sha256, truncated, attempt FROM result WHERE seq = ?1";

impl Reader {
    /// A task by its id.
    ///
    /// # Errors
    /// SQLite's, or damage.
    pub fn task_by_id(&self, id: TaskId) -> Result<Option<TaskDetail>, StoreError> {
        const STEP: &str = "task_by_id";
        self.snapshot(STEP, |tx| {
            let Some(row) = one(tx, TASK, STEP, [id.0], |found| row::task(found, STEP))? else {
                return Ok(None);
            };
            let seq = row.seq.0;
            let missing = |column| StoreError::Meaningless { column, seq };
            let text = |text, key: i64| {
                one(tx, text, STEP, [key], |found| found.get::<_, String>(0).map_err(sql(STEP)))
            };
            Ok(Some(TaskDetail {
                payload_command: text(COMMAND, seq)?.ok_or(missing("task.payload"))?,
                queue: text(QUEUE, row.queue.0)?.ok_or(missing("task.queue"))?,
                attempts: all(tx, ATTEMPTS, STEP, [seq], |found| row::attempt(found, STEP))?,
                result: one(tx, RESULT, STEP, [seq], |found| {
                    let read = || {
                        Ok(ResultMeta {
                            content_type: found.get(0)?,
                            bytes: row::count(found, 1)?,
                            sha256: found.get(2)?,
                            truncated: found.get(3)?,
                            attempt: AttemptNo(found.get(4)?),
                        })
                    };
                    read().map_err(sql(STEP))
                })?,
                row,
            }))
        })
    }
}
