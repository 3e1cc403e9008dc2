//! What a repeated submission was answered before, for those who cannot ask the writer: while it refuses new work, what is known
//! is known all the same.

use chitin_core::{PriorSubmission, SubmissionKey, TaskId, TaskState};
use rusqlite::params;

use super::Reader;
use crate::StoreError;
use crate::codes;
use crate::row::{self, Taker};
use crate::write::one;

const SUBMISSION: &str = "SELECT s.first_seq, s.ids, s.body_sha256, s.ended_state, t.id, t.state FROM principal AS p \
     JOIN submission AS s ON s.principal = p.id AND s.key = ?2 AND s.route = ?3 \
     LEFT JOIN task AS t ON t.seq = s.first_seq WHERE p.name = ?1";

impl Reader {
    /// The submission of this principal under this key, and the task that stands at its place now, if one does.
    ///
    /// # Errors
    /// SQLite's, or damage.
    #[expect(clippy::type_complexity, reason = "a row and what it points to")]
    pub fn submission(
        &self,
        principal: &str,
        key: &SubmissionKey,
    ) -> Result<Option<(PriorSubmission, Option<(TaskId, TaskState)>)>, StoreError> {
        const STEP: &str = "submission";
        one(&self.conn, SUBMISSION, STEP, params![principal, key.key, key.route], |found| {
            let mut take = Taker::new(found, STEP)?;
            let prior = PriorSubmission {
                first_seq: take.seq(),
                ids: take.take_as("submission.ids", |raw: Vec<u8>| row::ids_from(&raw))?,
                body_sha256: take.take()?,
                ended_state: take.take_optional_as("submission.ended_state", codes::to_state)?,
            };
            let id = take.take::<Option<[u8; 16]>>()?.map(TaskId);
            let state = take.take_optional_as("task.state", codes::to_state)?;
            Ok((prior, id.zip(state)))
        })
    }
}
