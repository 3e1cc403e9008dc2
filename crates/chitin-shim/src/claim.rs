//! The claim: the one moment that decides who owns an attempt. A shim gives a locked file the claim's name before it
//! starts anything, if nobody has that name; a recovering gateway that finds no claim links a void one. Whoever comes
//! second obeys.
//!
//! A void claim stays as long as its folder has its name. So a shim that comes so late that even the void claim is gone, with all
//! the rest, sees after its own claim that the folder has lost its name, and obeys, too.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

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
    /// Somebody was first.
    Void,
}

/// A claim of an attempt that is settled, still locked: the file serves again under another name.
#[derive(Debug)]
pub(crate) struct OldClaim {
    pub(crate) file: File,
    pub(crate) name: String,
}

/// Claims the attempt. The lock is taken before the name exists: a claim that can be read and is not locked belongs
/// to a dead shim. Nothing is made durable: after a power cut another boot id says that nobody lives.
pub(crate) fn claim(spool: &Spool, order: &Order, old: Option<OldClaim>) -> io::Result<Claimed> {
    let pid = std::process::id();
    let stat = proc::stat(pid).ok_or_else(|| io::Error::other("cannot read its own start time"))?;
    let claim = Claim {
        v: PROTOCOL_VERSION,
        token: order.token.clone(),
        boot_id: order.boot_id.clone(),
        shim: Some(ClaimedBy { pid, start_ticks: stat.start_ticks, isolation: order.isolation.clone() }),
    };
    let draft = match old {
        Some(old) => old,
        None => {
            let name = format!("claim.{pid}");
            let file = spool.open_file(&name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
            file.try_lock().map_err(io::Error::from)?;
            OldClaim { file, name }
        }
    };
    let bytes = serde_json::to_vec(&claim)?;
    draft.file.write_all_at(&bytes, 0)?;
    draft.file.set_len(u64::try_from(bytes.len()).unwrap_or(u64::MAX))?;
    failpoint!("shim.claim.link.before");
    if planted!("start-without-claim") {
        return Ok(Claimed::Ours(draft.file));
    }
    match spool.rename_to_new(&draft.name, &names::claim(&order.token)) {
        Ok(()) if spool.has_its_name() => Ok(Claimed::Ours(draft.file)),
        Ok(()) => {
            let _ = spool.remove_file(&names::claim(&order.token));
            Ok(Claimed::Void)
        }
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let _ = spool.remove_file(&draft.name);
            Ok(Claimed::Void)
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chitin_proto::shim::{Isolation, ResourceLimits};
    use std::fs;

    fn order() -> Order {
        Order {
            v: PROTOCOL_VERSION,
            task: "task".to_owned(),
            attempt: 1,
            token: "token".to_owned(),
            epoch: 1,
            boot_id: "boot".to_owned(),
            command: vec!["true".to_owned()],
            env: Vec::new(),
            cwd: None,
            merge: false,
            timeout_ms: None,
            grace_ms: 1,
            limits: ResourceLimits::default(),
            isolation: Isolation::Rlimit,
            segment_bytes: 1,
            result_max_bytes: 1,
        }
    }

    #[test]
    fn a_folder_whose_removal_began_gives_no_claim_though_nobody_has_the_name() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("1");
        fs::create_dir(&folder).unwrap();
        let late = Spool::open(&folder).unwrap();
        let going = root.path().join("1.going");
        fs::rename(&folder, &going).unwrap();
        assert!(matches!(claim(&late, &order(), None).unwrap(), Claimed::Void));
        assert_eq!(fs::read_dir(&going).unwrap().count(), 0);
        // Nor does another folder of the old name.
        fs::create_dir(&folder).unwrap();
        assert!(matches!(claim(&late, &order(), None).unwrap(), Claimed::Void));
        let there = Spool::open(&folder).unwrap();
        assert!(matches!(claim(&there, &order(), None).unwrap(), Claimed::Ours(_)));
    }
}
