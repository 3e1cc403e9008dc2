//! Ending a process tree: by the shim that holds it, and by a gateway after that shim was killed.
//!
//! The shim is a subreaper, so everything its command started is its descendant for ever, `setsid` and double `fork`
//! or not: a walk over the descendants finds the tree on every tier, and "no child left to wait for" means that it is
//! gone. Groups make the kill one stroke. Once the shim is dead only the groups and the attempt's environment in
//! `/proc/*/environ` still tell who belonged to it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chitin_proto::shim::Isolation;
use rustix::process::Signal;

use crate::groups::{Groups, files};
use crate::{clock, limits, proc};

/// Walks over the tree in one round of SIGKILL: what forks while it is walked is met by the next walk.
const WALKS: u32 = 8;

/// What became of a wish to stop a tree where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freezing {
    /// Nothing of it moves, or the kernel sees to it.
    Done,
    /// Not yet: more of them came than were stopped.
    StillMoves,
}

/// Stops the whole tree of this process: in one stroke where the kernel can, else process by process. SIGSTOP cannot be
/// refused, but a parent that watches its children sees it. Whoever waits in the kernel meets it before it runs again: so does a
/// shell between `vfork` and the start of its command, which waits for a child that was stopped and is never seen to stop itself.
pub(crate) fn freeze(groups: &Groups) -> Freezing {
    if groups.freeze() {
        return Freezing::Done;
    }
    for _ in 0..WALKS {
        let moving = Cell::new(0_u32);
        signal_descendants(&[Signal::STOP], |stat| {
            if !stat.stands_still() && !stat.waits_in_kernel() {
                moving.set(moving.get().saturating_add(1));
            }
            !stat.stands_still()
        });
        if moving.get() == 0 {
            return Freezing::Done;
        }
    }
    Freezing::StillMoves
}

/// Lets the whole tree of this process go on.
pub(crate) fn thaw(groups: &Groups) {
    groups.thaw();
    signal_descendants(&[Signal::CONT], |stat| !stat.is_zombie());
}

/// SIGTERM to the whole tree of this process. What is stopped or frozen is woken to hear it.
pub(crate) fn terminate(groups: &Groups) {
    groups.thaw();
    signal_descendants(&[Signal::TERM, Signal::CONT], |stat| !stat.is_zombie());
}

/// SIGKILL to the whole tree of this process.
pub(crate) fn kill(groups: &Groups) {
    groups.kill();
    for _ in 0..WALKS {
        if signal_descendants(&[Signal::KILL], |stat| !stat.is_zombie()) == 0 {
            break;
        }
    }
}

/// To those that are as `wanted`; how many.
fn signal_descendants(signals: &[Signal], wanted: impl Fn(proc::Stat) -> bool) -> usize {
    let own = std::process::id();
    let tree = proc::descendants(own);
    // Held by its pidfd, it must still be alive below this tree; an id that was given anew elsewhere is not.
    let ours = |pid| proc::stat(pid).is_some_and(|s| wanted(s) && (s.ppid == own || tree.contains(&s.ppid)));
    tree.iter().filter(|pid| proc::signal_if(**pid, signals, || ours(**pid))).count()
}

/// Why a tree is not ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// Processes survive SIGKILL: they sleep in the kernel. Try again later.
    #[error(
        "{count} processes of the attempt do not end, the first is {first}; they wait in the kernel, often for a disk"
    )]
    Remain {
        /// How many.
        count: usize,
        /// The process id of one.
        first: u32,
    },
}

/// What [`end`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Processes that were sent SIGKILL one by one.
    pub killed: usize,
}

/// Ends whatever is left of a dead shim's tree and removes its groups. Blocks for at most some 5 s; ending a tree that
/// is gone does nothing. Not to be called while the shim lives: it would report the end as somebody else's signal.
///
/// # Errors
/// Processes that do not go; groups that cannot be removed are left to [`crate::groups::Tier::sweep`].
pub fn end(isolation: &Isolation, task: &str, attempt: u32) -> Result<Ended, EndError> {
    let groups = paths(isolation);
    let give_up_at = clock::now_ms().saturating_add(limits::TREE_END_MS);
    let mut killed: usize = 0;
    let mut pause_ms = 1;
    loop {
        for group in &groups {
            // Absent in version 1, where SIGKILL goes one by one. Thawed first: what is frozen dies only then.
            let _ = files::write(group, "cgroup.freeze", "0");
            let _ = files::write(group, "cgroup.kill", "1");
            killed = killed.saturating_add(
                files::processes(group).into_iter().filter(|pid| kill_member(*pid, group)).count(),
            );
        }
        let strays = proc::of_attempt(task, attempt);
        let still = |pid| proc::belongs_to(pid, task, attempt);
        killed = killed.saturating_add(
            strays.iter().filter(|pid| proc::signal_if(**pid, &[Signal::KILL], || still(**pid))).count(),
        );
        let mut left: Vec<u32> = groups.iter().flat_map(|g| files::processes(g)).chain(strays).collect();
        left.retain(|pid| proc::stat(*pid).is_some_and(|s| !s.is_zombie()));
        let Some(first) = left.first().copied() else { break };
        if clock::now_ms() >= give_up_at {
            return Err(EndError::Remain { count: left.len(), first });
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
        pause_ms = (pause_ms * 2).min(50);
    }
    for group in &groups {
        let _ = files::remove(group);
    }
    Ok(Ended { killed })
}

/// SIGKILL to an attempt's tree without waiting for anything: for a shim that was told to end it and gives it time that
/// nobody has. The shim sees its tree gone, and knows why: it was told before.
pub fn strike(isolation: &Isolation, task: &str, attempt: u32) {
    for group in &paths(isolation) {
        let _ = files::write(group, "cgroup.freeze", "0");
        let _ = files::write(group, "cgroup.kill", "1");
        for pid in files::processes(group) {
            kill_member(pid, group);
        }
    }
    for pid in proc::of_attempt(task, attempt) {
        proc::signal_if(pid, &[Signal::KILL], || proc::belongs_to(pid, task, attempt));
    }
}

/// SIGKILL to a process of a group; whether it was one.
pub(crate) fn kill_member(pid: u32, group: &Path) -> bool {
    proc::signal_if(pid, &[Signal::KILL], || files::processes(group).contains(&pid))
}

fn paths(isolation: &Isolation) -> Vec<PathBuf> {
    match isolation {
        Isolation::Cgroup2 { group } => vec![group.clone()],
        Isolation::Cgroup1 { memory, pids, cpu, unified } => {
            [unified, memory, pids, cpu].into_iter().flatten().cloned().collect()
        }
        Isolation::Rlimit => Vec::new(),
    }
}
