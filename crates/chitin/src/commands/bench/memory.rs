//! `chitin bench memory`: what a gateway holds for itself alone, idle and with a full queue, and what its supervisor and
//! a shim do.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::figures::{Goal, Report};
use super::load::count;
use super::own::Own;
use super::submit::TASK;
use super::{Plan, bulk};
use crate::clock;
use crate::failure::Failure;

const SLEEP: &[u8] = br#"{"command":["/bin/sleep","600"]}"#;
/// What is to be measured has settled after this.
const SETTLE: Duration = Duration::from_secs(1);
/// How long a shim may take to be there.
const THERE: Duration = Duration::from_secs(10);
/// Between two looks at a gateway under load.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// In thousands.
const QUEUED: u32 = 10;

/// Measures.
pub(super) fn measure(plan: &Plan) -> Result<Report, Failure> {
    let own = Own::start(&plan.dir, &[])?;
    settle(plan)?;
    let idle = private_bytes(own.pid())?;
    let supervisor = private_bytes(own.supervisor_pid())?;
    own.call("POST", "/v1/tasks", SLEEP)?;
    let pid = shim(plan, own.pid())?;
    settle(plan)?;
    let shim = private_bytes(pid)?;
    drop(own);

    let own = Own::start(&plan.dir, &[])?;
    own.pause()?;
    for _ in 0..QUEUED {
        own.call("POST", "/v1/tasks/bulk", &bulk::body(TASK, bulk::TASKS))?;
        plan.stop.check()?;
    }
    settle(plan)?;
    let queued = private_bytes(own.pid())?;
    drop(own);

    let memory = vec![
        ("idle_bytes", idle),
        ("queued_10000_bytes", queued),
        ("supervisor_bytes", supervisor),
        ("shim_bytes", shim),
    ];
    let mut report =
        Report { bench: "memory", clients: 1, seconds: plan.seconds, memory, ..Report::default() };
    for (what, bytes, most) in [
        ("MB private to an idle gateway", idle, 20.0),
        ("MB with 10,000 tasks queued", queued, 50.0),
        ("MB private to a supervisor", supervisor, 2.0),
        ("MB private to a shim", shim, 1.5),
    ] {
        report.check(what, count(bytes) / 1e6, Some(Goal::AtMost(most)));
    }
    Ok(report)
}

fn settle(plan: &Plan) -> Result<(), Failure> {
    thread::sleep(SETTLE);
    plan.stop.check()
}

/// The gateway's first shim, once its command runs: a child of its fork server.
fn shim(plan: &Plan, gateway: u32) -> Result<u32, Failure> {
    let begun = clock::now();
    while begun.elapsed() < THERE {
        let shim = child(gateway).and_then(child);
        if let Some((shim, _)) = shim.and_then(|shim| Some((shim, child(shim)?))) {
            return Ok(shim);
        }
        plan.stop.check()?;
        thread::sleep(Duration::from_millis(10));
    }
    Err(Failure::other("no shim was started within 10 s"))
}

/// A child of a process.
fn child(parent: u32) -> Option<u32> {
    let wanted = format!("\nPPid:\t{parent}\n");
    let pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &u32| {
        let status = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
        status.is_ok_and(|status| status.contains(&wanted))
    };
    pids.into_iter().find(is_child)
}

/// Looks at a process's memory beside what is measured.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Watch {
    /// Begins.
    pub(super) fn begin(pid: u32) -> Result<Self, Failure> {
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = thread::Builder::new().name("watch".to_owned()).spawn(move || {
            let mut most = 0;
            while !until.load(Ordering::Relaxed) {
                most = most.max(private_bytes(pid).unwrap_or(0));
                thread::sleep(LOOK_EVERY);
            }
            most
        });
        let thread = thread.map_err(|error| Failure::other(format!("cannot start a thread: {error}")))?;
        Ok(Self { over, thread })
    }

    /// The most that was seen.
    pub(super) fn most_bytes(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(0)
    }
}

/// Bytes of a process that nobody shares.
pub(super) fn private_bytes(pid: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::other(format!("cannot read {path}: {error}")))?;
    Ok(private(&text))
}

fn private(rollup: &str) -> u64 {
    let kilobytes = |line: &str| {
        let value = line.strip_prefix("Private_Clean:").or_else(|| line.strip_prefix("Private_Dirty:"))?;
        value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    rollup.lines().filter_map(kilobytes).sum::<u64>().saturating_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_memory_is_the_clean_and_the_dirty() {
        let rollup = "00400000-7ffc ---p 00000000 00:00 0 [rollup]\nRss:                1000 kB\n\
             Shared_Clean:        500 kB\nPrivate_Clean:        96 kB\nPrivate_Dirty:       404 kB\n";
        assert_eq!(private(rollup), 500 * 1_024);
        assert!(private_bytes(std::process::id()).unwrap() > 100_000);
    }
}
