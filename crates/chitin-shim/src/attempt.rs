//! An attempt from the shim's first instruction to its loop: read the order, claim, reserve, listen, group, start.
//! One step, one error. A shim that [rests](crate::rest) and is given another order comes by here again.
//!
//! `kill -9` before the claim: nothing happened, a gateway voids it. After it: the lock is free and there is no
//! record, so a gateway ends the tree (none, if the command was not started yet) and the attempt is lost.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use chitin_failpoints::failpoint;
use chitin_proto::shim::{FromShim, NotStarted, Order, OrderError, PROTOCOL_VERSION, names};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};

use crate::child::{self, OomScore};
use crate::claim::{Claimed, OldClaim, claim};
use crate::conn::Conn;
use crate::groups::Groups;
use crate::machine::{BORN_WITH, Input, Machine};
use crate::memory::MemoryWatch;
use crate::report::Before;
use crate::rest::{Rest, Woken};
use crate::run::{Command, Shim};
use crate::spool::Spool;
use crate::title::Arguments;
use crate::{clock, limits, report, sys};

/// Why a shim ends before its claim. Nothing was started, and a gateway will find no claim.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EarlyError {
    /// The three descriptors it is born with.
    #[error("standard input, output and error are not those a gateway gives")]
    Descriptors(#[source] io::Error),
    /// The order.
    #[error("the order cannot be read")]
    Read(#[source] io::Error),
    /// The order.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Signals, session, subreaper.
    #[error("cannot prepare the process")]
    Process(#[source] Errno),
    /// The attempt was swept.
    #[error("the spool folder is not there")]
    Spool(#[source] io::Error),
    /// The claim.
    #[error("cannot claim the attempt")]
    Claim(#[source] io::Error),
}

/// What the gateway gave.
pub(crate) struct Given {
    /// The sealed memory file.
    pub(crate) order: File,
    /// The other end is the gateway's.
    pub(crate) gateway: UnixStream,
    /// The command's standard input.
    pub(crate) stdin: OwnedFd,
}

/// Lives an attempt to its end, and others after it if its gateway wants that; false if the last one ended before its
/// claim. With `arguments` it can be shown with another folder than the one it was started with: one that cannot serves
/// once.
pub(crate) fn live(
    mut spool_dir: PathBuf,
    given: Result<Given, EarlyError>,
    oom_score: OomScore,
    arguments: Option<Arguments>,
) -> bool {
    let mut life = given.and_then(|given| Life::first(&spool_dir, given));
    loop {
        let ended = life.and_then(|life| life.run(oom_score, arguments.is_some()));
        let woken = match ended {
            Ok(rest) => rest.and_then(Rest::wait),
            Err(e) => {
                complain(&spool_dir, &e);
                return false;
            }
        };
        let (Some(woken), Some(arguments)) = (woken, arguments) else { return true };
        arguments.become_shim(&woken.spool_dir);
        spool_dir.clone_from(&woken.spool_dir);
        life = Life::another(woken);
    }
}

fn complain(spool_dir: &Path, e: &EarlyError) {
    // A folder that is gone was swept: nobody is waiting for a word.
    if let Ok(spool) = Spool::open(spool_dir) {
        let cause = std::error::Error::source(e).map_or_else(String::new, |s| format!(": {s}"));
        spool.log(&format!("not started: {e}{cause}"));
    }
}

/// An attempt before its claim.
struct Life {
    order: Order,
    stdin: OwnedFd,
    spool: Spool,
    signals: SignalFd,
    gateway: Conn,
    kept: Kept,
}

/// What this process has from an attempt before.
#[derive(Default)]
struct Kept {
    claim: Option<OldClaim>,
    draft: Option<File>,
    listener: Option<UnixListener>,
}

impl Life {
    fn first(spool_dir: &Path, Given { order, gateway, stdin }: Given) -> Result<Self, EarlyError> {
        let order = read_order(order)?;
        let signals = prepare_process().map_err(EarlyError::Process)?;
        let spool = Spool::open(spool_dir).map_err(EarlyError::Spool)?;
        let gateway = Conn::new(BORN_WITH, gateway).map_err(EarlyError::Descriptors)?;
        Ok(Self { order, stdin, spool, signals, gateway, kept: Kept::default() })
    }

    fn another(Woken { rest, spool_dir, order, stdin }: Woken) -> Result<Self, EarlyError> {
        let order = read_order(order)?;
        let Rest { spool, signals, gateway, claim, draft, listener } = rest;
        let spool = spool.moved(&spool_dir).map_err(EarlyError::Spool)?;
        let kept = Kept { claim: Some(claim), draft: Some(draft), listener: Some(listener) };
        Ok(Self { order, stdin, spool, signals, gateway, kept })
    }

    fn run(self, oom_score: OomScore, may_rest: bool) -> Result<Option<Rest>, EarlyError> {
        let Self { order, stdin, spool, signals, mut gateway, kept } = self;
        let before = Before::now(kept.claim.is_some());
        failpoint!("shim.claim.before");
        let claim = match claim(&spool, &order, kept.claim).map_err(EarlyError::Claim)? {
            Claimed::Ours(claim) => claim,
            Claimed::Void => {
                // Best effort: who voided it is another gateway, and this one may be gone.
                let _ = gateway.send(&FromShim::Void { v: PROTOCOL_VERSION });
                return Ok(None);
            }
        };
        failpoint!("shim.claim.after");
        let mut shim = Shim {
            machine: Machine::not_started(order.epoch),
            groups: Groups::none(),
            memory: MemoryWatch::none(),
            signals,
            listener: kept.listener,
            conns: vec![gateway],
            claim,
            draft: kept.draft,
            command: None,
            report: None,
            before,
            may_rest,
            spool,
            order,
        };
        let first = match start(&mut shim, &stdin, oom_score) {
            Ok(()) => {
                let started = shim.started();
                let told = started.is_none_or(|s| shim.conns.iter_mut().all(|c| c.send(&s).is_ok()));
                if told { None } else { Some(Input::Lost(BORN_WITH)) }
            }
            Err(why) => {
                shim.groups.remove();
                shim.report = Some(report::not_started(&shim.order, why));
                Some(Input::Collected)
            }
        };
        drop(stdin);
        if shim.command.is_some() {
            // Only what a report needs stays resident; arguments and environment may be megabytes.
            shim.order.env = Vec::new();
            shim.order.command = Vec::new();
        }
        Ok(shim.run(first))
    }
}

fn start(shim: &mut Shim, stdin: &OwnedFd, oom_score: OomScore) -> Result<(), NotStarted> {
    if shim.draft.is_none() {
        let draft = report::reserve(&shim.spool);
        shim.draft = Some(draft.map_err(|e| child::machinery("cannot reserve the exit record", &e))?);
    }
    if shim.listener.is_none() {
        let listener = listen(&shim.spool);
        shim.listener =
            Some(listener.map_err(|e| child::machinery("cannot listen in the spool folder", &e))?);
    }
    shim.groups = Groups::make(&shim.order.isolation, &shim.order.limits)
        .map_err(|e| child::machinery(&e.to_string(), e.source_error()))?;
    shim.memory = MemoryWatch::new(clock::now_ms(), &shim.order.isolation, &shim.order.limits, &shim.groups);
    failpoint!("shim.start.before");
    let running = child::start(&shim.order, &shim.spool, &shim.groups, stdin, oom_score)?;
    failpoint!("shim.start.after");
    shim.groups.close_doors();
    let pid = running.pid;
    let command = Command::new(running, shim.order.segment_bytes).map_err(|e| {
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        child::machinery("cannot prepare the output pipes", &e)
    })?;
    shim.machine =
        Machine::running(clock::now_ms(), shim.order.epoch, shim.order.timeout_ms, shim.order.grace_ms);
    shim.command = Some(command);
    Ok(())
}

/// Makes the kernel prefer others to this process and its copies; what the command has to undo.
pub(crate) fn protect() -> OomScore {
    let file = "/proc/self/oom_score_adj";
    let protected = fs::write(file, limits::SHIM_OOM_SCORE_ADJ).is_ok()
        // Not allowed: but whoever started us may have been protected.
        || fs::read(file).is_ok_and(|score| score.starts_with(b"-"));
    if protected { OomScore::Reset } else { OomScore::Keep }
}

/// Takes what an executed shim is born with from descriptors 0, 1 and 2, out of the command's way.
pub(crate) fn take_descriptors() -> Result<Given, EarlyError> {
    let descriptors = EarlyError::Descriptors;
    let order = io::stdin().as_fd().try_clone_to_owned().map_err(descriptors)?;
    let gateway = io::stdout().as_fd().try_clone_to_owned().map_err(descriptors)?;
    let stdin = io::stderr().as_fd().try_clone_to_owned().map_err(descriptors)?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(descriptors)?;
    let parked = dup2_stdin(&null).and_then(|()| dup2_stdout(&null)).and_then(|()| dup2_stderr(&null));
    parked.map_err(|e| descriptors(e.into()))?;
    Ok(Given { order: order.into(), gateway: gateway.into(), stdin })
}

fn read_order(file: File) -> Result<Order, EarlyError> {
    let mut bytes = Vec::with_capacity(limits::READ_BUFFER_BYTES / 4);
    file.take(limits::ORDER_BYTES).read_to_end(&mut bytes).map_err(EarlyError::Read)?;
    Ok(Order::decode(&bytes)?)
}

/// A session of its own, every orphan of the tree as its child, and no signal but frames that ends it: all are
/// blocked, SIGCHLD is read from a descriptor.
fn prepare_process() -> nix::Result<SignalFd> {
    // A session leader already: also good.
    let _ = setsid();
    prctl::set_child_subreaper(true)?;
    sys::default_sigchld();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// Listens for later gateways, and for the command's own words. The mode is there before the name is. A socket in the way
/// is of a shim that rested here and is gone, since this one has the claim.
fn listen(spool: &Spool) -> io::Result<UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = SocketAddrUnix::new(spool.at(names::SOCKET))?;
    match bind(&socket, &address) {
        Err(rustix::io::Errno::ADDRINUSE) => {
            spool.remove_file(names::SOCKET)?;
            bind(&socket, &address)?;
        }
        other => other?,
    }
    rustix::net::listen(&socket, limits::BACKLOG)?;
    Ok(socket.into())
}
