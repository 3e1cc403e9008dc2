//! What the monitor would watch here, and where its lines are: for whoever asks before there is a gateway (`chitin doctor`).

use std::path::Path;

use chitin_core::monitor::{DiskReading, Monitor, Reading, memory_lines, most_for_one};
use chitin_shim::descriptors;
use chitin_shim::groups::MemoryCap;

use super::{measure, trigger};
use crate::config::Config;
use crate::http::most_connections;

/// What there is, beside what is configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outlook {
    /// For gateway and tasks together.
    pub memory_bytes: u64,
    /// Where nothing is started any more, where submissions are refused, and where the largest attempt ends.
    pub memory_lines: [u64; 3],
    /// For the gateway itself.
    pub gateway_memory_bytes: u64,
    /// For a task that names none.
    pub task_memory_bytes: u64,
    /// What no task is given more than.
    pub most_for_one_bytes: u64,
    /// The machine's memory, if it says.
    pub machine_memory_bytes: Option<u64>,
    /// What a control group around this process leaves it, if one does.
    pub group_memory_bytes: Option<u64>,
    /// The data directory's file system, if it answers.
    pub disk: Option<DiskReading>,
    /// New work would be refused for its sake.
    pub is_disk_low: bool,
    /// What must be left of it where most is used.
    pub disk_free_bytes: u64,
    /// What waiting tasks, ended ones and the write-ahead log may take of it together.
    pub stored_bytes: u64,
    /// The kernel can be asked to tell when somebody waits for memory.
    pub is_pressure_told: bool,
    /// Between two looks of the monitor, else.
    pub monitor_interval_ms: u64,
    /// File descriptors that a gateway would have.
    pub descriptors: u64,
    /// Connections that they allow for.
    pub connections: u64,
    /// Connections that are configured.
    pub connections_wanted: u64,
}

/// Looks. `place`: the data directory, or the nearest folder above it that is there.
#[must_use]
pub fn outlook(config: &Config, place: &Path) -> Outlook {
    let limits = &config.limits;
    let disk = measure::room(place);
    let mut monitor = Monitor::new(limits);
    _ = monitor.observe(0, &Reading { disk, ..Reading::default() });
    let descriptors = descriptors::most_ever();
    Outlook {
        memory_bytes: limits.memory_bytes,
        memory_lines: memory_lines(limits),
        gateway_memory_bytes: limits.gateway_memory_bytes,
        task_memory_bytes: limits.task_memory_bytes,
        most_for_one_bytes: most_for_one(limits),
        machine_memory_bytes: measure::machine_bytes(),
        group_memory_bytes: MemoryCap::find().map(|cap| cap.limit_bytes),
        disk,
        is_disk_low: monitor.is_disk_low(),
        disk_free_bytes: limits.disk_free_bytes,
        stored_bytes: limits
            .waiting_bytes
            .saturating_add(limits.retention_bytes)
            .saturating_add(limits.wal_cap_bytes),
        is_pressure_told: trigger::set(None).is_ok(),
        monitor_interval_ms: limits.monitor_interval_ms,
        descriptors,
        connections: most_connections(limits, descriptors),
        connections_wanted: limits.connections,
    }
}
