//! How much memory attempts use, for whoever has to share what there is between them.

use std::path::Path;

use chitin_proto::shim::Isolation;

use crate::groups::files;
use crate::proc;

/// Memory of an attempt's tree now. By its group, without what the kernel only keeps of files and gives back when it is
/// needed; where no group counts it, by the processes below its shim.
#[must_use]
pub fn memory_bytes(isolation: &Isolation, shim_pid: Option<u32>) -> Option<u64> {
    let counted = match isolation {
        Isolation::Cgroup2 { group } => counted(group, "memory.current", "inactive_file"),
        Isolation::Cgroup1 { memory: Some(group), .. } => {
            counted(group, "memory.usage_in_bytes", "total_inactive_file")
        }
        Isolation::Cgroup1 { memory: None, .. } | Isolation::Rlimit => None,
    };
    counted.or_else(|| shim_pid.map(|pid| proc::resident_bytes(&proc::descendants(pid))))
}

fn counted(group: &Path, usage: &str, file_cache: &str) -> Option<u64> {
    let usage = files::number(&files::read(group, usage)?)?;
    let cached = files::read(group, "memory.stat").and_then(|stat| files::keyed(&stat, file_cache));
    Some(usage.saturating_sub(cached.unwrap_or(0)))
}
