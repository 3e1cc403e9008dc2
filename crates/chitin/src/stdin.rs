//! Standard input as a part of a task: read whole before the task is submitted, because it is stored with it. Only a
//! pipe, a socket or a file is read; a terminal belongs to the person, and `/dev/null` says that there is nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use chitin_proto::http::MAX_TASK_BODY_BYTES;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;

use crate::args;
use crate::failure::Failure;
use crate::out;

/// How long it is waited for the first byte before saying so.
const SILENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// What there is on standard input.
pub(crate) fn read() -> Result<Option<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    let failed = |error: io::Error| Failure::other(format!("cannot read standard input: {error}"));
    let kind =
        FileType::from_raw_mode(rustix::fs::fstat(&stdin).map_err(|error| failed(error.into()))?.st_mode);
    match kind {
        FileType::CharacterDevice => return Ok(None),
        FileType::Directory => {
            return Err(Failure::usage("standard input is a directory; allowed: a pipe or a file")
                .hint("send none with -n"));
        }
        FileType::Fifo | FileType::Socket => mention_silence(&stdin),
        _ => {}
    }
    // A handle of its own: the buffered one would read ahead for nobody.
    let file = File::from(stdin.as_fd().try_clone_to_owned().map_err(failed)?);
    let mut input = Vec::new();
    file.take(MAX_TASK_BODY_BYTES + 1).read_to_end(&mut input).map_err(failed)?;
    if u64::try_from(input.len()).is_ok_and(|length| length > MAX_TASK_BODY_BYTES) {
        return Err(args::too_large());
    }
    Ok((!input.is_empty()).then_some(input))
}

/// Says that it is waited for, if nothing comes for a while: a forgotten pipe looks like a hung program.
fn mention_silence(stdin: &io::Stdin) {
    let mut fds = [PollFd::new(stdin, PollFlags::IN)];
    if matches!(poll(&mut fds, Some(&SILENCE)), Ok(0)) {
        out::remark("waiting for standard input, which goes to the command; -n sends none");
    }
}
