//! What goes into a step, and what comes out of it.

use std::sync::Arc;

use crate::{
    AttemptNo, CommandId, EventName, Outcome, Policy, QueueName, Seq, TaskId, TaskSpec, TaskState, Token,
};

/// A span of time in milliseconds.
pub(crate) type Millis = i64;

/// What can happen to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The first input of a gateway's life: takes the store over and finds out what is under way.
    Boot {
        /// The kernel's boot id.
        boot_id: String,
        /// How what is open is taken up.
        pace: Pace,
    },
    /// One more step of a recovery that goes [`Pace::OneByOne`]; nothing is left to do once it is over.
    RecoverNext,
    /// A client hands in work.
    Submit(Submission),
    /// A client asks for a task's end.
    Cancel {
        /// Whom to answer.
        to: CommandId,
        /// The task.
        id: TaskId,
    },
    /// A person keeps a task from going on, or lets it.
    PauseTask {
        /// Whom to answer.
        to: CommandId,
        /// The task.
        id: TaskId,
        /// To pause it.
        paused: bool,
    },
    /// A person runs an ended task again.
    Retry {
        /// Whom to answer.
        to: CommandId,
        /// The task.
        id: TaskId,
    },
    /// A person deletes an ended task.
    Delete {
        /// Whom to answer.
        to: CommandId,
        /// The task.
        id: TaskId,
    },
    /// A person pauses or resumes a queue.
    PauseQueue {
        /// Whom to answer.
        to: CommandId,
        /// The queue.
        name: QueueName,
        /// To pause it.
        paused: bool,
    },
    /// An attempt never started and never will under its token.
    Voided {
        /// Which.
        attempt: AttemptKey,
    },
    /// An attempt ended.
    ShimReport {
        /// Which.
        attempt: AttemptKey,
        /// How.
        end: AttemptEnd,
        /// What it left.
        produced: Produced,
    },
    /// Memory runs out for all: an attempt is to be ended, and runs again at no cost.
    Evict {
        /// Which.
        attempt: AttemptKey,
        /// What it is told as its end's reason, for people.
        why: String,
        /// The figures that caused it: a JSON object.
        detail: String,
    },
    /// Room runs out: what has ended longest ago, an hour at least, goes before its time.
    Clean,
    /// Something happened that concerns the gateway as a whole.
    Tell {
        /// What.
        name: EventName,
        /// To which attempt, where it is one's.
        task: Option<(TaskId, AttemptNo)>,
        /// More about it: a JSON object.
        detail: String,
    },
    /// Time has passed, or there is room: due tasks, expiry, sweeps, and leases. Ends every batch.
    Tick,
}

/// How a gateway's life takes up what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All of it, in the first commit.
    AtOnce,
    /// Task by task, the one being tried written down first: lives before this one ended early, and one of the tasks may
    /// be why. Nothing is given out meanwhile.
    OneByOne,
}

/// An attempt, under the token it was given out with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AttemptKey {
    /// Its task.
    pub seq: Seq,
    /// Its task's id.
    pub id: TaskId,
    /// Its number.
    pub attempt: AttemptNo,
    /// Its token.
    pub token: Token,
}

/// One or many tasks, accepted together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Whom to answer.
    pub to: CommandId,
    /// Who asks.
    pub principal: Arc<str>,
    /// The tasks, with the ids they are to have.
    pub tasks: Vec<(TaskId, TaskSpec)>,
    /// The idempotency key, if one was sent.
    pub key: Option<SubmissionKey>,
    /// On the steady clock of this boot: dropped if its turn comes later (R1.1).
    pub deadline_boottime_ms: i64,
}

/// An idempotency key with its scope and the body it was sent with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubmissionKey {
    /// The route.
    pub route: String,
    /// The client's key.
    pub key: String,
    /// SHA-256 of the raw body.
    pub body_sha256: [u8; 32],
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptEnd {
    /// In one word.
    pub outcome: Outcome,
    /// Another attempt could only end the same way.
    pub non_retryable: bool,
    /// We took it away ourselves (an eviction): nothing is consumed, and it runs again at once. So it is with an outcome
    /// of `cancelled` that nobody asked for: the gateway ended it at its own end.
    pub put_back: bool,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// When the command started, milliseconds since the Unix epoch.
    pub started_at_ms: Option<i64>,
    /// When it ended.
    pub ended_at_ms: i64,
    /// The most memory its tree held.
    pub peak_memory_bytes: Option<i64>,
    /// CPU time of its tree, in milliseconds.
    pub cpu_ms: Option<i64>,
}

impl AttemptEnd {
    /// An end that no shim reported: nothing is known but how it is to be called, and why.
    #[must_use]
    pub fn unreported(outcome: Outcome, ended_at_ms: i64, error: impl Into<String>) -> Self {
        Self {
            outcome,
            non_retryable: false,
            put_back: false,
            exit_code: None,
            signal: None,
            error: Some(error.into()),
            started_at_ms: None,
            ended_at_ms,
            peak_memory_bytes: None,
            cpu_ms: None,
        }
    }
}

/// What an attempt left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Produced {
    /// Its result; only of an attempt that succeeded.
    pub result: Option<StoredResult>,
    /// Its logs, if they are small enough to be stored.
    pub output: Option<StoredOutput>,
    /// Bytes of logs that stay files; 0 if none do.
    pub log_bytes_in_files: u64,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResult {
    /// Its media type.
    pub content_type: String,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
    /// Its bytes.
    pub body: Vec<u8>,
    /// There were more.
    pub truncated: bool,
}

