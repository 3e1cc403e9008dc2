//! A new supervisor for a gateway that lost its own: `chitin up --adopt`, which gets the listening sockets and all it has
//! to know in one message on its standard input, with a socket on which this gateway is heard, and answers.
//!
//! kill -9 of the gateway before the answer: the new supervisor knows it by the socket, sees that it is gone, and starts the
//! next one. Killed itself, or too late with its answer: the gateway ends it and starts another.

use std::io::{self, BufRead, BufReader, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chitin_proto::supervisor::{Adopted, Handover};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long it may take to answer. A machine under load takes some seconds to start a program.
const ANSWER: Duration = Duration::from_secs(20);

/// One that answered.
pub(super) struct Raised {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// Starts one and hands everything over; with where it hears this gateway.
pub(super) fn raise(
    program: &Path,
    handover: &Handover,
    sockets: &[OwnedFd],
) -> io::Result<(Raised, UnixDatagram)> {
    let (ours, theirs) = UnixStream::pair()?;
    #[expect(clippy::disallowed_methods, reason = "the one place that starts supervisors")]
    let mut child = Command::new(program)
        .args(["up", "--adopt"])
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()?;
    chitin_shim::descriptors::restore(child.id());
    let handed_over = hand_over(&child, &ours, handover, sockets);
    if handed_over.is_err() {
        // Whatever it is doing: one that answers later would supervise a gateway that does not report to it.
        _ = child.kill();
    }
    handed_over
}

fn hand_over(
    child: &Child,
    ours: &UnixStream,
    handover: &Handover,
    sockets: &[OwnedFd],
) -> io::Result<(Raised, UnixDatagram)> {
    // Opened before it answers: if it does, this is it.
    let pid = Pid::from_child(child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let mut text = serde_json::to_vec(handover)?;
    text.push(b'\n');
    let (notify, its_end) = UnixDatagram::pair()?;
    let passed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).chain([its_end.as_fd()]).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&passed)) {
        return Err(io::Error::other("more sockets than a supervisor takes"));
    }
    // Shorter than any socket's buffer: sent whole, or not at all.
    sendmsg(ours, &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
    ours.set_read_timeout(Some(ANSWER))?;
    let mut line = String::new();
    BufReader::new(ours).read_line(&mut line)?;
    let Adopted {} = serde_json::from_str(&line)?;
    Ok((Raised { pid: child.id(), pidfd }, notify))
}
