//! submit: new tasks, the keys they came with, and the names they brought along.
//!
//! Owns: the path that is to cost as little as SQLite can: two rows for a task, a third for a key. Stands between
//! the core's admission and the commit that lets the client be told.

use chitin_core::{NewTask, PrincipalId, PriorSubmission, QueueRow, SubmissionRow, TaskRow};
use rusqlite::{Connection, params};

use super::execute;
use crate::StoreError;
use crate::codes;
use crate::error::sql;
use crate::row::{self, Binder};
use crate::tx::Hot;

const INSERT_TASK: &str = "INSERT INTO task (seq, id, state, owner_epoch, principal, queue, priority, attempt, \
     cancel_requested, payload_bytes, due_wall_ms, due_boot, due_boottime_ms, due_delay_ms, expires_wall_ms, \
     expires_boot, expires_boottime_ms, expires_delay_ms, submitted_at_ms, started_at_ms, ended_at_ms, round, \
     retries, poison, kept_bytes, timeout_ms, ttl_ms, retry_max, retry_backoff_ms, retry_jitter, memory_bytes, \
     cpu_millis, pids, merge, tags) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, \
     ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35)";
const INSERT_PAYLOAD: &str =
    "INSERT INTO payload (seq, command, env, cwd, stdin) VALUES (?1, ?2, ?3, ?4, ?5)";
const INSERT_TAG: &str = "INSERT INTO task_tag (tag, seq) VALUES (?1, ?2)";

pub(crate) fn insert_task<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    task: NewTask<'_>,
) -> Result<(), StoreError> {
    const STEP: &str = "insert_task";
    let NewTask { row, payload } = task;
    let mut bind = Binder::new(hot.insert_task.of(conn, INSERT_TASK, STEP)?, STEP);
    put_task(&mut bind, row)?;
    bind.execute()?;

    let mut bind = Binder::new(hot.insert_payload.of(conn, INSERT_PAYLOAD, STEP)?, STEP);
    bind.put(row.seq.0)?;
    bind.put(payload.command.as_str())?;
    bind.put((!payload.env.is_empty()).then_some(payload.env.as_str()))?;
    bind.put(payload.cwd.as_deref())?;
    bind.put((!payload.stdin.is_empty()).then_some(payload.stdin.as_slice()))?;
    bind.execute()?;

    for tag in &row.tags {
        execute(conn, INSERT_TAG, STEP, params![tag, row.seq.0])?;
    }
    Ok(())
}

fn put_task(bind: &mut Binder<'_, '_>, row: &TaskRow) -> Result<(), StoreError> {
    bind.put(row.seq.0)?;
    bind.put(row.id.0)?;
    bind.put(codes::of_state(row.state))?;
    bind.put(row.owner_epoch.0)?;
    bind.put(row.principal.0)?;
    bind.put(row.queue.0)?;
    bind.put(row.priority.get())?;
    bind.put(row.attempt.0)?;
    bind.put(row.cancel_requested)?;
    bind.put(row.payload_bytes)?;
    row::put_due(bind, row.due.as_ref())?;
    row::put_deadline(bind, row.expires.as_ref())?;
    bind.put(row.submitted_at_ms)?;
    bind.put(row.started_at_ms)?;
    bind.put(row.ended_at_ms)?;
    bind.put(row.round)?;
    bind.put(row.retries)?;
    bind.put(row.poison)?;
    bind.put(row.kept_bytes)?;
    let policy = &row.policy;
    bind.put(policy.timeout_ms)?;
    bind.put(policy.ttl_ms)?;
    bind.put(policy.retry.max)?;
    row::put_waits(bind, &policy.retry.backoff_ms)?;
    bind.put(policy.retry.jitter.permille())?;
    bind.put(policy.memory_bytes)?;
    bind.put(policy.cpu_millis)?;
    bind.put(policy.pids)?;
    bind.put(policy.merge)?;
    bind.put(row::tags_to(&row.tags))
}

const FIND_SUBMISSION: &str = "SELECT first_seq, ids, body_sha256, ended_state FROM submission \
     WHERE principal = ?1 AND key = ?2 AND route = ?3";

pub(crate) fn find_submission<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    principal: PrincipalId,
    route: &str,
    key: &str,
) -> Result<Option<PriorSubmission>, StoreError> {
    const STEP: &str = "find_submission";
    let statement = hot.find_submission.of(conn, FIND_SUBMISSION, STEP)?;
    let mut rows = statement.query(params![principal.0, key, route]).map_err(sql(STEP))?;
    let Some(found) = rows.next().map_err(sql(STEP))? else { return Ok(None) };
    let mut take = row::Taker::new(found, STEP)?;
    Ok(Some(PriorSubmission {
        first_seq: take.seq(),
        ids: take.take_as("submission.ids", |raw: Vec<u8>| row::ids_from(&raw))?,
        body_sha256: take.take()?,
        ended_state: take.take_optional_as("submission.ended_state", codes::to_state)?,
    }))
}

const INSERT_SUBMISSION: &str = "INSERT INTO submission (first_seq, principal, route, key, body_sha256, ids) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

pub(crate) fn insert_submission<'w>(
    conn: &'w Connection,
    hot: &mut Hot<'w>,
    submission: &SubmissionRow,
) -> Result<(), StoreError> {
    const STEP: &str = "insert_submission";
    let mut bind = Binder::new(hot.insert_submission.of(conn, INSERT_SUBMISSION, STEP)?, STEP);
    bind.put(submission.first_seq.0)?;
    bind.put(submission.principal.0)?;
    bind.put(submission.route.as_str())?;
    bind.put(submission.key.as_str())?;
    bind.put(submission.body_sha256)?;
    bind.put(row::ids_to(&submission.ids))?;
    bind.execute()?;
    Ok(())
}

const INSERT_QUEUE: &str = "INSERT INTO queue (id, name, paused) VALUES (?1, ?2, ?3)";
const INSERT_PRINCIPAL: &str = "INSERT INTO principal (id, name) VALUES (?1, ?2)";

pub(crate) fn insert_queue(conn: &Connection, queue: &QueueRow) -> Result<(), StoreError> {
    execute(conn, INSERT_QUEUE, "insert_queue", params![queue.id.0, queue.name, queue.paused])?;
    Ok(())
}

pub(crate) fn insert_principal(conn: &Connection, id: PrincipalId, name: &str) -> Result<(), StoreError> {
    execute(conn, INSERT_PRINCIPAL, "insert_principal", params![id.0, name])?;
    Ok(())
}
