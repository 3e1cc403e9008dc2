//! The public contract: bodies of requests and answers. Times are RFC 3339 in UTC, durations are seconds (fractions
//! allowed) in fields that end in `_s`, sizes are bytes in fields that end in `_bytes`, ids are UUIDv7.

mod object;
mod problem;
mod request;
mod view;

pub use object::Object;
pub use problem::{CODES, Code, PROBLEM_CONTENT_TYPE, Problem};
pub use request::{BulkRequest, EnvVars, RetryRequest, Stdin, TaskRequest};
pub use view::{
    AttemptView, BulkAccepted, EventView, Layers, QueueList, QueueView, RetryView, StatusView, Submitted,
    TaskList, TaskView,
};

/// The most bytes a single task's body may have (R2.2).
pub const MAX_TASK_BODY_BYTES: u64 = 10_000_000;
/// The most bytes a bulk body may have.
pub const MAX_BULK_BODY_BYTES: u64 = 16_000_000;
/// The most tasks in one bulk body.
pub const MAX_BULK_TASKS: usize = 1_000;
/// The longest long poll, in seconds.
pub const MAX_WAIT_S: u64 = 60;
