//! What the gateway and a shim say to each other.
//!
//! - [`Order`]: all a shim needs, written once into a sealed memory file before the shim starts;
//! - [`ToShim`], [`FromShim`]: frames on the socket, one JSON object a line;
//! - [`Claim`]: the file that decides who owns an attempt;
//! - [`ExitReport`]: how the attempt ended, as a frame or, when nobody listens, as the exit record on disk.
//!
//! Every one carries [`PROTOCOL_VERSION`]: a shim outlives upgrades of the gateway. What was said in earlier versions, from
//! [`OLDEST_VERSION`] on, is still understood.
//!
//! | version | brought |
//! |---|---|
//! | 1 | |
//! | 2 | [`ToShim::Pause`], [`ToShim::Resume`] |
//! | 3 | size of files, open files and niceness in [`ResourceLimits`]; [`ExitReport::pids_refused`] |

mod frame;
mod order;
mod record;
mod report;

pub use frame::{FrameError, FromShim, MAX_FRAME_BYTES, ToShim, decode_frame, encode_frame};
pub use order::{Isolation, Order, OrderError, ResourceLimits};
pub use record::{EXIT_RECORD_BYTES, RecordError, decode_exit_record, encode_exit_record};
pub use report::{
    Cause, Claim, ClaimedBy, ExitReport, NotStarted, PidsRefused, ResultReport, SegmentReport, StartStep,
    StreamReport,
};

/// The version of orders, frames and claims written today.
pub const PROTOCOL_VERSION: u16 = 3;

/// The oldest version that is still read.
pub const OLDEST_VERSION: u16 = 1;

/// The first version whose shims understand [`ToShim::Pause`] and [`ToShim::Resume`].
pub const PAUSE_SINCE: u16 = 2;

/// Names inside an attempt's spool folder, `spool/<task>/<attempt>/`.
pub mod names {
    /// The finished exit record.
    pub const EXIT_RECORD: &str = "exit";
    /// The exit record's preallocated place, before it is renamed to [`EXIT_RECORD`].
    pub const EXIT_RECORD_DRAFT: &str = "exit.draft";
    /// The shim's listening socket.
    pub const SOCKET: &str = "shim.sock";
    /// The file a command may write its result to (`CHITIN_RESULT_FILE`).
    pub const RESULT: &str = "result";
    /// The scratch directory of a command that named none.
    pub const SCRATCH: &str = "work";
    /// Its mode.
    pub const SCRATCH_MODE: u32 = 0o700;
    /// The order of receipt between the two streams; see [`super::StreamReport`].
    pub const INTERLEAVE: &str = "interleave";
    /// What a shim could say nowhere else: a line for people.
    pub const SHIM_LOG: &str = "shim.log";

    /// What the name of every claim begins with.
    pub const CLAIM: &str = "claim-";

    /// The name the claim of `token` is linked to.
    #[must_use]
    pub fn claim(token: &str) -> String {
        format!("{CLAIM}{token}")
    }

    /// The file that holds a stream's bytes from logical offset `start` on: `stdout.0`, `stdout.10000000`, ….
    #[must_use]
    pub fn segment(stream: &str, start: u64) -> String {
        format!("{stream}.{start}")
    }
}
