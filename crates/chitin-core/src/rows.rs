//! What is stored, in the core's own types; how a store lays it out is the store's affair.

use crate::io::KeptLogs;
use crate::valid::Priority;
use crate::{
    Answer, AttemptNo, BootNo, Deadline, Due, Epoch, Outcome, PrincipalId, QueueId, Refusal, RetryPolicy,
    Seq, TaskId, TaskState, Token,
};

/// How a task is run; fixed when it is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Running time of an attempt; `None`: unlimited (R0.3).
    pub timeout_ms: Option<i64>,
    /// Time to live of a task that never started (R2.5).
    pub ttl_ms: i64,
    /// When failed attempts are followed by others (R6.2).
    pub retry: RetryPolicy,
    /// Memory of the process tree (R3.3); `None`: the gateway's default.
    pub memory_bytes: Option<i64>,
    /// CPU time a second, in thousandths of a core.
    pub cpu_millis: Option<i64>,
    /// Processes at once.
    pub pids: Option<i64>,
    /// Both streams through one pipe.
    pub merge: bool,
}

/// What a task is: opaque to the core, which only counts its bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    /// Program and arguments, a JSON array.
    pub command: String,
    /// Environment, a JSON object; empty: none.
    pub env: String,
    /// The directory to run in.
    pub cwd: Option<String>,
    /// Standard input.
    pub stdin: Vec<u8>,
}

impl Payload {
    /// What it counts against the bound of bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let len =
            self.command.len() + self.env.len() + self.cwd.as_ref().map_or(0, String::len) + self.stdin.len();
        u64::try_from(len).unwrap_or(u64::MAX)
    }
}

/// A task's small row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRow {
    /// Its place in the admission sequence; the primary key.
    pub seq: Seq,
    /// Its public id, unique.
    pub id: TaskId,
    /// Who submitted it.
    pub principal: PrincipalId,
    /// Its queue.
    pub queue: QueueId,
    /// Its priority.
    pub priority: Priority,
    /// Where it is.
    pub state: TaskState,
    /// The gateway that wrote it last. Each change names the newest epoch, which alone may write.
    pub owner_epoch: Epoch,
    /// When it was accepted, milliseconds since the Unix epoch.
    pub submitted_at_ms: i64,
    /// When it may start; kept after it did, for people.
    pub due: Option<Due>,
    /// When it expires unless it has started; `None` from its round's first start on. While it is held, its whole delay is
    /// what is left.
    pub expires: Option<Deadline>,
    /// When its newest attempt was given out.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub ended_at_ms: Option<i64>,
    /// 1, and one more for each retry by hand.
    pub round: u32,
    /// The newest attempt; 0 before the first.
    pub attempt: AttemptNo,
    /// Retries consumed in this round.
    pub retries: u32,
    /// Attempts of this round that took their worker down.
    pub poison: u32,
    /// Somebody asked for its end.
    pub cancel_requested: bool,
    /// The bytes of its payload.
    pub payload_bytes: i64,
    /// The bytes its attempts left: results and kept logs.
    pub kept_bytes: i64,
    /// How it is run.
    pub policy: Policy,
    /// Its labels.
    pub tags: Vec<String>,
}

/// A task to be stored for the first time.
#[derive(Debug, Clone, Copy)]
pub struct NewTask<'a> {
    /// Its small row.
    pub row: &'a TaskRow,
    /// Its payload, in a table of its own.
    pub payload: &'a Payload,
}

/// What the hot index holds of an open task, read in bulk when a gateway starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRow {
    /// See [`TaskRow::seq`].
    pub seq: Seq,
    /// See [`TaskRow::id`].
    pub id: TaskId,
    /// See [`TaskRow::principal`].
    pub principal: PrincipalId,
    /// See [`TaskRow::queue`].
    pub queue: QueueId,
    /// See [`TaskRow::priority`].
    pub priority: Priority,
    /// See [`TaskRow::state`].
    pub state: TaskState,
    /// See [`TaskRow::due`].
    pub due: Option<Due>,
    /// See [`TaskRow::expires`].
    pub expires: Option<Deadline>,
    /// See [`TaskRow::cancel_requested`].
    pub cancel_requested: bool,
    /// See [`TaskRow::payload_bytes`].
    pub payload_bytes: i64,
    /// See [`AttemptRow::evicted`], of the running attempt.
    pub evicted: bool,
    /// The running attempt, its token and the boot it was given out in; `None` unless one is under way.
    pub running: Option<(AttemptNo, Token, BootNo)>,
}

/// The task whose recovery is being tried, written down before it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspect {
    /// Which.
    pub seq: Seq,
    /// Gateways that ended while it was being tried, one after the other.
    pub lives: u32,
}

/// One attempt. Committed before its shim is started: intent before the act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its task.
    pub seq: Seq,
    /// Its number.
    pub attempt: AttemptNo,
    /// The round it belongs to.
    pub round: u32,
    /// The token under which alone it may be settled.
    pub token: Token,
    /// The gateway that gave it out.
    pub epoch: Epoch,
    /// The boot it was given out in.
    pub boot: BootNo,
    /// When it was given out, milliseconds since the Unix epoch.
    pub leased_at_ms: i64,
    /// When its command started, as its shim saw it.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub ended_at_ms: Option<i64>,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// The most memory its tree held.
    pub peak_memory_bytes: Option<i64>,
    /// CPU time of its tree, in milliseconds.
    pub cpu_ms: Option<i64>,
    /// Where its logs are.
    pub logs: KeptLogs,
    /// The gateway is ending it because memory runs out for all; `error` says so.
    pub evicted: bool,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRow {
    /// Its number.
    pub id: QueueId,
    /// Its name.
    pub name: String,
    /// Nothing is given out from it.
    pub paused: bool,
}

/// A remembered submission: the idempotency key, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionRow {
    /// The first task's place in the admission sequence; the primary key.
    pub first_seq: Seq,
    /// The ids, in order.
    pub ids: Vec<TaskId>,
    /// Who submitted.
    pub principal: PrincipalId,
    /// The route: the same key on another route is another submission.
    pub route: String,
    /// The client's key.
    pub key: String,
    /// SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
}

/// What a store knows of an earlier submission with the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorSubmission {
    /// The first task's place in the admission sequence.
    pub first_seq: Seq,
    /// The ids, in order.
    pub ids: Vec<TaskId>,
    /// SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
    /// The last known state of its only task, if it has ended (it may be deleted by now).
    pub ended_state: Option<TaskState>,
}

impl PriorSubmission {
    /// What a submission with the same key is answered: for the same body the same ids, with the state that their first has now.
    /// `first`: the task at [`Self::first_seq`], if there is one.
    #[must_use]
    pub fn answer(&self, body_sha256: &[u8; 32], first: Option<(TaskId, TaskState)>) -> Answer {
        if self.body_sha256 != *body_sha256 {
            return Answer::Refused(Refusal::KeyMismatch);
        }
        let state = match first {
            Some((id, state)) if Some(&id) == self.ids.first() => state,
            _ => self.ended_state.unwrap_or(TaskState::Expired),
        };
        Answer::Replayed { ids: self.ids.clone(), state }
    }
}
