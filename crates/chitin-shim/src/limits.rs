//! The shim's own numbers: unit, and why not more and why not less. What a client or an operator may choose comes in
//! the order; these are the rest.

/// Read buffer of the output pipes, bytes. A pipe holds 64 KiB by default, so one read empties it; more would only be
/// resident memory of every running task.
pub(crate) const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Reads of each pipe at the very end. Nothing of the tree can write any more, so this many full buffers cover the
/// largest pipe a process may ask for (1 MiB) four times; a foreign writer cannot hold the end up.
pub(crate) const FINAL_READS: usize = 64;

/// The interleave file stops growing here, bytes. 131,072 changes between the streams are more than anybody reads.
pub(crate) const INTERLEAVE_MAX_BYTES: u64 = 1024 * 1024;

/// After a failed write of output, the pause before the disk is tried again, milliseconds: soon enough to lose little,
/// seldom enough that a flood onto a full disk costs no CPU time.
pub(crate) const WRITE_RETRY_MS: u64 = 250;

/// When the command has ended and others remain: how long they may end by themselves, milliseconds. Bash does not wait
/// for `> >(tee log)`; asking at once would cut such output off.
pub(crate) const COURTESY_MS: u64 = 500;

/// From SIGTERM to SIGKILL for what an ended command left behind, milliseconds (never more than the order's grace).
pub(crate) const LINGER_MS: u64 = 2_000;

/// First pause between two rounds of SIGKILL, milliseconds; it doubles up to [`KILL_PAUSE_MAX_MS`].
pub(crate) const KILL_PAUSE_MS: u64 = 10;

/// Longest pause between two rounds of SIGKILL, milliseconds.
pub(crate) const KILL_PAUSE_MAX_MS: u64 = 500;

/// After the first SIGKILL: when the end is told although a process is still there (uninterruptible sleep on a dead
/// disk), milliseconds. Its group stays and is swept later.
pub(crate) const KILL_GIVE_UP_MS: u64 = 30_000;

/// A connection that has not said who it is by then is closed, milliseconds.
pub(crate) const FIRST_FRAME_MS: u64 = 5_000;

/// Connections at once: one gateway, its successor, and two to spare; the rest wait in the backlog.
pub(crate) const CONNECTIONS: usize = 4;

/// Connections that may wait to be accepted: more than [`CONNECTIONS`] leaves to anybody with a reason to come.
pub(crate) const BACKLOG: i32 = 128;

/// The pause between two looks at the tree's memory where no group limits it, milliseconds. A scan costs about 20 µs a
/// process; half a second at 1 GB/s is 500 MB, so this is best effort and reported as such.
pub(crate) const MEMORY_POLL_MS: u64 = 500;

/// The kernel announces an out-of-memory condition of a version 1 group before it kills: pause between two looks at the
/// counter after an announcement, milliseconds.
pub(crate) const OOM_LOOK_MS: u64 = 20;

/// The kernel is asked for announcements once a command has run for so long, milliseconds. To ask, and to take it back,
/// costs more than a short command; a tree of which a process was killed may go on for no longer than this.
pub(crate) const OOM_UNWATCHED_MS: u64 = 100;

/// Looks at the counter after one announcement; then the kernel found memory elsewhere.
pub(crate) const OOM_LOOKS: u32 = 50;

/// The pause between looks where the kernel offers no announcement (real-time kernels), milliseconds.
pub(crate) const OOM_POLL_MS: u64 = 250;

/// How long a child may take from its first instruction to `exec`, seconds. Joining a group waits for the kernel's grace
/// periods (tens of milliseconds); a program on a dead network disk would wait for ever.
pub(crate) const EXEC_WAIT_S: u32 = 30;

/// How long the fork server may take to answer, milliseconds: a fork of a megabyte takes a fraction of one. A machine that
/// thrashes is given time; a server that is stopped must not keep attempts from starting for longer.
pub(crate) const FORK_ANSWER_MS: u16 = 5_000;

/// The longest path of a spool folder that the fork server takes, bytes: `PATH_MAX`, the longest one that exists.
pub(crate) const PATH_BYTES: usize = 4_096;

/// Ending what a dead shim left behind: total time, milliseconds.
pub(crate) const TREE_END_MS: u64 = 5_000;

/// Processes looked at in one walk over a tree; a fork bomb is met in several walks.
pub(crate) const WALK_PROCESSES: usize = 100_000;

/// Depth to which groups inside an attempt's group are removed (a task may make its own).
pub(crate) const GROUP_DEPTH: u32 = 8;

/// The bytes of a small kernel file that are read at most.
pub(crate) const CONTROL_FILE_BYTES: u64 = 1024 * 1024;

/// An order's size at most, bytes: arguments and environment of `execve` are at most 6 MiB, JSON escapes may double it.
pub(crate) const ORDER_BYTES: u64 = 16 * 1024 * 1024;

/// Where a program is searched if the order's environment has no PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The shim's `oom_score_adj`: a shim of 1 MB must not be killed in place of the command it watches.
pub(crate) const SHIM_OOM_SCORE_ADJ: &[u8] = b"-500";

const _: () = assert!(KILL_PAUSE_MS <= KILL_PAUSE_MAX_MS && KILL_PAUSE_MAX_MS < KILL_GIVE_UP_MS);
const _: () = assert!(CONNECTIONS >= 2);
