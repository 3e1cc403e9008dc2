//! How an attempt was claimed and how it ended, as its shim saw it.

use serde::{Deserialize, Serialize};

use super::Isolation;

/// The content of a claim file. The file is locked (`flock`) for as long as its shim lives: the lock decides whether
/// the shim is alive, the pid serves only for signals through a pidfd, after its start time was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// [`super::PROTOCOL_VERSION`].
    pub v: u16,
    /// The fencing token.
    pub token: String,
    /// The kernel's boot id; another one means that nothing of this attempt can be alive.
    pub boot_id: String,
    /// `None`: a gateway's void claim; the attempt never started and never will under this token.
    pub shim: Option<ClaimedBy>,
}

/// The shim behind a claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimedBy {
    /// Its process id.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks since boot.
    pub start_ticks: u64,
    /// Where its tree is: a later gateway may run elsewhere and would look for the groups in another place.
    pub isolation: Isolation,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReport {
    /// [`super::PROTOCOL_VERSION`].
    pub v: u16,
    /// The task's id.
    pub task: String,
    /// The attempt's number.
    pub attempt: u32,
    /// The fencing token: a settlement is refused if it is not the current one.
    pub token: String,
    /// Why it ended.
    pub cause: Cause,
    /// The command's exit code, if it exited by itself, also after SIGTERM.
    pub exit_code: Option<i32>,
    /// The signal that ended the command.
    pub signal: Option<i32>,
    /// When the command was started, milliseconds since the Unix epoch; `None` if it was not.
    pub started_at_ms: Option<i64>,
    /// When it ended, milliseconds since the Unix epoch.
    pub ended_at_ms: i64,
    /// Running time on the clock that does not step, in milliseconds; without the time it was frozen.
    pub running_ms: u64,
    /// The most memory the tree held at once, in bytes; of its largest process where there is no group.
    pub peak_memory_bytes: Option<u64>,
    /// CPU time of the whole tree, in milliseconds.
    pub cpu_ms: u64,
    /// It met its limit of processes; `None`: it did not, or has none. Since version 3.
    pub pids_refused: Option<PidsRefused>,
    /// Standard output.
    pub stdout: StreamReport,
    /// Standard error.
    pub stderr: StreamReport,
    /// Bytes in the interleave file; 0: there is none, because at most one stream spoke.
    pub interleave_bytes: u64,
    /// The result file, if the command wrote one.
    pub result: Option<ResultReport>,
}

/// A tree that wanted more processes than it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PidsRefused {
    /// The limit: processes and threads at once.
    pub limit: u64,
    /// How often the kernel refused another one.
    pub times: u64,
}

/// Why an attempt ended. What the shim did itself is never told as the command's own doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// By itself, with an exit code.
    Exited,
    /// By a signal that the shim did not send.
    Signalled,
    /// Ended by the shim: its time was up.
    TimedOut,
    /// Ended by the shim: the gateway asked.
    Cancelled,
    /// Ended by the kernel, or by the shim on the kernel's word: the tree's memory limit.
    OomKilled {
        /// The limit, in bytes.
        limit_bytes: u64,
    },
    /// Never ran.
    NotStarted(NotStarted),
}

/// Why a command could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotStarted {
    /// The step that failed.
    pub step: StartStep,
    /// The system's error number.
    pub errno: i32,
    /// For the client: names what was not found, and where.
    pub message: String,
}

/// The steps of a start that can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// The directory to run in: exit code 125.
    Directory,
    /// The program does not exist: exit code 127.
    NotFound,
    /// The program exists and cannot be run: exit code 126.
    NotExecutable,
    /// Groups, pipes, files, processes: chitin's own trouble, exit code 125; worth another try.
    Machinery,
}

/// One output stream. Its bytes stand in segment files named by the logical offset they start at.
///
/// Between the streams, the file [`super::names::INTERLEAVE`] tells the order of receipt: little-endian `u64`s, each
/// `length << 1 | stream` (0: stdout, 1: stderr), for the bytes of both streams from the beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// All bytes the command wrote.
    pub total_bytes: u64,
    /// What was kept, in order; a gap between two segments was left out.
    pub segments: Vec<SegmentReport>,
}

/// One segment of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentReport {
    /// Logical offset of its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// CRC-32 (IEEE) of its bytes.
    pub crc32: u32,
}

/// The result file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultReport {
    /// Bytes kept.
    pub len: u64,
    /// CRC-32 (IEEE) of them.
    pub crc32: u32,
    /// There were more.
    pub truncated: bool,
}
