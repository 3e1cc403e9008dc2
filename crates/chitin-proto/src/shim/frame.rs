//! Frames on the socket between gateway and shim: one JSON object a line, bounded.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::ExitReport;

/// The longest frame, newline included. An exit report has a fixed shape of some 2 KiB at most, the message of a failed
/// start included (a path is at most 4 KiB); what is longer is not ours.
pub const MAX_FRAME_BYTES: usize = 16 * 1024;

/// From the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToShim {
    /// The first frame of a gateway that found a running shim; the highest epoch is obeyed, lower ones are closed.
    /// On the socket pair a shim is born with, the order's epoch stands for it.
    Attach {
        /// [`super::PROTOCOL_VERSION`].
        v: u16,
        /// The gateway's epoch.
        epoch: u64,
    },
    /// End the tree: SIGTERM, grace, SIGKILL. Repeating it changes nothing.
    Cancel,
    /// Stop the tree where it is; its timeout stands still. Repeating it changes nothing, and `Cancel` undoes it.
    /// Since version 2: a shim of version 1 takes it for no frame.
    Pause,
    /// Let the tree go on. Repeating it changes nothing. Since version 2.
    Resume,
    /// The end is committed: nothing more is needed from the shim.
    Settled,
    /// The end is committed, and nothing in the folder is needed: the shim may stay and wait there for another order.
    /// Only said to a shim that this gateway started.
    Rest,
}

/// From the shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromShim {
    /// The claim was lost: this attempt never started under this token and never will.
    Void {
        /// [`super::PROTOCOL_VERSION`].
        v: u16,
    },
    /// The command runs. Also the answer to `Attach` while it does.
    Started {
        /// The version its shim speaks: what later ones brought is not said to it.
        v: u16,
        /// The shim's process id.
        shim_pid: u32,
        /// The command's process id.
        pid: u32,
        /// When it was started, milliseconds since the Unix epoch.
        started_at_ms: i64,
    },
    /// It ended. Also the answer to `Attach` afterwards.
    Ended(Box<ExitReport>),
    /// The answer to `Rest` of a shim that stays: its folder holds what a fresh one may hold, and the next message over
    /// this connection is an order. One that does not stay closes the connection.
    Resting {
        /// [`super::PROTOCOL_VERSION`].
        v: u16,
    },
}

/// Why a line is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {bytes} bytes; {MAX_FRAME_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON of a frame.
    #[error("not a frame")]
    Malformed(#[from] serde_json::Error),
}

/// One line, newline included.
///
/// # Errors
/// A frame that would be too long to be read.
pub fn encode_frame<T: Serialize>(frame: &T) -> Result<Vec<u8>, FrameError> {
    let mut line = serde_json::to_vec(frame)?;
    line.push(b'\n');
    if line.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes: line.len() });
    }
    Ok(line)
}

/// Reads one line, with or without its newline.
///
/// # Errors
/// See [`FrameError`].
pub fn decode_frame<T: DeserializeOwned>(line: &[u8]) -> Result<T, FrameError> {
    if line.len() > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong { bytes: line.len() });
    }
    Ok(serde_json::from_slice(line)?)
}
