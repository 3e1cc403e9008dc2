//! The groups of one attempt, made and removed by its shim. The command's process joins them itself, before it
//! executes, so that not one instruction of it runs outside.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use chitin_proto::shim::{Isolation, ResourceLimits};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::leaf::Leaf;

/// The period of CPU bandwidth, microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Why the groups could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    /// The group itself.
    #[error("cannot make the group {group}", group = group.display())]
    Make {
        /// Which.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A limit in it.
    #[error("cannot set {file} of the group {group}", group = group.display())]
    Limit {
        /// Which.
        group: PathBuf,
        /// The control file.
        file: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Its list of processes.
    #[error("cannot open the group {group} for joining", group = group.display())]
    Join {
        /// Which.
        group: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl GroupError {
    pub(crate) fn source_error(&self) -> &io::Error {
        match self {
            Self::Make { source, .. } | Self::Limit { source, .. } | Self::Join { source, .. } => source,
        }
    }
}

/// Where memory is limited and counted.
#[derive(Debug)]
enum Memory {
    Nowhere,
    V1(Rc<Leaf>),
    V2(Rc<Leaf>),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Groups {
    made: Vec<Rc<Leaf>>,
    join: Vec<File>,
    memory: Memory,
    /// Where processes are limited and counted.
    pids: Option<Rc<Leaf>>,
    /// The version 2 group, with `cgroup.kill` and `cpu.stat`.
    unified: Option<Rc<Leaf>>,
}

impl Groups {
    /// No groups.
    pub(crate) fn none() -> Self {
        Self { made: Vec::new(), join: Vec::new(), memory: Memory::Nowhere, pids: None, unified: None }
    }

    /// Makes what the order names; what was made before a failure is removed again.
    pub(crate) fn make(isolation: &Isolation, limits: &ResourceLimits) -> Result<Self, GroupError> {
        let mut groups = Self::none();
        let made = groups.make_all(isolation, limits);
        match made {
            Ok(()) => Ok(groups),
            Err(e) => {
                groups.remove();
                Err(e)
            }
        }
    }

    fn make_all(&mut self, isolation: &Isolation, limits: &ResourceLimits) -> Result<(), GroupError> {
        match isolation {
            Isolation::Rlimit => {}
            Isolation::Cgroup2 { group } => {
                let group = self.add(group)?;
                limit_v2(&group, limits)?;
                self.memory = Memory::V2(Rc::clone(&group));
                self.pids = limits.pids.map(|_| Rc::clone(&group));
                self.unified = Some(group);
            }
            Isolation::Cgroup1 { memory, pids, cpu, unified } => {
                if let Some(group) = memory {
                    let group = self.add(group)?;
                    if let Some(bytes) = limits.memory_bytes {
                        limit_memory_v1(&group, bytes)?;
                    }
                    self.memory = Memory::V1(group);
                }
                if let (Some(group), Some(max)) = (pids, limits.pids) {
                    let group = self.add(group)?;
                    set(&group, "pids.max", &max.to_string())?;
                    self.pids = Some(group);
                }
                if let Some(group) = cpu {
                    let group = self.add(group)?;
                    if let Some(millis) = limits.cpu_millis {
                        set(&group, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                        set(&group, "cpu.cfs_quota_us", &quota_us(millis).to_string())?;
                    }
                }
                if let Some(group) = unified {
                    self.unified = Some(self.add(group)?);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, group: &Path) -> Result<Rc<Leaf>, GroupError> {
        let failed = |source| GroupError::Make { group: group.to_owned(), source };
        let leaf = Rc::new(Leaf::make(group).map_err(failed)?);
        self.made.push(Rc::clone(&leaf));
        let procs = leaf.writer("cgroup.procs");
        self.join.push(procs.map_err(|source| GroupError::Join { group: group.to_owned(), source })?);
        Ok(leaf)
    }

    /// Where a process writes `0` to join.
    pub(crate) fn doors(&self) -> &[File] {
        &self.join
    }

    /// The command is inside: nobody else joins.
    pub(crate) fn close_doors(&mut self) {
        self.join = Vec::new();
    }

    /// Whether the kernel limits memory here.
    pub(crate) fn holds_memory(&self) -> bool {
        !matches!(self.memory, Memory::Nowhere)
    }

    /// Whether memory and CPU time are measured here, whoever used them.
    pub(crate) fn measure_all(&self) -> bool {
        self.holds_memory() && self.unified.is_some()
    }

    /// SIGKILL to every process, in one stroke, where the kernel can.
    pub(crate) fn kill(&self) {
        if let Some(group) = &self.unified {
            // What this misses, the walk over the tree meets.
            let _ = group.write("cgroup.kill", "1");
        }
    }

    /// Stops every process where it is, and whatever it starts; false: there is no group that can.
    pub(crate) fn freeze(&self) -> bool {
        self.unified.as_ref().is_some_and(|group| group.write("cgroup.freeze", "1").is_ok())
    }

    /// Lets a frozen tree go on, and hear signals.
    pub(crate) fn thaw(&self) {
        if let Some(group) = &self.unified {
            let _ = group.write("cgroup.freeze", "0");
        }
    }

    /// Processes the kernel ended here for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        match &self.memory {
            Memory::Nowhere => None,
            Memory::V1(group) => group.keyed("memory.oom_control", "oom_kill"),
            Memory::V2(group) => group.keyed("memory.events", "oom_kill"),
        }
        .unwrap_or(0)
    }

    /// Processes and threads that the kernel refused here because there were as many as there may be.
    pub(crate) fn pids_refused(&self) -> u64 {
        self.pids.as_ref().and_then(|group| group.keyed("pids.events", "max")).unwrap_or(0)
    }

    /// An announcement of every out-of-memory condition. Only version 1 needs it: version 2 ends the whole group.
    pub(crate) fn oom_event(&self) -> Option<io::Result<(EventFd, File)>> {
        let Memory::V1(group) = &self.memory else { return None };
        Some((|| {
            let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            let control = group.reader("memory.oom_control")?;
            let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
            group.write("cgroup.event_control", &line)?;
            Ok((event, control))
        })())
    }

    /// The most memory held at once, bytes.
    pub(crate) fn peak_memory_bytes(&self) -> Option<u64> {
        match &self.memory {
            Memory::Nowhere => None,
            Memory::V1(group) => group.number("memory.max_usage_in_bytes"),
            Memory::V2(group) => group.number("memory.peak"),
        }
    }

    /// CPU time of everything that ever ran here, milliseconds.
    pub(crate) fn cpu_ms(&self) -> Option<u64> {
        Some(self.unified.as_ref()?.keyed("cpu.stat", "usage_usec")? / 1_000)
    }

    /// Removes the groups; one that is still busy is left to the gateway's sweep.
    pub(crate) fn remove(&mut self) {
        self.join = Vec::new();
        for group in self.made.drain(..) {
            let _ = group.remove();
        }
    }
}

fn set(group: &Leaf, file: &'static str, value: &str) -> Result<(), GroupError> {
    let failed = |source| GroupError::Limit { group: group.path().to_owned(), file, source };
    group.write(file, value).map_err(failed)
}

/// Sets what not every kernel has: a limit that says nothing there.
fn set_if_there(group: &Leaf, file: &'static str, value: &str) -> Result<(), GroupError> {
    match set(group, file, value) {
        Err(GroupError::Limit { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Thousandths of a core as microseconds a period; the kernel takes no less than 1 ms.
fn quota_us(cpu_millis: u64) -> u64 {
    cpu_millis.saturating_mul(CPU_PERIOD_US / 1_000).max(1_000)
}

fn limit_v2(group: &Leaf, limits: &ResourceLimits) -> Result<(), GroupError> {
    if let Some(bytes) = limits.memory_bytes {
        set(group, "memory.max", &bytes.to_string())?;
        set(group, "memory.oom.group", "1")?;
        set_if_there(group, "memory.swap.max", "0")?;
    }
    if let Some(max) = limits.pids {
        set(group, "pids.max", &max.to_string())?;
    }
    if let Some(millis) = limits.cpu_millis {
        set(group, "cpu.max", &format!("{} {CPU_PERIOD_US}", quota_us(millis)))?;
    }
    Ok(())
}

/// Memory, and memory with swap where the kernel counts it: else the limit would only move the task to swap.
fn limit_memory_v1(group: &Leaf, bytes: u64) -> Result<(), GroupError> {
    set(group, "memory.limit_in_bytes", &bytes.to_string())?;
    set_if_there(group, "memory.memsw.limit_in_bytes", &bytes.to_string())
}
