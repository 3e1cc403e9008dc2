//! Finding an attempt again after the gateway's death: who claimed it, does its shim live, what did it leave.
//!
//! The order of the questions is the order of trust: the claim (who), the boot id (can anything live), the lock (does
//! the shim live), the record (how it ended). Pids are never asked.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use chitin_proto::shim::{
    Claim, ClaimedBy, EXIT_RECORD_BYTES, ExitReport, PROTOCOL_VERSION, decode_exit_record, names,
};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with};
use rustix::process::Signal;

use crate::proc;
use crate::spool::Spool;

/// What was found of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nobody has claimed it: it was not started, and a straggler still may. [`void`] it. If the attempt is of another
    /// boot, that says nothing: claims are not made durable.
    NoClaim,
    /// Voided: it never started under this token and never will.
    Void,
    /// Its shim lives: [`connect`] and attach.
    Alive,
    /// Its shim is dead, in this boot. Without a record: [`crate::tree::end`] what is left, then it is lost.
    Dead {
        /// How it ended, if the shim could still say so.
        record: Option<ExitReport>,
        /// Its claim; says where the tree is.
        claim: Claim,
    },
    /// The machine was started anew since: nothing of it lives.
    OtherBoot {
        /// How it ended, if it had.
        record: Option<ExitReport>,
    },
}

/// Looks at an attempt's spool folder. A folder that is not there is [`Found::NoClaim`].
///
/// # Errors
/// The claim or the record exists and cannot be read: the disk's trouble, which says nothing about the attempt.
pub fn probe(spool_dir: &Path, token: &str, current_boot_id: &str) -> io::Result<Found> {
    let (file, claim) = match open_claim(spool_dir, token)? {
        None => return Ok(Found::NoClaim),
        Some((file, claim)) => (file, claim),
    };
    let Some(claim) = claim else {
        // A claim is whole before it has its name; only a power cut leaves it torn.
        return Ok(Found::OtherBoot { record: record(spool_dir, token)? });
    };
    if claim.shim.is_none() {
        return Ok(Found::Void);
    }
    if claim.boot_id != current_boot_id {
        return Ok(Found::OtherBoot { record: record(spool_dir, token)? });
    }
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Ok(Found::Alive),
        Err(TryLockError::Error(e)) => Err(e),
        // The record is read after the lock was seen free: a shim writes it before it ends.
        Ok(()) => Ok(Found::Dead { record: record(spool_dir, token)?, claim }),
    }
}

/// The claim of a shim that lives in this folder, under whatever token: for whoever knows that the attempt has ended.
///
/// # Errors
/// The folder or a claim exists and cannot be read.
pub fn living(spool_dir: &Path) -> io::Result<Option<Claim>> {
    for entry in fs::read_dir(spool_dir)? {
        let name = entry?.file_name();
        let Some(token) = name.to_str().and_then(|name| name.strip_prefix("claim-")) else { continue };
        let Some((file, Some(claim))) = open_claim(spool_dir, token)? else { continue };
        if claim.shim.is_some() && matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            return Ok(Some(claim));
        }
    }
    Ok(None)
}

/// The claims of shims of this boot that were killed in this folder: one that leaves by itself takes its socket along. What
/// they had started may still run.
///
/// # Errors
/// The folder or a claim exists and cannot be read.
pub fn killed(spool_dir: &Path, current_boot_id: &str) -> io::Result<Vec<Claim>> {
    let mut killed = Vec::new();
    if !fs::exists(spool_dir.join(names::SOCKET))? {
        return Ok(killed);
    }
    for entry in fs::read_dir(spool_dir)? {
        let name = entry?.file_name();
        let Some(token) = name.to_str().and_then(|name| name.strip_prefix(names::CLAIM)) else { continue };
        let Some((file, Some(claim))) = open_claim(spool_dir, token)? else { continue };
        let is_ours = claim.shim.is_some() && claim.boot_id == current_boot_id;
        if is_ours && file.try_lock_shared().is_ok() {
            killed.push(claim);
        }
    }
    Ok(killed)
}

/// The claim file and its content, if it can be understood.
fn open_claim(spool_dir: &Path, token: &str) -> io::Result<Option<(File, Option<Claim>)>> {
    let file = match File::open(spool_dir.join(names::claim(token))) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::new();
    (&file).take(crate::limits::CONTROL_FILE_BYTES).read_to_end(&mut bytes)?;
    let claim = serde_json::from_slice::<Claim>(&bytes).ok().filter(|c| c.token == token);
    Ok(Some((file, claim)))
}

/// Whether a claim is one of a shim that is gone.
///
/// # Errors
/// It cannot be read.
pub fn is_over(claim: &Path) -> io::Result<bool> {
    let mut file = File::open(claim)?;
    let mut bytes = Vec::new();
    (&mut file).take(crate::limits::CONTROL_FILE_BYTES).read_to_end(&mut bytes)?;
    let claim = serde_json::from_slice::<Claim>(&bytes).ok();
    Ok(claim.is_some_and(|claim| claim.shim.is_some()) && file.try_lock_shared().is_ok())
}

/// The exit record, if there is a whole one of this token.
fn record(spool_dir: &Path, token: &str) -> io::Result<Option<ExitReport>> {
    let file = match File::open(spool_dir.join(names::EXIT_RECORD)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = Vec::with_capacity(EXIT_RECORD_BYTES);
    let most = u64::try_from(EXIT_RECORD_BYTES).unwrap_or(u64::MAX);
    file.take(most).read_to_end(&mut bytes)?;
    Ok(decode_exit_record(&bytes).ok().filter(|report| report.token == token))
}

/// Who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voided {
    /// The attempt is void: no shim will ever start it under this token.
    Voided,
    /// A shim was faster: it runs, or ran.
    LostToClaim,
}

