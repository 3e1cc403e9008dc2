//! What a client is told. Every field is always there, null where it does not apply, so that readers need no guesses.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The answer to an accepted task (202), or to the same submission sent again (200).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// The task's id.
    pub id: String,
    /// Its state.
    pub state: String,
}

/// The answer to an accepted bulk submission: ids in the order of the tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkAccepted {
    /// The tasks' ids.
    pub ids: Vec<String>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskView {
    /// The task's id, a UUIDv7.
    pub id: String,
    /// The shortest prefix of the id that names this task alone, at least 8 characters; only in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_id: Option<String>,
    /// `scheduled`, `queued`, `running`, `paused`, `succeeded`, `cancelled`, `expired` or `dead`.
    pub state: String,
    /// Why, where a state has reasons: `delay`, `backoff`; `retries_exhausted`, `non_retryable`, `poison`.
    pub reason: Option<String>,
    /// Always null: handlers are not supported yet.
    pub handler: Option<String>,
    /// Program and arguments.
    pub command: Option<Vec<String>>,
    /// The queue's name.
    pub queue: String,
    /// 0 to 9, 9 first.
    pub priority: u8,
    /// When it was accepted.
    pub submitted_at: String,
    /// When it may start (a delay, a time that was asked for, a retry).
    pub run_at: Option<String>,
    /// When its newest attempt started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// When it expires unless it has started.
    pub expires_at: Option<String>,
    /// 1, and one more for every retry by hand.
    pub round: u32,
    /// The newest attempt's number; 0 before the first.
    pub attempt: u32,
    /// All attempts, oldest first; null in lists.
    pub attempts: Option<Vec<AttemptView>>,
    /// Always null: progress is not supported yet.
    pub progress: Option<Value>,
    /// Its labels.
    pub tags: Vec<String>,
    /// Running time an attempt may take; null: unlimited.
    pub timeout_s: Option<f64>,
    /// Memory its process tree may take.
    pub memory_bytes: Option<u64>,
    /// Its retry policy.
    pub retry: RetryView,
    /// Somebody asked for its end.
    pub cancel_requested: bool,
    /// The result was longer than what is kept.
    pub result_truncated: bool,
}

/// A retry policy in force.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetryView {
    /// Retries after the first attempt.
    pub max: u32,
    /// Waits before each retry; the last one repeats.
    pub backoff_s: Vec<f64>,
    /// Part of a wait that is random.
    pub jitter: f64,
}

/// One attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptView {
    /// Its number, from 1; numbers go on over rounds.
    pub attempt: u32,
    /// Null while it runs; else `succeeded`, `failed`, `timed_out`, `stalled`, `oom_killed`, `signalled`,
    /// `worker_lost`, `host_lost` or `cancelled`.
    pub outcome: Option<String>,
    /// The command's exit code.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// What went wrong, for people.
    pub error: Option<String>,
    /// When its command started.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The most memory its process tree held.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time of its process tree, in seconds.
    pub cpu_s: Option<f64>,
}

/// A page of tasks, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskList {
    /// The tasks.
    pub tasks: Vec<TaskView>,
    /// Where the next page begins; null: this was the last.
    pub next_cursor: Option<String>,
}

/// One event, as the data of a server-sent event. Fields that say nothing are left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventView {
    /// What to go on from; none: the store has not taken it yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What happened: a name that does not change.
    pub name: String,
    /// When.
    pub at: String,
    /// To which task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// To which of its attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How that attempt ended, where the event tells its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The command's exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// More about it: an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// One queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueView {
    /// Its name.
    pub name: String,
    /// Nothing is started from it.
    pub paused: bool,
    /// Tasks waiting: scheduled, queued and held.
    pub waiting: u64,
    /// Tasks running.
    pub running: u64,
}

/// All queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueList {
    /// By name.
    pub queues: Vec<QueueView>,
}

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// The gateway's process id.
    pub pid: u32,
    /// The supervisor's; null without one.
    pub supervisor_pid: Option<u32>,
    /// The program's version.
    pub version: String,
    /// Seconds since the gateway started.
    pub uptime_s: f64,
    /// How process trees are kept together: `cgroup2`, `cgroup1` or `rlimit`.
    pub isolation: String,
    /// The layers, each an object with at least `state`.
    pub layers: Layers,
    /// New work is being refused.
    pub shedding: bool,
}

/// The layers of the gateway. Each is an object with `state`, and figures of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layers {
    /// Requests.
    pub gateway: Value,
    /// `queued` (all that waits), `running`, `limit`.
    pub queue: Value,
    /// Processes.
    pub workers: Value,
    /// The database.
    pub store: Value,
    /// The cache of results.
    pub cache: Value,
    /// The resource monitor.
    pub monitor: Value,
}
