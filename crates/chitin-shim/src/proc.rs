//! What `/proc` tells of processes, and signals that cannot hit a stranger: every one goes through a pidfd, after the
//! process behind it was looked at once more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::limits;

/// The few fields of `/proc/<pid>/stat` that are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) ppid: u32,
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// Ended, waiting to be reaped.
    pub(crate) fn is_zombie(self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }

    /// In a sleep of which no signal wakes it, while a disk is waited for as a rule.
    pub(crate) fn waits_in_kernel(self) -> bool {
        self.state == b'D'
    }

    /// Stopped by a signal, or at an end of its own.
    pub(crate) fn stands_still(self) -> bool {
        self.is_zombie() || matches!(self.state, b'T' | b't')
    }
}

/// Reads a small file of the kernel; `None` if it is gone.
pub(crate) fn read_bounded(path: &Path) -> Option<Vec<u8>> {
    read_all(File::open(path).ok()?)
}

/// The same of an open one.
pub(crate) fn read_all(file: File) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    file.take(limits::CONTROL_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn read_text(path: &str) -> Option<String> {
    String::from_utf8(read_bounded(Path::new(path))?).ok()
}

/// A few fields of `/proc/<pid>/stat`.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&after_name(&pid.to_string())?)
}

/// Of its flags: the process was made and has executed nothing since (`PF_FORKNOEXEC`).
const NOT_EXECUTED: u32 = 0x40;

/// Whether a process has executed a program since it was made. It may have ended, if nobody has waited for it yet.
pub(crate) fn has_executed(pid: u32) -> bool {
    // Field 9; the first here is field 3.
    let flags = after_name(&pid.to_string()).and_then(|text| text.split(' ').nth(6)?.parse::<u32>().ok());
    flags.is_some_and(|flags| flags & NOT_EXECUTED == 0)
}

/// `/proc/self/stat`, from the third field on.
pub(crate) fn own_stat() -> Option<String> {
    after_name("self")
}

/// `/proc/<process>/stat`; the name in it may hold anything, so fields are counted from its last parenthesis.
fn after_name(process: &str) -> Option<String> {
    let bytes = read_bounded(Path::new(&format!("/proc/{process}/stat")))?;
    let end = bytes.iter().rposition(|b| *b == b')')?;
    Some(std::str::from_utf8(bytes.get(end.checked_add(2)?..)?).ok()?.to_owned())
}

fn parse_stat(after_name: &str) -> Option<Stat> {
    let mut fields = after_name.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    let ppid = fields.next()?.parse().ok()?;
    // Field 22; the state is field 3.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, ppid, start_ticks })
}

/// The numbers in a directory's names: processes in `/proc`, threads in `/proc/<pid>/task`.
fn numbers(dir: &str) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).take(limits::WALK_PROCESSES)
}

/// Every descendant of a process, zombies included. With a subreaper as root that is its whole tree: orphans are its
/// own children.
pub(crate) fn descendants(root: u32) -> HashSet<u32> {
    if Path::new("/proc/thread-self/children").exists() { walk(root) } else { scan(root) }
}

fn walk(root: u32) -> HashSet<u32> {
    let mut found = HashSet::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        for thread in numbers(&format!("/proc/{pid}/task")) {
            let children = read_text(&format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|c| c.parse().ok()) {
                if found.len() < limits::WALK_PROCESSES && found.insert(child) {
                    open.push(child);
                }
            }
        }
    }
    found
}

/// The same from parent ids alone, for kernels without the `children` file.
fn scan(root: u32) -> HashSet<u32> {
    let parents: Vec<_> = numbers("/proc").filter_map(|pid| Some((pid, stat(pid)?.ppid))).collect();
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        for (pid, parent) in &parents {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.remove(&root);
    found
}

/// Memory of some processes together, bytes, if it is over a limit. What they share is told apart only then: that
/// walks their page tables, while resident sizes, an upper bound, cost nothing.
pub(crate) fn exceeds(pids: &HashSet<u32>, limit_bytes: u64) -> bool {
    resident_bytes(pids) > limit_bytes && proportional_bytes(pids) > limit_bytes
}

/// Each shared page counts once, by parts.
fn proportional_bytes(pids: &HashSet<u32>) -> u64 {
    let sizes = pids.iter().filter_map(|pid| {
        let rollup = read_text(&format!("/proc/{pid}/smaps_rollup"))?;
        let kib = rollup.lines().find_map(|l| l.strip_prefix("Pss:"))?;
        kib.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    sizes.sum::<u64>().saturating_mul(1024)
}

/// Resident memory of some processes together, bytes. What they share counts for each.
pub(crate) fn resident_bytes(pids: &HashSet<u32>) -> u64 {
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let pages = pids.iter().filter_map(|pid| {
        let statm = read_text(&format!("/proc/{pid}/statm"))?;
        statm.split(' ').nth(1)?.parse::<u64>().ok()
    });
    pages.sum::<u64>().saturating_mul(page_bytes)
}

/// The process was started for this attempt, as its environment tells (`CHITIN_TASK_ID`, `CHITIN_ATTEMPT`).
pub(crate) fn belongs_to(pid: u32, task: &str, attempt: u32) -> bool {
    let Some(environ) = read_bounded(Path::new(&format!("/proc/{pid}/environ"))) else { return false };
    let task = format!("CHITIN_TASK_ID={task}");
    let attempt = format!("CHITIN_ATTEMPT={attempt}");
    let has = |what: &str| environ.split(|b| *b == 0).any(|v| v == what.as_bytes());
    has(&task) && has(&attempt)
}

/// Every process of the machine that [`belongs_to`] an attempt.
pub(crate) fn of_attempt(task: &str, attempt: u32) -> Vec<u32> {
    let own = std::process::id();
    numbers("/proc").filter(|pid| *pid != own && belongs_to(*pid, task, attempt)).collect()
}

/// Whether a process has exactly these arguments, each with its end.
pub(crate) fn has_arguments(pid: u32, arguments: &[u8]) -> bool {
    read_bounded(Path::new(&format!("/proc/{pid}/cmdline"))).is_some_and(|found| found == arguments)
}

/// Every process of the machine that has them.
pub(crate) fn with_arguments(arguments: &[u8]) -> Vec<u32> {
    numbers("/proc").filter(|pid| has_arguments(*pid, arguments)).collect()
}

/// Sends signals to a process if, once it is held by a pidfd, it still is who was meant; whether it was sent.
pub(crate) fn signal_if(pid: u32, signals: &[Signal], still: impl FnOnce() -> bool) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return false };
    if !still() {
        return false;
    }
    let sent = signals.iter().filter(|s| pidfd_send_signal(&held, **s).is_ok()).count();
    sent > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_name() {
        let rest = "S 7 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 0 0";
        assert_eq!(parse_stat(rest), Some(Stat { state: b'S', ppid: 7, start_ticks: 4242 }));
        assert_eq!(parse_stat("S 7"), None);
    }

    #[test]
    fn this_process_is_found_with_its_parent() {
        let own = std::process::id();
        let stat = stat(own).unwrap();
        assert!(!stat.is_zombie() && stat.start_ticks > 0);
        assert!(scan(stat.ppid).contains(&own));
        assert!(descendants(stat.ppid).contains(&own));
        let us = HashSet::from([own]);
        assert!((100_000..=resident_bytes(&us)).contains(&proportional_bytes(&us)));
        assert!(exceeds(&us, 100_000) && !exceeds(&us, u64::MAX));
    }
}
