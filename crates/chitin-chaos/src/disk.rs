//! Disks that can be cut off and frozen: an ext4 file system in a file, mounted over a loop device.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without a flush of the journal: from that instant nothing more reaches the image, and
//! what was not synced before is lost, as when the power goes. The calls to the file system are made by a small Python
//! program that waits with the folder open, because they are not to be had in safe Rust; so the cut comes within a
//! fraction of a millisecond.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::Held;
use crate::broken::{During, holds};
use crate::clock::until;
use crate::system;

/// Takes the folder, then an ioctl's number and a value a line, and says `ok` or why not.
const CALLER: &str = "\
import fcntl, os, struct, sys
folder = os.open(sys.stdin.readline().rstrip('\\n'), os.O_RDONLY)
print('open', flush=True)
for line in sys.stdin:
    try:
        number, value = (int(word, 16) for word in line.split())
        fcntl.ioctl(folder, number, struct.pack('I', value))
        print('ok', flush=True)
    except OSError as error:
        print(error, flush=True)
";

/// `EXT4_IOC_SHUTDOWN` with `EXT4_GOING_FLAGS_NOLOGFLUSH`, `FIFREEZE` and `FITHAW`.
const SHUTDOWN: &str = "8004587d 2";
const FREEZE: &str = "c0045877 0";
const THAW: &str = "c0045878 0";

/// A file system of its own, unmounted and removed at the end.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    pub(crate) mount: PathBuf,
    caller: Option<Caller>,
    is_mounted: bool,
}

#[derive(Debug)]
struct Caller {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Caller {
    fn open(folder: &Path) -> Held<Self> {
        let mut command = system::command("python3");
        command.arg("-c").arg(CALLER).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().during("start python3")?;
        let stdin = child.stdin.take().during("its standard input")?;
        let stdout = BufReader::new(child.stdout.take().during("its standard output")?);
        let mut caller = Self { child, stdin, stdout };
        // Told and not passed: a process that names the folder is taken for one of the gateway's.
        writeln!(caller.stdin, "{}", folder.display()).during("write to python3")?;
        let said = caller.line()?;
        holds!(said == "open", "the folder of a disk cannot be opened: {said}");
        Ok(caller)
    }

    fn line(&mut self) -> Held<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).during("read from python3")?;
        Ok(line.trim_end().to_owned())
    }

    fn call(&mut self, what: &str) -> Held {
        writeln!(self.stdin, "{what}").during("write to python3")?;
        let said = self.line()?;
        holds!(said == "ok", "the call {what}: {said}");
        Ok(())
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Disk {
    /// A new disk of so many megabytes, mounted in the folder.
    pub(crate) fn new(folder: &Path, megabytes: u64) -> Held<Self> {
        let mut disk = Self {
            image: folder.join("disk.img"),
            mount: folder.join("disk"),
            caller: None,
            is_mounted: false,
        };
        fs::create_dir(&disk.mount).during("make a folder")?;
        let file = fs::File::create(&disk.image).during("make an image")?;
        file.set_len(megabytes << 20).during("size an image")?;
        system::run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), disk.image.as_os_str()])?;
        disk.mount()?;
        Ok(disk)
    }

    /// A disk that is made, cut off and forgotten, to see whether this machine allows that.
    pub(crate) fn try_one() -> Held {
        let folder = tempfile::Builder::new().prefix("chitin-chaos.").tempdir().during("make a folder")?;
        let mut disk = Self::new(folder.path(), 16)?;
        disk.cut()?;
        disk.unmount()
    }

    pub(crate) fn mount(&mut self) -> Held {
        system::run(
            "mount",
            &["-o".as_ref(), "loop".as_ref(), self.image.as_os_str(), self.mount.as_os_str()],
        )?;
        self.is_mounted = true;
        self.caller = Some(Caller::open(&self.mount)?);
        Ok(())
    }

    fn call(&mut self, what: &str) -> Held {
        self.caller.as_mut().during("a mounted disk")?.call(what)
    }

    /// The power is gone.
    pub(crate) fn cut(&mut self) -> Held {
        self.call(SHUTDOWN)
    }

    /// Every write hangs from here on.
    pub(crate) fn freeze(&mut self) -> Held {
        self.call(FREEZE)
    }

    pub(crate) fn thaw(&mut self) -> Held {
        self.call(THAW)
    }

    /// Once nobody has anything open there. The loop device goes with it.
    pub(crate) fn unmount(&mut self) -> Held {
        self.caller = None;
        let mut said = String::new();
        until("the disk is unmounted", || {
            let tried = system::run("umount", &[&self.mount]);
            said = tried.as_ref().map_or_else(ToString::to_string, |_| String::new());
            Ok(tried.is_ok().then_some(()))
        })
        .during(said)?;
        self.is_mounted = false;
        Ok(())
    }

    /// After a cut: the file system as the disk has it.
    pub(crate) fn power_on(&mut self) -> Held {
        self.unmount()?;
        self.mount()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(caller) = &mut self.caller {
            // One that is frozen could never be unmounted; one that is not says so, and that is that.
            _ = caller.call(THAW);
        }
        self.caller = None;
        if self.is_mounted && system::run("umount", &[&self.mount]).is_err() {
            // Somebody still has something open: it goes when they do.
            _ = system::run("umount", &["-l".as_ref(), self.mount.as_os_str()]);
        }
    }
}