/// An attempt's logs, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredOutput {
    /// Standard output; `None`: it is the result, byte for byte, and stored there.
    pub stdout: Option<Vec<u8>>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// The order of receipt between the two, as the shim wrote it; empty if at most one spoke.
    pub interleave: Vec<u8>,
}

/// Where an attempt's logs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeptLogs {
    /// It runs, or it said nothing.
    #[default]
    None,
    /// In the store.
    Stored,
    /// In its spool folder.
    Files,
}

/// What the world is asked to do, once the commit is done, in this order. Whatever here must not be lost with the
/// process is found again from what was committed; the second line of each says how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Answer a client.
    /// Lost: the client asks again, with its key.
    Reply {
        /// Whom.
        to: CommandId,
        /// What.
        answer: Answer,
    },
    /// Start an attempt's shim.
    /// Lost: at boot the attempt is found without a claim, is voided, and starts under a new token.
    Start(StartOrder),
    /// Ask an attempt's shim to end its tree.
    /// Lost: the task's `cancel_requested` says so again at boot.
    EndAttempt {
        /// Which.
        attempt: AttemptKey,
    },
    /// End an attempt's tree without the usual grace.
    /// Lost: the attempt's row says so; at boot its end is asked for.
    Evict {
        /// Which.
        attempt: AttemptKey,
    },
    /// Have an attempt's shim freeze its tree, or let it go on.
    /// Lost: the task's state says it at boot, and the shim is told again.
    PauseAttempt {
        /// Which.
        attempt: AttemptKey,
        /// To freeze it.
        paused: bool,
    },
    /// Find out what became of an attempt that an earlier gateway gave out, and report it.
    /// Lost: at boot it is asked again.
    Recover {
        /// Which.
        attempt: AttemptKey,
        /// Its end was asked for, by a person or by an eviction.
        cancel_requested: bool,
        /// Its tree is to be frozen.
        paused: bool,
        /// The machine has not been started anew since it was given out. If it has, a missing claim says nothing: claims
        /// are not made durable.
        same_boot: bool,
    },
    /// Tell the shim that the end is committed, and remove its folder but for kept logs.
    /// Lost: the shim writes its record and goes; the sweep removes folders of ended attempts.
    Settled {
        /// Which.
        attempt: AttemptKey,
        /// Log files stay.
        keep_logs: bool,
    },
    /// Offer the result of the attempt that was just settled to the cache.
    /// Lost: a read finds it in the store, and offers it again.
    Publish {
        /// Whose.
        attempt: AttemptKey,
        /// The round it ends.
        round: u32,
    },
    /// Remove all files of a deleted task.
    /// Lost: the sweep removes folders that belong to no task.
    RemoveFiles {
        /// The task.
        id: TaskId,
    },
    /// Tell whoever waits for a task.
    /// Lost: they poll, and find it in the store.
    Changed {
        /// The task.
        id: TaskId,
        /// Where it is now.
        state: TaskState,
    },
}

/// All that starting an attempt needs but the payload, which is read when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartOrder {
    /// Which.
    pub attempt: AttemptKey,
    /// How it is run.
    pub policy: Policy,
    /// It is to be frozen as soon as it runs: it was paused before it could start.
    pub paused: bool,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Accepted, durably.
    Accepted {
        /// The tasks' ids, in order.
        ids: Vec<TaskId>,
        /// The state of the first.
        state: TaskState,
    },
    /// The same submission was accepted before.
    Replayed {
        /// The tasks' ids, in order.
        ids: Vec<TaskId>,
        /// The state of the first now.
        state: TaskState,
    },
    /// Done, or nothing was left to do.
    Done,
    /// Not accepted; nothing was stored.
    Refused(Refusal),
    /// Not possible.
    Conflict(Conflict),
}

/// Why a submission is not accepted: the whole list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The queue's bound (R2.1).
    QueueFull {
        /// Waiting tasks.
        waiting: u64,
        /// The bound.
        limit: u64,
    },
    /// The bound of waiting bytes.
    BytesFull {
        /// Waiting bytes.
        waiting: u64,
        /// The bound.
        limit: u64,
    },
    /// A client's share, while others want in (R2.6).
    OverShare {
        /// Its waiting tasks.
        waiting: u64,
        /// The share.
        share: u64,
    },
    /// A queue's share of what its client may have, while others of its queues are wanted (R2.6).
    OverQueueShare {
        /// Its waiting tasks.
        waiting: u64,
        /// The share.
        share: u64,
        /// Which queue.
        queue: QueueName,
    },
    /// No further queue can be made.
    TooManyQueues {
        /// The bound.
        limit: u64,
    },
    /// Its turn came too late; it was dropped.
    TooLate,
    /// The key was used for another body.
    KeyMismatch,
    /// Open tasks are still taken up one by one, so how many wait is not known (R2.1).
    Recovering,
}

/// Why a command is not possible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// No such task.
    NoSuchTask,
    /// No such queue.
    NoSuchQueue,
    /// The task's state does not allow it.
    State(TaskState),
    /// The task's end was asked for.
    Ending,
}

impl Submission {
    /// The bytes of all its payloads.
    pub(crate) fn payload_bytes(&self) -> u64 {
        self.tasks.iter().map(|(_, spec)| spec.payload.bytes()).sum()
    }
}
