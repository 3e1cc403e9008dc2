//! Rows of the database from and to the core's types.
//!
//! Owns: the order of columns, and how a missing value, a deadline, a list is written down. Every verb passes here;
//! what cannot be read back is damage, never a guess.

use chitin_core::{
    AttemptNo, AttemptRow, BootNo, Deadline, Due, Epoch, Jitter, Policy, PrincipalId, Priority, QueueId,
    RetryPolicy, Seq, TaskId, TaskRow, Token,
};
use rusqlite::types::{FromSql, ToSql};
use rusqlite::{CachedStatement, Row};

use crate::StoreError;
use crate::codes;
use crate::error::sql;

/// Binds values one after another.
pub(crate) struct Binder<'s, 'c> {
    statement: &'s mut CachedStatement<'c>,
    step: &'static str,
    at: usize,
}

impl<'s, 'c> Binder<'s, 'c> {
    pub(crate) fn new(statement: &'s mut CachedStatement<'c>, step: &'static str) -> Self {
        Self { statement, step, at: 0 }
    }

    pub(crate) fn put(&mut self, value: impl ToSql) -> Result<(), StoreError> {
        self.at += 1;
        self.statement.raw_bind_parameter(self.at, value).map_err(sql(self.step))
    }

    pub(crate) fn execute(self) -> Result<usize, StoreError> {
        self.statement.raw_execute().map_err(sql(self.step))
    }
}

/// Takes columns one after another.
pub(crate) struct Taker<'r, 's> {
    row: &'r Row<'s>,
    step: &'static str,
    at: usize,
    seq: i64,
}

impl<'r, 's> Taker<'r, 's> {
    /// The first column is the row's key.
    pub(crate) fn new(row: &'r Row<'s>, step: &'static str) -> Result<Self, StoreError> {
        let seq = row.get(0).map_err(sql(step))?;
        Ok(Self { row, step, at: 1, seq })
    }

    pub(crate) fn seq(&self) -> Seq {
        Seq(self.seq)
    }

    pub(crate) fn take<T: FromSql>(&mut self) -> Result<T, StoreError> {
        let at = self.at;
        self.at += 1;
        self.row.get(at).map_err(sql(self.step))
    }

    /// A code, or another number that not every number is.
    pub(crate) fn take_as<F: FromSql, T>(
        &mut self,
        column: &'static str,
        decode: impl FnOnce(F) -> Option<T>,
    ) -> Result<T, StoreError> {
        let seq = self.seq;
        let raw = self.take::<F>()?;
        decode(raw).ok_or(StoreError::Meaningless { column, seq })
    }

    pub(crate) fn take_optional_as<F: FromSql, T>(
        &mut self,
        column: &'static str,
        decode: impl FnOnce(F) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        let seq = self.seq;
        match self.take::<Option<F>>()? {
            None => Ok(None),
            Some(raw) => decode(raw).map(Some).ok_or(StoreError::Meaningless { column, seq }),
        }
    }

    pub(crate) fn task_id(&mut self) -> Result<TaskId, StoreError> {
        self.take().map(TaskId)
    }

    /// Four columns: wall, boot, steady clock, delay.
    pub(crate) fn due(&mut self) -> Result<Option<Due>, StoreError> {
        let wall: Option<i64> = self.take()?;
        let boot: Option<i64> = self.take()?;
        let (boottime, delay): (Option<i64>, Option<i64>) = (self.take()?, self.take()?);
        match (wall, boot, boottime, delay) {
            (None, None, None, None) => Ok(None),
            (Some(wall_ms), None, None, None) => Ok(Some(Due::At(wall_ms))),
            (Some(wall_ms), Some(boot), Some(boottime_ms), Some(delay_ms)) => {
                Ok(Some(Due::After(Deadline { boot: BootNo(boot), boottime_ms, wall_ms, delay_ms })))
            }
            _ => Err(StoreError::Meaningless { column: "task.due", seq: self.seq }),
        }
    }

    /// Four columns: wall, boot, steady clock, delay.
    pub(crate) fn deadline(&mut self) -> Result<Option<Deadline>, StoreError> {
        match self.due()? {
            None => Ok(None),
            Some(Due::After(deadline)) => Ok(Some(deadline)),
            Some(Due::At(_)) => Err(StoreError::Meaningless { column: "task.expires", seq: self.seq }),
        }
    }
}

/// Binds four columns: wall, boot, steady clock, delay.
pub(crate) fn put_due(bind: &mut Binder<'_, '_>, due: Option<&Due>) -> Result<(), StoreError> {
    match due {
        Some(Due::After(deadline)) => put_deadline(bind, Some(deadline)),
        Some(Due::At(wall_ms)) => {
            bind.put(*wall_ms)?;
            (0..3).try_for_each(|_| bind.put(None::<i64>))
        }
        None => put_deadline(bind, None),
    }
}

/// Binds four columns: wall, boot, steady clock, delay.
pub(crate) fn put_deadline(bind: &mut Binder<'_, '_>, deadline: Option<&Deadline>) -> Result<(), StoreError> {
    match deadline {
        Some(deadline) => {
            bind.put(deadline.wall_ms)?;
            bind.put(deadline.boot.0)?;
            bind.put(deadline.boottime_ms)?;
            bind.put(deadline.delay_ms)
        }
        None => (0..4).try_for_each(|_| bind.put(None::<i64>)),
    }
}

