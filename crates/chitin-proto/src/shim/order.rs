//! The order: all that a shim needs to run one attempt, so that it needs nobody after it was started.
//!
//! It travels as the shim's standard input, a memory file sealed against change. Standard output is the shim's end of
//! a socket pair to the gateway, standard error is the command's standard input (a second sealed memory file, or
//! `/dev/null`): three descriptors are what `posix_spawn` passes without a `fork` of the gateway.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{OLDEST_VERSION, PROTOCOL_VERSION};

/// Everything about one attempt. Its spool folder is the shim's first argument and must exist: a shim never makes it,
/// so that a straggler cannot run an attempt whose folder has been swept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// [`PROTOCOL_VERSION`].
    pub v: u16,
    /// The task's id, hyphenated.
    pub task: String,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The fencing token of this lease, 32 hexadecimal digits.
    pub token: String,
    /// The epoch of the gateway that gave the order.
    pub epoch: u64,
    /// The kernel's boot id, written into the claim.
    pub boot_id: String,
    /// Program and arguments; never empty.
    pub command: Vec<String>,
    /// The whole environment, but for what only the shim knows (`CHITIN_SOCKET`, `CHITIN_RESULT_FILE`).
    pub env: Vec<(String, String)>,
    /// The directory to run in; `None`: a scratch directory inside the spool folder.
    pub cwd: Option<PathBuf>,
    /// Both streams into one pipe, as standard output.
    pub merge: bool,
    /// Running time after which the tree is ended, in milliseconds; `None`: no limit.
    pub timeout_ms: Option<u64>,
    /// From SIGTERM to SIGKILL, in milliseconds.
    pub grace_ms: u64,
    /// What the kernel enforces.
    pub limits: ResourceLimits,
    /// Where the process tree is kept together.
    pub isolation: Isolation,
    /// A stream is kept as its first segment and its last two, of this many bytes each.
    pub segment_bytes: u64,
    /// A longer result file is cut.
    pub result_max_bytes: u64,
}

/// Limits of the whole process tree, and what each process in it inherits; `None`: not limited here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Memory of the tree, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once.
    pub pids: Option<u64>,
    /// CPU time a second, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// The size of a file that a process writes, in bytes. Since version 3.
    pub file_bytes: Option<u64>,
    /// Descriptors that a process has open at once; `None`: as the shim. Since version 3.
    pub open_files: Option<u64>,
    /// Niceness beyond the shim's own, where no group weighs the tree's CPU time. Since version 3.
    #[serde(default)]
    pub nice: u8,
}

/// The means of keeping a process tree together, best first. Each path is a group made for this attempt alone, by the
/// shim, and removed by it once empty; its parent exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tier", rename_all = "lowercase")]
pub enum Isolation {
    /// One group of the unified hierarchy with memory, pids and cpu delegated.
    Cgroup2 {
        /// The attempt's group.
        group: PathBuf,
    },
    /// Controllers of version 1, and a leaf of version 2 beside them for kill and freeze where it is mounted.
    Cgroup1 {
        /// Under the memory controller.
        memory: Option<PathBuf>,
        /// Under the pids controller; made only if the order limits processes.
        pids: Option<PathBuf>,
        /// Under the cpu controller.
        cpu: Option<PathBuf>,
        /// In the version 2 tree: kill, freeze, CPU time used.
        unified: Option<PathBuf>,
    },
    /// Neither: the parent-death signal, and a scan of `/proc` for the attempt's environment. Best effort.
    Rlimit,
}

/// Why an order cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Not the JSON of an order.
    #[error("the order is not readable")]
    Malformed(#[from] serde_json::Error),
    /// From a gateway of another age.
    #[error("the order has version {found}; this shim reads {OLDEST_VERSION} to {PROTOCOL_VERSION}")]
    Version {
        /// The order's version.
        found: u16,
    },
    /// Nothing to run.
    #[error("the order names no command")]
    NoCommand,
}

impl Order {
    /// The bytes for the sealed memory file.
    ///
    /// # Errors
    /// A path that is not UTF-8 cannot be written.
    pub fn encode(&self) -> Result<Vec<u8>, OrderError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads and checks an order.
    ///
    /// # Errors
    /// See [`OrderError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, OrderError> {
        let order: Self = serde_json::from_slice(bytes)?;
        if !(OLDEST_VERSION..=PROTOCOL_VERSION).contains(&order.v) {
            return Err(OrderError::Version { found: order.v });
        }
        if order.command.is_empty() {
            return Err(OrderError::NoCommand);
        }
        Ok(order)
    }
}
