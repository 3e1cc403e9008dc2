//! The attempt's spool folder, held by a descriptor: a folder that was swept and made anew by somebody else is never
//! written to. Where a path is needed it leads through `/proc/self/fd/<dir>/…`, which also keeps socket addresses short
//! (a path in a `sockaddr_un` ends at 108 bytes).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use chitin_proto::shim::names;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

/// An open spool folder.
pub(crate) struct Spool {
    dir: OwnedFd,
    path: PathBuf,
}

impl Spool {
    /// Opens the folder; it is never made here, so that a straggler cannot run an attempt that was swept.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = open(path, flags, Mode::empty())?;
        Ok(Self { dir, path: std::path::absolute(path)? })
    }

    /// Opens a file inside.
    pub(crate) fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let mode = Mode::from_bits_truncate(0o666);
        Ok(openat(&self.dir, name, flags | OFlag::O_CLOEXEC, mode)?.into())
    }

    /// Gives a file inside a second name; an error if that one is there.
    pub(crate) fn link(&self, name: &str, second: &str) -> io::Result<()> {
        Ok(linkat(&self.dir, name, &self.dir, second, AtFlags::empty())?)
    }

    /// Takes a file's name away.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Makes the scratch directory. A folder that served before may bring an unused one along.
    pub(crate) fn make_scratch(&self) -> io::Result<()> {
        match mkdirat(&self.dir, names::SCRATCH, Mode::from_bits_truncate(names::SCRATCH_MODE)) {
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// A name inside, for this process only.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// A name inside, for other processes.
    pub(crate) fn told(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A line for people, where nobody else can be told.
    pub(crate) fn log(&self, line: &str) {
        use std::io::Write;
        let file = File::options().append(true).create(true).open(self.at(names::SHIM_LOG));
        // The last resort has none behind it.
        let _ = file.and_then(|mut f| writeln!(f, "{line}"));
    }

    /// Makes names in the folder durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.sync_folder(".")
    }

    /// Makes the way to the folder durable: its name in its task's, and that one's in the spool. It may have been moved.
    pub(crate) fn sync_way(&self) -> io::Result<()> {
        self.sync_folder("..")?;
        self.sync_folder("../..")
    }

    fn sync_folder(&self, name: &str) -> io::Result<()> {
        self.open_file(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?.sync_all()
    }
}