/// The columns of [`task`], in its order.
macro_rules! task_columns {
    () => {
        "t.seq, t.id, t.state, t.owner_epoch, t.principal, t.queue, t.priority, t.attempt, t.cancel_requested, \
         t.payload_bytes, t.due_wall_ms, t.due_boot, t.due_boottime_ms, t.due_delay_ms, t.expires_wall_ms, \
         t.expires_boot, t.expires_boottime_ms, t.expires_delay_ms, t.submitted_at_ms, t.started_at_ms, \
         t.ended_at_ms, t.round, t.retries, t.poison, t.kept_bytes, t.timeout_ms, t.ttl_ms, t.retry_max, \
         t.retry_backoff_ms, t.retry_jitter, t.memory_bytes, t.cpu_millis, t.pids, t.merge, t.tags"
    };
}
pub(crate) use task_columns;

/// Reads a task from [`task_columns`].
pub(crate) fn task(row: &Row<'_>, step: &'static str) -> Result<TaskRow, StoreError> {
    let mut take = Taker::new(row, step)?;
    let seq = take.seq();
    Ok(TaskRow {
        seq,
        id: take.task_id()?,
        state: take.take_as("task.state", codes::to_state)?,
        owner_epoch: Epoch(take.take()?),
        principal: PrincipalId(take.take()?),
        queue: QueueId(take.take()?),
        priority: take.take_as("task.priority", |raw| Priority::new(raw).ok())?,
        attempt: AttemptNo(take.take()?),
        cancel_requested: take.take()?,
        payload_bytes: take.take()?,
        due: take.due()?,
        expires: take.deadline()?,
        submitted_at_ms: take.take()?,
        started_at_ms: take.take()?,
        ended_at_ms: take.take()?,
        round: take.take()?,
        retries: take.take()?,
        poison: take.take()?,
        kept_bytes: take.take()?,
        policy: policy(&mut take)?,
        tags: take.take::<Option<String>>()?.map(|text| tags_from(&text)).unwrap_or_default(),
    })
}

fn policy(take: &mut Taker<'_, '_>) -> Result<Policy, StoreError> {
    let (timeout_ms, ttl_ms) = (take.take()?, take.take()?);
    let retry = RetryPolicy {
        max: take.take()?,
        backoff_ms: take
            .take_optional_as("task.retry_backoff_ms", |raw: Vec<u8>| waits_from(&raw))?
            .unwrap_or_default(),
        jitter: take.take_as("task.retry_jitter", Jitter::from_permille)?,
    };
    Ok(Policy {
        timeout_ms,
        ttl_ms,
        retry,
        memory_bytes: take.take()?,
        cpu_millis: take.take()?,
        pids: take.take()?,
        merge: take.take()?,
    })
}

/// The columns of [`attempt`], in its order.
macro_rules! attempt_columns {
    () => {
        "seq, attempt, round, token, epoch, boot, leased_at_ms, started_at_ms, ended_at_ms, outcome, exit_code, \
         signal, error, peak_memory_bytes, cpu_ms, logs, evicted"
    };
}
pub(crate) use attempt_columns;

/// Reads an attempt from [`attempt_columns`].
pub(crate) fn attempt(row: &Row<'_>, step: &'static str) -> Result<AttemptRow, StoreError> {
    let mut take = Taker::new(row, step)?;
    Ok(AttemptRow {
        seq: take.seq(),
        attempt: AttemptNo(take.take()?),
        round: take.take()?,
        token: Token(take.take()?),
        epoch: Epoch(take.take()?),
        boot: BootNo(take.take()?),
        leased_at_ms: take.take()?,
        started_at_ms: take.take()?,
        ended_at_ms: take.take()?,
        outcome: take.take_optional_as("attempt.outcome", codes::to_outcome)?,
        exit_code: take.take()?,
        signal: take.take()?,
        error: take.take()?,
        peak_memory_bytes: take.take()?,
        cpu_ms: take.take()?,
        logs: take.take_as("attempt.logs", codes::to_logs)?,
        evicted: take.take()?,
    })
}

/// Tags hold no control characters, so a line each is unambiguous.
pub(crate) fn tags_to(tags: &[String]) -> Option<String> {
    (!tags.is_empty()).then(|| tags.join("\n"))
}

pub(crate) fn tags_from(text: &str) -> Vec<String> {
    text.split('\n').map(str::to_owned).collect()
}

/// Up to so many waits are written without an allocation.
const WAITS_INLINE: usize = 16;

/// Hands the waits of a retry policy on as bytes; none as NULL.
pub(crate) fn put_waits(bind: &mut Binder<'_, '_>, waits: &[u32]) -> Result<(), StoreError> {
    if waits.is_empty() {
        return bind.put(None::<i64>);
    }
    let mut inline = [0_u8; WAITS_INLINE * 4];
    match inline.get_mut(..waits.len() * 4) {
        Some(bytes) => {
            for (to, wait) in bytes.chunks_exact_mut(4).zip(waits) {
                to.copy_from_slice(&wait.to_le_bytes());
            }
            bind.put(&*bytes)
        }
        None => bind.put(waits.iter().flat_map(|wait| wait.to_le_bytes()).collect::<Vec<u8>>()),
    }
}

fn waits_from(bytes: &[u8]) -> Option<Vec<u32>> {
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// The ids of a submission, one after another.
pub(crate) fn ids_to(ids: &[TaskId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

pub(crate) fn ids_from(bytes: &[u8]) -> Option<Vec<TaskId>> {
    let (ids, rest) = bytes.as_chunks::<16>();
    (rest.is_empty() && !ids.is_empty()).then(|| ids.iter().copied().map(TaskId).collect())
}

/// A number that cannot be negative.
pub(crate) fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let found: i64 = row.get(at)?;
    u64::try_from(found).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(at, found))
}