/// Links a void claim. Doing it again is the same.
///
/// # Errors
/// `NotFound`: the folder is not there, so no shim can claim it either (it never makes one). Others: the disk.
pub fn void(spool_dir: &Path, token: &str, boot_id: &str) -> io::Result<Voided> {
    let claim =
        Claim { v: PROTOCOL_VERSION, token: token.to_owned(), boot_id: boot_id.to_owned(), shim: None };
    let draft = spool_dir.join(format!("void.{}", std::process::id()));
    fs::write(&draft, serde_json::to_vec(&claim)?)?;
    let linked = fs::hard_link(&draft, spool_dir.join(names::claim(token)));
    let _ = fs::remove_file(&draft);
    match linked {
        Ok(()) => Ok(Voided::Voided),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            let there = open_claim(spool_dir, token)?.and_then(|(_, claim)| claim);
            let void = there.is_some_and(|c| c.shim.is_none());
            Ok(if void { Voided::Voided } else { Voided::LostToClaim })
        }
        Err(e) => Err(e),
    }
}

/// Connects to an attempt's shim, however deep its folder lies, and waits for nothing: one that hangs takes nobody from its
/// backlog. Say [`chitin_proto::shim::ToShim::Attach`] first. The socket is blocking.
///
/// # Errors
/// `NotFound` or `ConnectionRefused`: the shim has ended, or has not come to listen yet: [`probe`] again. `WouldBlock`: too many
/// wait for it already.
pub fn connect(spool_dir: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let folder = Spool::open(spool_dir)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(folder.at(names::SOCKET))?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Whether a hung shim that waits in the kernel, for a disk as a rule, is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InKernel {
    /// Not yet: the signal would find it when the disk is back, and it well again.
    Spare,
    /// It is: nobody wants the attempt to go on.
    Kill,
}

/// What became of the wish to kill a hung shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Killed {
    /// It was sent SIGKILL: its lock is free as soon as it has died. [`probe`] then.
    Signalled,
    /// It waits in the kernel, and was spared.
    Spared,
    /// There is no such shim: it is dead, or has not claimed the attempt. [`probe`] says which.
    Nobody,
}

/// Kills the shim that holds the claim of `token` and does not answer. Its lock says that it lives; the pid in the claim serves to
/// find it, held by a pidfd while its start time is compared, and counts for nothing in another boot.
///
/// # Errors
/// The claim exists and cannot be read.
pub fn kill(spool_dir: &Path, token: &str, current_boot_id: &str, in_kernel: InKernel) -> io::Result<Killed> {
    let Some((file, Some(claim))) = open_claim(spool_dir, token)? else { return Ok(Killed::Nobody) };
    let lives = || matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let Some(ClaimedBy { pid, start_ticks, .. }) = claim.shim else { return Ok(Killed::Nobody) };
    if claim.boot_id != current_boot_id || !lives() {
        return Ok(Killed::Nobody);
    }
    let mut is_spared = false;
    let is_it = || {
        let found = proc::stat(pid).filter(|found| found.start_ticks == start_ticks && !found.is_zombie());
        is_spared = found.is_some_and(|found| found.waits_in_kernel()) && in_kernel == InKernel::Spare;
        found.is_some() && !is_spared && lives()
    };
    let was_sent = proc::signal_if(pid, &[Signal::KILL], is_it);
    Ok(if was_sent {
        Killed::Signalled
    } else if is_spared {
        Killed::Spared
    } else {
        Killed::Nobody
    })
}

/// Kills what hangs in this folder and has not claimed the attempt, which was voided: it would never start anything. A shim names
/// its folder as its argument; one that rested there has another claim.
///
/// # Errors
/// The folder or a claim exists and cannot be read.
pub fn kill_unclaimed(spool_dir: &Path, current_boot_id: &str) -> io::Result<()> {
    if let Some(claim) = living(spool_dir)? {
        kill(spool_dir, &claim.token, current_boot_id, InKernel::Kill)?;
    }
    let arguments = [b"chitin-shim\0", spool_dir.as_os_str().as_bytes(), b"\0"].concat();
    for pid in proc::with_arguments(&arguments) {
        proc::signal_if(pid, &[Signal::KILL], || proc::has_arguments(pid, &arguments));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn void_is_said_once_and_stands() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(probe(dir.path(), "t", "boot").unwrap(), Found::NoClaim);
        assert_eq!(void(dir.path(), "t", "boot").unwrap(), Voided::Voided);
        assert_eq!(void(dir.path(), "t", "boot").unwrap(), Voided::Voided);
        assert_eq!(probe(dir.path(), "t", "boot").unwrap(), Found::Void);
        assert_eq!(probe(dir.path(), "other", "boot").unwrap(), Found::NoClaim);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_torn_claim_is_of_another_boot() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("claim-t"), b"").unwrap();
        assert_eq!(probe(dir.path(), "t", "boot").unwrap(), Found::OtherBoot { record: None });
        assert_eq!(void(dir.path(), "t", "boot").unwrap(), Voided::LostToClaim);
    }

    #[test]
    fn a_folder_that_is_gone_cannot_be_voided() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        assert_eq!(probe(&gone, "t", "boot").unwrap(), Found::NoClaim);
        assert_eq!(void(&gone, "t", "boot").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
