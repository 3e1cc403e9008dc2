//! Processes and control groups of one gateway: found by the data directory, which is the suite's own, and signalled by
//! descriptor, so that never anybody else is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::Held;
use crate::broken::During;
use crate::clock::{now, sleep_ms};

/// A process that has to do with a folder.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Its arguments, with blanks between.
    pub(crate) command: String,
    handle: OwnedFd,
}

impl Process {
    /// The process of this number, if it has to do with the folder. It is the one that is signalled, whoever gets its
    /// number later.
    pub(crate) fn open(pid: u32, folder: &Path) -> Option<Self> {
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let handle = pidfd_open(id, PidfdFlags::empty()).ok()?;
        if !names(pid, folder) {
            return None;
        }
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
        Some(Self { pid, command, handle })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // One that is gone needs none.
        _ = pidfd_send_signal(&self.handle, signal);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Whether it has died, which is waited for a moment.
    pub(crate) fn dies(&self, patience: Duration) -> bool {
        let mut ends = [PollFd::new(&self.handle, PollFlags::IN)];
        let patience = Timespec::try_from(patience).ok();
        matches!(poll(&mut ends, patience.as_ref()), Ok(1))
    }

    pub(crate) fn is_shim(&self) -> bool {
        self.command.starts_with("chitin-shim ")
    }

    /// A process of the program itself: gateway, supervisor, or a command.
    pub(crate) fn is_program(&self) -> bool {
        let first = self.command.split(' ').next().unwrap_or_default();
        Path::new(first).file_name().is_some_and(|name| name == "chitin")
    }
}

/// Every process whose arguments or environment name the folder: gateway, shims, what they started.
pub(crate) fn of(folder: &Path) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let own = std::process::id();
    pids.filter(|pid| *pid != own).filter_map(|pid| Process::open(pid, folder)).collect()
}

fn names(pid: u32, folder: &Path) -> bool {
    let wanted = folder.as_os_str().as_encoded_bytes();
    ["cmdline", "environ"].iter().any(|file| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// How many descriptors a process has open.
pub(crate) fn descriptors(pid: u32) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    u64::try_from(open).unwrap_or(u64::MAX)
}

/// The memory that is a process's own, in bytes.
pub(crate) fn own_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}

/// How long a process has been computing.
pub(crate) fn busy(pid: u32) -> Held<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).during("look at a process")?;
    // Behind its name, which may hold anything, and in hundredths of a second.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Kills everything of a folder until nothing is left; true if that came to be.
pub(crate) fn kill_all(folder: &Path) -> bool {
    let begin = now();
    loop {
        let left = of(folder);
        if left.is_empty() {
            return true;
        }
        left.iter().for_each(Process::kill);
        if begin.elapsed() > Duration::from_secs(10) {
            return false;
        }
        sleep_ms(2);
    }
}

/// The control groups of an instance, in every hierarchy.
pub(crate) fn groups(instance: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), &format!("chitin-{instance}"), &mut found);
    found
}

fn look(folder: &Path, name: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name() == name {
            found.push(entry.path());
        } else {
            look(&entry.path(), name, found);
        }
    }
}

/// Removes groups and those in them, as a restart of the machine does; what was killed leaves them a moment later.
pub(crate) fn remove_groups(groups: &[PathBuf]) {
    let begin = now();
    for group in groups {
        while group.exists() && begin.elapsed() < Duration::from_secs(5) {
            for inner in fs::read_dir(group).into_iter().flatten().filter_map(Result::ok) {
                _ = fs::remove_dir(inner.path());
            }
            _ = fs::remove_dir(group);
            sleep_ms(2);
        }
    }
}
