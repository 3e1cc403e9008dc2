//! How a shim is asked for: one message with its spool folder, and the descriptors it needs. To a fork server these are
//! what a shim is born with; to a shim that rests, its order and its command's standard input.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use crate::limits;

/// The most descriptors a request brings: order, socket, standard input.
const MOST: usize = 3;

/// Asks. A folder's path is short enough to go in one piece.
pub(crate) fn send<const N: usize>(
    connection: BorrowedFd<'_>,
    spool_dir: &Path,
    descriptors: &[BorrowedFd<'_>; N],
) -> Result<(), Errno> {
    const { assert!(N <= MOST) };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(descriptors));
    let folder = [IoSlice::new(spool_dir.as_os_str().as_bytes())];
    rustix::io::retry_on_intr(|| sendmsg(connection, &folder, &mut control, SendFlags::NOSIGNAL)).map(|_| ())
}

/// The next request; `None`: the gateway is gone, or says what is none.
pub(crate) fn receive<const N: usize>(
    connection: BorrowedFd<'_>,
) -> Result<Option<(PathBuf, [OwnedFd; N])>, Errno> {
    const { assert!(N <= MOST) };
    let mut folder = [0; limits::PATH_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::io::retry_on_intr(|| {
        recvmsg(connection, &mut [IoSliceMut::new(&mut folder)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::with_capacity(MOST);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            descriptors.extend(some);
        }
    }
    let folder = folder.get(..got.bytes).unwrap_or_default();
    let folder = PathBuf::from(std::ffi::OsStr::from_bytes(folder));
    Ok(descriptors.try_into().ok().map(|descriptors| (folder, descriptors)))
}
