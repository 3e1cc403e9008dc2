//! What a gateway may leave on a machine: processes that name its data directory, control groups of its instance.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A process that has to do with a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: u32,
    /// Its arguments.
    pub(crate) command: String,
    folder: PathBuf,
}

/// Every process whose arguments or environment name the folder: the gateway, its shims, what they started.
pub(crate) fn processes(folder: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if names(pid, folder) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(Process { pid, command, folder: folder.to_owned() });
        }
    }
    found
}

fn names(pid: u32, folder: &Path) -> bool {
    let wanted = folder.as_os_str().as_encoded_bytes();
    ["cmdline", "environ"].iter().any(|file| {
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// Ends a process, if it still is the one that was found.
pub(crate) fn kill(process: &Process) {
    let pid = i32::try_from(process.pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| names(process.pid, &process.folder)) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// The control groups of the instance that lives in a data directory, as its log names it.
pub(crate) fn groups(data: &Path) -> Vec<PathBuf> {
    let log = super::log(data);
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let Some(ready) = lines.rfind(|line| line["fields"]["message"] == "ready") else {
        return Vec::new();
    };
    let instance = ready["fields"]["instance"].as_str().expect("the log names the instance");
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

/// Removes groups and the groups in them, as far as that goes: what was killed leaves its group a moment later.
pub(crate) fn remove(groups: &[PathBuf]) {
    let begin = super::now();
    for group in groups {
        while group.exists() && begin.elapsed() < Duration::from_secs(2) {
            for inner in fs::read_dir(group).into_iter().flatten().filter_map(Result::ok) {
                let _ = fs::remove_dir(inner.path());
            }
            let _ = fs::remove_dir(group);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
