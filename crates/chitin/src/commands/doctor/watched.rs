//! What the resource monitor would watch here, and whether the configured limits can hold (R5.1). A limit beyond what there is
//! would be kept by the kernel instead, which ends whom it likes.

use chitin_gateway::Outlook;

use super::Finding;
use crate::units::show_size;

/// The memory for gateway and tasks is there.
pub(super) fn memory(outlook: &Outlook) -> Finding {
    let all = outlook.memory_bytes;
    let [starts, submissions, largest] = outlook.memory_lines.map(show_size);
    let detail = format!(
        "{} for gateway and tasks: nothing is started from {starts} on, submissions are refused from {submissions}, \
         the largest attempt ends at {largest}",
        show_size(all)
    );
    let group = outlook.group_memory_bytes.map(|bytes| (bytes, "the control group around it"));
    let machine = outlook.machine_memory_bytes.map(|bytes| (bytes, "this machine"));
    let least = group.into_iter().chain(machine).min_by_key(|(bytes, _)| *bytes);
    if let Some((bytes, whose)) = least.filter(|(bytes, _)| *bytes < all) {
        return Finding::warning(format!(
            "{detail}; {whose} has {}, so the kernel would end something first: set memory_bytes to {} or less",
            show_size(bytes),
            show_size(bytes / 10 * 8)
        ));
    }
    let [starts, ..] = outlook.memory_lines;
    if outlook.gateway_memory_bytes >= starts {
        return Finding::warning(format!(
            "{detail}; the gateway alone may take {}: set gateway_memory_bytes lower, or memory_bytes higher",
            show_size(outlook.gateway_memory_bytes)
        ));
    }
    if outlook.task_memory_bytes > outlook.most_for_one_bytes {
        return Finding::warning(format!(
            "{detail}; a task is to have {} (task_memory_bytes) and is given {} at most",
            show_size(outlook.task_memory_bytes),
            show_size(outlook.most_for_one_bytes)
        ));
    }
    Finding::ok(detail)
}

/// There is room for work and results, and will be.
pub(super) fn disk(outlook: &Outlook) -> Finding {
    let Some(disk) = outlook.disk else {
        return Finding::wrong("the file system of the data directory does not say what is left");
    };
    let (free, total) = (disk.free_bytes, disk.total_bytes);
    let files = match disk.total_inodes {
        0 => String::new(),
        total => format!(", {} of {total} files", disk.free_inodes),
    };
    let detail = format!("{} of {}{files}", show_size(free), show_size(total));
    if outlook.is_disk_low {
        return Finding::wrong(format!(
            "{detail}: new work is refused until there is more than {} (disk_free_bytes), or more files",
            show_size(outlook.disk_free_bytes)
        ));
    }
    if free < outlook.disk_free_bytes || free < total / 10 {
        return Finding::warning(format!("{detail}: little"));
    }
    let wanted = outlook.stored_bytes.saturating_add(outlook.disk_free_bytes);
    if wanted > total {
        return Finding::warning(format!(
            "{detail}; what waits and what is kept may take {}: set retention_bytes or waiting_bytes lower, or what has ended \
             goes before its time",
            show_size(outlook.stored_bytes)
        ));
    }
    Finding::ok(detail)
}

/// The kernel says when memory runs short.
pub(super) fn pressure(outlook: &Outlook) -> Finding {
    if outlook.is_pressure_told {
        return Finding::ok("the kernel tells when somebody waits for memory");
    }
    Finding::warning(format!(
        "the kernel does not tell when somebody waits for memory (/proc/pressure; psi=1 on its command line); it is looked at \
         every {} ms",
        outlook.monitor_interval_ms
    ))
}

/// There are descriptors for the connections there may be.
pub(super) fn descriptors(outlook: &Outlook) -> Finding {
    let Outlook { descriptors, connections, connections_wanted, .. } = outlook;
    if connections < connections_wanted {
        return Finding::warning(format!(
            "{descriptors} file descriptors allow for {connections} connections, not {connections_wanted}: raise the limit \
             (ulimit -Hn)"
        ));
    }
    Finding::ok(format!("{descriptors} for {connections} connections"))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn fit() -> Outlook {
        Outlook {
            memory_bytes: 2 * GB,
            memory_lines: [3 * GB / 2, 9 * GB / 5, 19 * GB / 10],
            gateway_memory_bytes: GB / 2,
            task_memory_bytes: GB / 2,
            most_for_one_bytes: 3 * GB / 2,
            machine_memory_bytes: Some(8 * GB),
            disk_free_bytes: GB,
            stored_bytes: 11 * GB,
            ..Outlook::default()
        }
    }

    #[test]
    fn memory_that_is_not_there_is_told_with_what_would_hold() {
        assert_eq!(memory(&fit()).verdict, Verdict::Ok);
        assert_eq!(memory(&Outlook { machine_memory_bytes: None, ..fit() }).verdict, Verdict::Ok);
        let small = memory(&Outlook { machine_memory_bytes: Some(GB), ..fit() });
        assert_eq!(small.verdict, Verdict::Warning);
        assert!(small.detail.ends_with("this machine has 1GB, so the kernel would end something first: set memory_bytes to 800MB or less"), "{small:?}");
        let group = memory(&Outlook { group_memory_bytes: Some(GB / 2), ..fit() });
        assert!(group.detail.contains("the control group around it has 500MB"), "{group:?}");
        let gateway = memory(&Outlook { gateway_memory_bytes: 3 * GB / 2, ..fit() });
        assert!(gateway.detail.contains("set gateway_memory_bytes lower"), "{gateway:?}");
        let task = memory(&Outlook { task_memory_bytes: 4 * GB, ..fit() });
        assert!(task.detail.contains("is given 1.5GB at most"), "{task:?}");
    }

    #[test]
    fn little_space_is_told_before_it_is_refused() {
        let room = |free_bytes, total_bytes, is_disk_low| {
            let reading = chitin_gateway::DiskReading { free_bytes, total_bytes, ..Default::default() };
            disk(&Outlook { disk: Some(reading), is_disk_low, ..fit() }).verdict
        };
        assert_eq!(room(100 * GB, 500 * GB, false), Verdict::Ok);
        assert_eq!(room(40 * GB, 500 * GB, false), Verdict::Warning);
        assert_eq!(room(GB / 2, 2 * GB, false), Verdict::Warning);
        assert_eq!(room(9 * GB, 10 * GB, false), Verdict::Warning, "it cannot hold what may be kept");
        assert_eq!(room(GB / 2, 500 * GB, true), Verdict::Wrong);
        assert_eq!(disk(&fit()).verdict, Verdict::Wrong);
    }

    #[test]
    fn a_kernel_that_says_nothing_and_few_descriptors_are_told() {
        assert_eq!(pressure(&Outlook { is_pressure_told: true, ..fit() }).verdict, Verdict::Ok);
        assert_eq!(pressure(&fit()).verdict, Verdict::Warning);
        let few = |connections| Outlook { descriptors: 256, connections, connections_wanted: 200, ..fit() };
        assert_eq!(descriptors(&few(200)).verdict, Verdict::Ok);
        assert!(descriptors(&few(127)).detail.contains("127 connections, not 200"));
    }
}
