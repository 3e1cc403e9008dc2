//! Rest: a shim whose attempt is settled waits in the emptied folder for another order, and so spares the next attempt a
//! process, a folder, a socket and the room for an exit record.
//!
//! Another attempt must find what it would find with a fresh shim in a fresh folder. So a shim rests only after an
//! ordinary life: its gateway asked, nothing of the tree is left, nobody else is connected, its own is the only claim in the
//! folder, and all that the command left there could be removed. Else it leaves, as one that was not asked.
//!
//! Its old claim stays, locked, until it becomes the new one: whoever voided the new attempt meanwhile has that name.
//!
//! `kill -9` while it rests: nothing is under way. After its gateway sent an order: the connection closes, there is no
//! claim, and the attempt begins anew under another token.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use chitin_proto::shim::{FromShim, PROTOCOL_VERSION};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use crate::claim::OldClaim;
use crate::conn::Conn;
use crate::request;
use crate::spool::Spool;

/// What a shim keeps from one attempt for the next.
pub(crate) struct Rest {
    pub(crate) spool: Spool,
    pub(crate) signals: SignalFd,
    pub(crate) gateway: Conn,
    pub(crate) claim: OldClaim,
    pub(crate) draft: File,
    pub(crate) listener: UnixListener,
}

/// An order that came.
pub(crate) struct Woken {
    pub(crate) rest: Rest,
    /// The folder's name by now.
    pub(crate) spool_dir: PathBuf,
    pub(crate) order: File,
    pub(crate) stdin: OwnedFd,
}

impl Rest {
    /// Says so and waits; `None`: there is no order to come. Without a limit: a gateway that is gone has closed its end.
    pub(crate) fn wait(mut self) -> Option<Woken> {
        self.gateway.send(&FromShim::Resting { v: PROTOCOL_VERSION }).ok()?;
        let mut fds = [PollFd::new(self.gateway.fd(), PollFlags::POLLIN)];
        while poll(&mut fds, PollTimeout::NONE).is_err() {}
        let (spool_dir, [order, stdin]) = request::receive(self.gateway.fd().as_fd()).ok()??;
        Some(Woken { rest: self, spool_dir, order: order.into(), stdin })
    }
}
