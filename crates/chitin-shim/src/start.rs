//! Starting a shim, for the gateway: an order in a sealed memory file, a socket pair, and a process: a copy of the
//! [`ForkServer`]'s, or one of its own by `posix_spawn`, which costs the same however large the gateway is.

mod server;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use chitin_proto::shim::{Order, OrderError};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{descriptors, title};

pub use server::ForkServer;

/// A shim that was started. Whether it owns the attempt is told by its first frame.
#[derive(Debug)]
pub struct Spawned {
    /// Its process id, if it is known; good for logs, never for signals.
    pub pid: Option<u32>,
    /// The gateway's end of the socket pair: non-blocking, close-on-exec.
    pub socket: UnixStream,
}

/// Why no shim was started. Nothing has run.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The order cannot be written down.
    #[error("the order cannot be encoded")]
    Order(#[from] OrderError),
    /// A memory file for the order or the standard input.
    #[error("cannot make a memory file")]
    Memory(#[source] io::Error),
    /// The socket pair.
    #[error("cannot make a socket pair")]
    Socket(#[source] io::Error),
    /// The process itself.
    #[error("cannot start {}; it lies beside the program `chitin`", program.display())]
    Process {
        /// The shim's binary.
        program: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Starts a shim for an order by executing its program. The spool folder must exist. `stdin` is the command's standard
/// input; `None`: empty.
///
/// The shim is a child of the caller and is not waited for: reap it by [`reap_children`].
///
/// # Errors
/// See [`SpawnError`]. An error means that no shim was started.
pub fn spawn(
    shim_binary: &Path,
    spool_dir: &Path,
    order: &Order,
    stdin: Option<&[u8]>,
) -> Result<Spawned, SpawnError> {
    Parts::new(order, stdin)?.spawn(shim_binary, spool_dir)
}

/// What a shim is born with, and the gateway's end of its socket.
#[derive(Debug)]
struct Parts {
    order: File,
    socket: UnixStream,
    theirs: UnixStream,
    stdin: File,
}

impl Parts {
    fn new(order: &Order, stdin: Option<&[u8]>) -> Result<Self, SpawnError> {
        let order = sealed(c"chitin-order", &order.encode()?).map_err(SpawnError::Memory)?;
        let stdin = match stdin {
            Some(bytes) => sealed(c"chitin-stdin", bytes),
            // Opened here: `Stdio::null` on descriptor 2 would be write-only.
            None => File::open("/dev/null"),
        };
        let stdin = stdin.map_err(SpawnError::Memory)?;
        let (socket, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
        socket.set_nonblocking(true).map_err(SpawnError::Socket)?;
        Ok(Self { order, socket, theirs, stdin })
    }

    /// In the order a shim takes them.
    fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.order.as_fd(), self.theirs.as_fd(), self.stdin.as_fd()]
    }

    /// A process has them, or had: ours are closed, so that a shim that is gone is noticed.
    fn handed_over(self, pid: Option<u32>) -> Spawned {
        Spawned { pid, socket: self.socket }
    }

    fn spawn(self, shim_binary: &Path, spool_dir: &Path) -> Result<Spawned, SpawnError> {
        let failed = |source| SpawnError::Process { program: shim_binary.to_owned(), source };
        let descriptors = [self.order.into(), OwnedFd::from(self.theirs).into(), self.stdin.into()];
        let pid = execute(shim_binary, title::SHIM, [spool_dir.as_os_str()], descriptors).map_err(failed)?;
        Ok(Spawned { pid: Some(pid), socket: self.socket })
    }
}

/// Executes the shim's program under a name, with these descriptors and an empty environment; its process id.
fn execute<const N: usize>(
    shim_binary: &Path,
    name: &CStr,
    arguments: [&OsStr; N],
    [stdin, stdout, stderr]: [Stdio; 3],
) -> io::Result<u32> {
    #[expect(clippy::disallowed_methods, reason = "the one place that starts shims")]
    let mut command = Command::new(shim_binary);
    command.arg0(OsStr::from_bytes(name.to_bytes())).args(arguments).env_clear();
    // A test build's shims have the gateway's failpoints; the command's environment stands in the order alone.
    #[cfg(feature = "failpoints")]
    command.envs(std::env::vars_os().filter(|(name, _)| name == chitin_failpoints::FOLDER));
    let child = command.stdin(stdin).stdout(stdout).stderr(stderr).spawn()?;
    descriptors::restore(child.id());
    Ok(child.id())
}

/// Reaps every child of this process that has ended; how many. For a caller that gets SIGCHLD and leaves waiting for
/// children to nobody else.
pub fn reap_children() -> usize {
    let mut reaped: usize = 0;
    // Bounded by the children that have ended.
    while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        reaped = reaped.saturating_add(1);
    }
    reaped
}

/// A memory file that nobody can change any more, at its beginning.
fn sealed(name: &CStr, bytes: &[u8]) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create(name, flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}
