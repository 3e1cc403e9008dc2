//! Starting a shim, for the gateway: an order in a sealed memory file, a socket pair, and a process: a copy of the
//! [`ForkServer`]'s, or one of its own by `posix_spawn`, which costs the same however large the gateway is. A shim that
//! has served and is [`Resting`] needs the order alone.

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

use crate::{descriptors, request, title};

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

/// A shim that has served and waits for another order; see [`chitin_proto::shim::ToShim::Rest`]. Dropped, it leaves.
#[derive(Debug)]
pub struct Resting(UnixStream);

impl Resting {
    /// Of the socket over which it said that it rests.
    #[must_use]
    pub fn new(socket: UnixStream) -> Self {
        Self(socket)
    }

    /// Has it serve another attempt. `spool_dir` is the folder it rests in, under its new name. `None`: it is gone, and
    /// nothing was started.
    ///
    /// As with a fork server, whether the attempt was claimed is told by the socket.
    ///
    /// # Errors
    /// See [`SpawnError`]. An error means that nothing was started.
    pub fn start(
        self,
        spool_dir: &Path,
        order: &Order,
        stdin: Option<&[u8]>,
    ) -> Result<Option<Spawned>, SpawnError> {
        let Orders { order, stdin } = Orders::new(order, stdin)?;
        self.0.set_nonblocking(true).map_err(SpawnError::Socket)?;
        let asked = request::send(self.0.as_fd(), spool_dir, &[order.as_fd(), stdin.as_fd()]);
        Ok(asked.is_ok().then_some(Spawned { pid: None, socket: self.0 }))
    }

    /// Tells it to leave; the socket closes when it has.
    #[must_use]
    pub fn leave(self) -> UnixStream {
        // An error says that it is gone.
        let _ = self.0.shutdown(std::net::Shutdown::Write);
        self.0
    }
}

/// The two files every order comes with.
#[derive(Debug)]
struct Orders {
    order: File,
    stdin: File,
}

impl Orders {
    fn new(order: &Order, stdin: Option<&[u8]>) -> Result<Self, SpawnError> {
        let order = sealed(c"chitin-order", &order.encode()?).map_err(SpawnError::Memory)?;
        let stdin = match stdin {
            Some(bytes) => sealed(c"chitin-stdin", bytes),
            // Opened here: `Stdio::null` on descriptor 2 would be write-only.
            None => File::open("/dev/null"),
        };
        Ok(Self { order, stdin: stdin.map_err(SpawnError::Memory)? })
    }
}

/// What a shim is born with, and the gateway's end of its socket.
#[derive(Debug)]
struct Parts {
    orders: Orders,
    socket: UnixStream,
    theirs: UnixStream,
}

impl Parts {
    fn new(order: &Order, stdin: Option<&[u8]>) -> Result<Self, SpawnError> {
        let orders = Orders::new(order, stdin)?;
        let (socket, theirs) = UnixStream::pair().map_err(SpawnError::Socket)?;
        socket.set_nonblocking(true).map_err(SpawnError::Socket)?;
        Ok(Self { orders, socket, theirs })
    }

    /// In the order a shim takes them.
    fn descriptors(&self) -> [BorrowedFd<'_>; 3] {
        [self.orders.order.as_fd(), self.theirs.as_fd(), self.orders.stdin.as_fd()]
    }

    /// A process has them, or had: ours are closed, so that a shim that is gone is noticed.
    fn handed_over(self, pid: Option<u32>) -> Spawned {
        Spawned { pid, socket: self.socket }
    }

    fn spawn(self, shim_binary: &Path, spool_dir: &Path) -> Result<Spawned, SpawnError> {
        let failed = |source| SpawnError::Process { program: shim_binary.to_owned(), source };
        let Orders { order, stdin } = self.orders;
        let descriptors = [order.into(), OwnedFd::from(self.theirs).into(), stdin.into()];
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
