//! A whole machine, emulated: a kernel of its own, a disk that outlives it, and a reset that takes everything else.
//!
//! A cut disk ([`crate::disk`]) loses what was not synced, but its processes are ended by us and its kernel lives on. Here
//! the kernel goes too, in the middle of whatever it does: page cache, processes, clocks, boot id. The disk is a file, so
//! it can be looked at between two lives. Nothing of it needs root, and it is emulated in software, on any machine that
//! has the programs; `vm/get-kernel.sh` gets them.
//!
//! What a life does is a script in `vm/`. It says what it saw ([`Said`]); what must hold is judged out here.

mod archive;
mod said;

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::broken::{During, holds};
use crate::clock::until_within;
use crate::program::{self, Program};
use crate::{Held, system};
use archive::Archive;

pub(crate) use said::Said;

const EMULATOR: &str = "qemu-system-x86_64";
/// A life takes some ten seconds; its own end comes after 280.
const PATIENCE: Duration = Duration::from_secs(300);
const MEMORY_MEGABYTES: u32 = 640;
const DISK_MEGABYTES: u64 = 64;

const INIT: &str = include_str!("../vm/init.sh");
const WORK: &str = include_str!("../vm/work.sh");
/// What a life may be for.
const LIVES: &[(&str, &str)] =
    &[("reset", include_str!("../vm/reset.sh")), ("groups", include_str!("../vm/groups.sh"))];

/// Why no machine can be emulated here; `None`: one can.
pub(crate) fn is_missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the emulated machine is an x86_64 one".to_owned());
    }
    let programs = [EMULATOR, "busybox", "ldd", "mkfs.ext4", "e2fsck", "debugfs"];
    if let Some(program) = programs.into_iter().find(|program| system::find(program).is_none()) {
        return Some(format!("{program} is not installed"));
    }
    let kernel = kernel();
    (!kernel.is_file())
        .then(|| "there is no kernel (crates/chitin-chaos/vm/get-kernel.sh gets one)".to_owned())
}

/// Where `vm/get-kernel.sh` puts it.
fn kernel() -> PathBuf {
    program::target().join("vm/vmlinuz")
}

/// A machine that is off, and its disk.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: TempDir,
}

impl Machine {
    /// With this program, which may have a planted bug, and an empty disk.
    pub(crate) fn new(program: &Program, planted: Option<&str>) -> Held<Self> {
        let folder = tempfile::Builder::new().prefix("chitin-chaos.").tempdir().during("make a folder")?;
        let machine = Self { folder };
        machine.pack(program, planted).during("pack the first file system")?;
        let file = File::create(machine.at("disk")).during("make a disk")?;
        file.set_len(DISK_MEGABYTES << 20).during("size a disk")?;
        system::run("mkfs.ext4", &["-q".as_ref(), "-F".as_ref(), machine.at("disk").as_os_str()])?;
        Ok(machine)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything but the kernel and the disk: busybox, the program with its libraries, modules, and the scripts.
    fn pack(&self, program: &Program, planted: Option<&str>) -> Held {
        let to = File::create(self.at("files")).during("make a file")?;
        let mut archive = Archive::new(BufWriter::new(to));
        let written = (|| {
            for folder in ["bin", "data", "dev", "proc", "sys", "tmp"] {
                archive.folder(folder)?;
            }
            archive.file("init", INIT.as_bytes())?;
            archive.file("work", WORK.as_bytes())?;
            planted.map_or(Ok(()), |bug| archive.file(&format!("points/planted.{bug}"), &[]))?;
            LIVES
                .iter()
                .try_for_each(|(name, text)| archive.file(&format!("lives/{name}.sh"), text.as_bytes()))
        })();
        written.during("the scripts")?;
        let busybox = system::find("busybox").during("busybox")?;
        archive.copy(&busybox, "bin/busybox").during("busybox")?;
        let mut libraries = Vec::new();
        for name in ["chitin", "chitin-shim"] {
            let path = program.chitin.with_file_name(name);
            libraries.extend(named_by_ldd(&path)?);
            archive.copy(&path, &format!("bin/{name}")).during(name)?;
        }
        libraries.sort();
        libraries.dedup();
        for library in libraries {
            archive.copy(&library, library.to_string_lossy().trim_start_matches('/')).during("a library")?;
        }
        for entry in fs::read_dir(kernel().with_file_name("modules")).during("the modules")? {
            let entry = entry.during("the modules")?;
            let name = entry.file_name();
            archive.copy(&entry.path(), &format!("modules/{}", name.to_string_lossy())).during("a module")?;
        }
        archive.finish().during("the end")
    }

    /// One life, from power on until it is reset or turns itself off; `given` are the script's variables.
    pub(crate) fn live(&self, what: &str, given: &[(&str, &str)]) -> Held<Said> {
        let (console, long) = (self.at("console"), self.at("long"));
        // Alerts are what the lives' scripts say; less is only said when the kernel itself is in trouble.
        let mut line = format!("console=ttyS0 quiet loglevel=3 printk.devkmsg=on panic=-1 what={what}");
        given.iter().for_each(|(name, value)| line.push_str(&format!(" {name}={value}")));
        let mut command = system::command(EMULATOR);
        command.args(["-accel", "tcg", "-smp", "2", "-m", &MEMORY_MEGABYTES.to_string()]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command.arg("-kernel").arg(kernel()).arg("-initrd").arg(self.at("files")).args(["-append", &line]);
        for to in [&console, &long] {
            command.arg("-serial").arg(format!("file:{}", to.display()));
        }
        // The disk's own cache is this machine's, and outlives any life: a sync in there need not wait for one out here.
        let disk = self.at("disk");
        command.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
        command.stdout(Stdio::null());
        let mut emulator = Emulator(command.spawn().during("start the emulator")?);
        let ended = until_within(PATIENCE, "the emulated machine ends", || {
            emulator.0.try_wait().during("wait for the emulator")
        });
        let said = Said::read(&console, &long);
        let status = ended.during(&said.tail)?;
        holds!(status.success(), "the emulator: {status}: {}", emulator.said());
        Ok(said)
    }

    /// The data directory as the disk has it, in a folder beside it; the disk stays as it is.
    pub(crate) fn look(&self) -> Held<PathBuf> {
        let (copy, found) = (self.at("copy"), self.at("found"));
        _ = fs::remove_dir_all(&found);
        fs::create_dir(&found).during("make a folder")?;
        let disk = self.at("disk");
        system::run("cp", &["--sparse=always".as_ref(), disk.as_os_str(), copy.as_os_str()])?;
        // Plays the journal back, as mounting would. 1: it did.
        let checked = system::command("e2fsck").arg("-fy").arg(&copy).output().during("e2fsck")?;
        let said = String::from_utf8_lossy(&checked.stdout);
        holds!(matches!(checked.status.code(), Some(0 | 1)), "the file system is broken: {said}");
        let dump = format!("rdump /chitin {}", found.display());
        system::run("debugfs", &["-R".as_ref(), dump.as_ref(), copy.as_os_str()])?;
        Ok(found.join("chitin"))
    }
}

/// A running emulator, ended by whoever started it.
#[derive(Debug)]
struct Emulator(Child);

impl Emulator {
    fn said(&mut self) -> String {
        let stderr = self.0.stderr.as_mut().map(std::io::read_to_string);
        stderr.and_then(Result::ok).unwrap_or_default()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The libraries that a program is linked against, with the one that loads them.
fn named_by_ldd(program: &Path) -> Held<Vec<PathBuf>> {
    let said = system::run("ldd", &[program])?;
    let paths = said.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}
