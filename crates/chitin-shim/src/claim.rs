//! The claim: the one moment that decides who owns an attempt. A shim links a locked file to the claim's name before
//! it starts anything; a recovering gateway that finds no claim links a void one. Whoever comes second obeys.

use std::fs::File;
use std::io::{self, Write};

use chitin_failpoints::{failpoint, planted};
use chitin_proto::shim::{Claim, ClaimedBy, Order, PROTOCOL_VERSION, names};
use nix::fcntl::OFlag;

use crate::proc;
use crate::spool::Spool;

/// Who owns the attempt.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// This shim, for as long as the file is open: the lock says that it lives.
    Ours(File),
    /// Somebody linked first.
    Void,
}

/// Claims the attempt. The lock is taken before the name exists: a claim that can be read and is not locked belongs
/// to a dead shim. Nothing is made durable: after a power cut another boot id says that nobody lives.
pub(crate) fn claim(spool: &Spool, order: &Order) -> io::Result<Claimed> {
    let pid = std::process::id();
    let stat = proc::stat(pid).ok_or_else(|| io::Error::other("cannot read its own start time"))?;
    let claim = Claim {
        v: PROTOCOL_VERSION,
        token: order.token.clone(),
        boot_id: order.boot_id.clone(),
        shim: Some(ClaimedBy { pid, start_ticks: stat.start_ticks, isolation: order.isolation.clone() }),
    };
    let draft = format!("claim.{pid}");
    let mut file = spool.open_file(&draft, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
    file.write_all(&serde_json::to_vec(&claim)?)?;
    file.try_lock().map_err(io::Error::from)?;
    failpoint!("shim.claim.link.before");
    if planted!("start-without-claim") {
        return Ok(Claimed::Ours(file));
    }
    let linked = spool.link(&draft, &names::claim(&order.token));
    let _ = spool.remove_file(&draft);
    match linked {
        Ok(()) => Ok(Claimed::Ours(file)),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(Claimed::Void),
        Err(e) => Err(e),
    }
}
