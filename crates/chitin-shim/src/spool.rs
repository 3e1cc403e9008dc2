//! The attempt's spool folder, held by a descriptor: a folder that was swept and made anew by somebody else is never
//! written to. Where a path is needed it leads through `/proc/self/fd/<dir>/…`, which also keeps socket addresses short
//! (a path in a `sockaddr_un` ends at 108 bytes).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chitin_proto::shim::names;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use rustix::fs::{RenameFlags, renameat_with};

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

    /// The same folder after it was given another name.
    pub(crate) fn moved(self, path: &Path) -> io::Result<Self> {
        Ok(Self { dir: self.dir, path: std::path::absolute(path)? })
    }

    /// Opens a file inside.
    pub(crate) fn open_file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let mode = Mode::from_bits_truncate(0o666);
        Ok(openat(&self.dir, name, flags | OFlag::O_CLOEXEC, mode)?.into())
    }

    /// Gives a file inside another name; an error, with nothing changed, if that one is there.
    pub(crate) fn rename_to_new(&self, name: &str, new: &str) -> io::Result<()> {
        match renameat_with(&self.dir, name, &self.dir, new, RenameFlags::NOREPLACE) {
            // Not every file system can say "only if it is new" of a rename; each can of a link.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                linkat(&self.dir, name, &self.dir, new, AtFlags::empty())?;
                self.remove_file(name)
            }
            other => Ok(other?),
        }
    }

    /// Whether the folder still has the name it was opened by. A gateway takes that away before it removes anything inside.
    pub(crate) fn has_its_name(&self) -> bool {
        let here = fs::metadata(self.at(".")).map(|found| (found.dev(), found.ino()));
        let named = fs::metadata(&self.path).map(|found| (found.dev(), found.ino()));
        matches!((here, named), (Ok(here), Ok(named)) if here == named)
    }

    /// Takes a file's name away.
    pub(crate) fn remove_file(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.dir, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Removes what a command and its shim usually leave; what stays is of use to another attempt: the claim of this name,
    /// the socket, the exit record's place, an unused scratch directory. False: there is more.
    pub(crate) fn empty(&self, claim: &str) -> io::Result<bool> {
        for entry in fs::read_dir(self.at("."))? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { return Ok(false) };
            let is_output = name == names::RESULT
                || name == names::INTERLEAVE
                || name.starts_with("stdout.")
                || name.starts_with("stderr.");
            if is_output {
                self.remove_file(name)?;
            } else if name == names::SCRATCH {
                if !self.is_fresh_scratch()? {
                    return Ok(false);
                }
            } else if ![claim, names::SOCKET, names::EXIT_RECORD_DRAFT].contains(&name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_fresh_scratch(&self) -> io::Result<bool> {
        let found = fs::symlink_metadata(self.at(names::SCRATCH))?;
        let as_made = found.is_dir() && found.mode() & 0o7777 == names::SCRATCH_MODE;
        Ok(as_made && fs::read_dir(self.at(names::SCRATCH))?.next().is_none())
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
