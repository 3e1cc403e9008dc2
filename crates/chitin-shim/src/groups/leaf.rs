//! One group of an attempt, held by descriptors: the way to it through the tree is walked twice, not for each of its
//! files.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::files;
use crate::proc;

/// What a folder that is only walked through is opened with.
const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// See the module.
#[derive(Debug)]
pub(super) struct Leaf {
    path: PathBuf,
    parent: OwnedFd,
    dir: OwnedFd,
}

impl Leaf {
    /// Makes it. One of the same name is from a start that died before its claim, or from another machine life: nothing
    /// in it is ours, and no counter of it may be taken for ours.
    pub(super) fn make(path: &Path) -> io::Result<Self> {
        let parent = open(path.parent().unwrap_or(path), FOLDER, Mode::empty())?;
        let name = name(path);
        let make = || mkdirat(&parent, name, Mode::from_bits_truncate(0o777));
        match make() {
            Err(Errno::EEXIST) => {
                files::processes(path).into_iter().for_each(|pid| {
                    crate::tree::kill_member(pid, path);
                });
                files::remove(path)?;
                make()?;
            }
            other => other?,
        }
        let dir = openat(&parent, name, FOLDER, Mode::empty())?;
        Ok(Self { path: path.to_owned(), parent, dir })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self, file: &str, flags: OFlag) -> io::Result<File> {
        Ok(openat(&self.dir, file, flags | OFlag::O_CLOEXEC, Mode::empty())?.into())
    }

    /// A control file, to be read.
    pub(super) fn reader(&self, file: &str) -> io::Result<File> {
        self.open(file, OFlag::O_RDONLY)
    }

    /// A control file, to be written.
    pub(super) fn writer(&self, file: &str) -> io::Result<File> {
        self.open(file, OFlag::O_WRONLY)
    }

    /// Writes a control file.
    pub(super) fn write(&self, file: &str, value: &str) -> io::Result<()> {
        self.writer(file)?.write_all(value.as_bytes())
    }

    fn read(&self, file: &str) -> Option<String> {
        String::from_utf8(proc::read_all(self.reader(file).ok()?)?).ok()
    }

    /// A file that holds one number.
    pub(super) fn number(&self, file: &str) -> Option<u64> {
        files::number(&self.read(file)?)
    }

    /// A number in a file of lines `key number`.
    pub(super) fn keyed(&self, file: &str, key: &str) -> Option<u64> {
        files::keyed(&self.read(file)?, key)
    }

    /// Removes it, and what its processes made inside.
    pub(super) fn remove(&self) -> io::Result<()> {
        match unlinkat(&self.parent, name(&self.path), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(_) => files::remove(&self.path),
        }
    }
}

fn name(path: &Path) -> &OsStr {
    path.file_name().unwrap_or_default()
}
