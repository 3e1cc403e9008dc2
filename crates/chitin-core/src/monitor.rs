//! The resource monitor: from what was measured to what is to be done. Pure; who measures and who acts is the gateway.
//!
//! ```text
//!  memory of all:  calm ──75 %──▶ tight ──90 %──▶ high ──95 %──▶ critical
//!                  starts          paused          and refused     and the largest attempt ends
//! ```
//!
//! Intuition: up at once, down slowly. A level is left upwards by the first reading over its line, since a leak does not
//! wait; it is left downwards only when readings have stayed below a lower line for a while. Between the two lines
//! nothing changes, so what the step itself frees or takes does not make it flap.

use crate::Limits;

/// What was measured at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of the gateway and of everything it started, together.
    pub memory_bytes: u64,
    /// How busy the machine's processors were since the reading before; `None`: not known.
    pub cpu_percent: Option<u64>,
    /// Of the file system of the data directory; `None`: it does not answer.
    pub disk: Option<DiskReading>,
}

/// What is left on a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskReading {
    /// Its size.
    pub total_bytes: u64,
    /// What this user may still write.
    pub free_bytes: u64,
    /// Files it can hold; 0: it does not count them.
    pub total_inodes: u64,
    /// Files that can still be made.
    pub free_inodes: u64,
}

/// How much of the memory for all is in use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryLevel {
    /// Nothing is done.
    #[default]
    Calm,
    /// No attempt is started.
    Tight,
    /// Submissions are refused, too.
    High,
    /// The largest attempt is ended, too.
    Critical,
}

/// What a reading brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The memory's level is another one.
    Memory {
        /// Before.
        from: MemoryLevel,
        /// From now on.
        to: MemoryLevel,
    },
    /// There is too little room: submissions are refused.
    DiskLow,
    /// There is room again.
    DiskRecovered,
    /// The processors are too busy: it is told, and nothing else.
    CpuHigh,
    /// They are not any more.
    CpuRecovered,
    /// What can be made again, and what is past its time, is to go.
    Clean,
    /// The largest attempt is to end.
    Evict,
}

/// The lines of memory, in percent of what is there for all (R5.2). At 75 the tasks that run can still grow by a third;
/// at 90 what is in flight still fits; and 95 leaves time to end one before the kernel chooses.
const MEMORY_LINES: [u64; 3] = [75, 90, 95];
/// So far below its line a level must be left: more than an attempt's ordinary ups and downs.
const LOWER_BY_PERCENT: u64 = 5;
/// Files that must be left where nearly all are in use.
const LEAST_INODES: u64 = 10_000;
/// The room that must be left to recover, in percent of what must be left at all.
const RECOVERED_PERCENT: u64 = 110;
/// A processor that was busy for less is at work, not overloaded.
const CPU_HOLD_MS: i64 = 10_000;
/// An attempt that was told to end needs a moment to be gone; one at a time.
const EVICT_PAUSE_MS: i64 = 2_000;
/// Between two rounds of cleaning while it is needed.
const CLEAN_PAUSE_MS: i64 = 1_000;

/// A level that is entered at once, or when it lasts, and left slowly.
#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    level: usize,
    /// Since when readings have been asking for a lower, or a higher one.
    lower_since_ms: Option<i64>,
    higher_since_ms: Option<i64>,
}

impl Gate {
    /// `up`: the level by the lines; `down`: the level by the lower ones. The level before, if it is another one now.
    fn observe(&mut self, now_ms: i64, up: usize, down: usize, rise_ms: i64, fall_ms: i64) -> Option<usize> {
        let before = self.level;
        let lasts =
            |since: &mut Option<i64>, hold_ms| now_ms.saturating_sub(*since.get_or_insert(now_ms)) >= hold_ms;
        if up > before {
            self.lower_since_ms = None;
            if lasts(&mut self.higher_since_ms, rise_ms) {
                (self.level, self.higher_since_ms) = (up, None);
            }
        } else if down < before {
            self.higher_since_ms = None;
            if lasts(&mut self.lower_since_ms, fall_ms) {
                (self.level, self.lower_since_ms) = (down, None);
            }
        } else {
            (self.lower_since_ms, self.higher_since_ms) = (None, None);
        }
        (self.level != before).then_some(before)
    }
}

/// The monitor.
#[derive(Debug, Clone)]
pub struct Monitor {
    memory_bytes: u64,
    cpu_percent: u64,
    disk_used_percent: u64,
    disk_free_bytes: u64,
    hold_ms: i64,
    memory: Gate,
    disk: Gate,
    cpu: Gate,
    evicted_ms: Option<i64>,
    cleaned_ms: Option<i64>,
}

impl Monitor {
    /// Calm, until the first reading.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            memory_bytes: limits.memory_bytes,
            cpu_percent: limits.cpu_percent,
            disk_used_percent: limits.disk_used_percent,
            disk_free_bytes: limits.disk_free_bytes,
            hold_ms: i64::try_from(limits.monitor_hold_ms).unwrap_or(i64::MAX),
            memory: Gate::default(),
            disk: Gate::default(),
            cpu: Gate::default(),
            evicted_ms: None,
            cleaned_ms: None,
        }
    }

    /// How the memory is.
    #[must_use]
    pub fn memory(&self) -> MemoryLevel {
        level(self.memory.level)
    }

    /// Whether the disk has too little room.
    #[must_use]
    pub fn is_disk_low(&self) -> bool {
        self.disk.level > 0
    }

    /// Whether the processors are too busy.
    #[must_use]
    pub fn is_cpu_high(&self) -> bool {
        self.cpu.level > 0
    }

    /// Whether the next reading should come soon: something is done about the memory, or the first line is near.
    #[must_use]
    pub fn is_near(&self, reading: &Reading) -> bool {
        let first = MEMORY_LINES.first().copied().unwrap_or(0);
        self.memory.level > 0 || reading.memory_bytes >= self.share(first.saturating_sub(15))
    }

    /// Takes a reading in; `now_ms` is on a steady clock.
    pub fn observe(&mut self, now_ms: i64, reading: &Reading) -> Vec<Change> {
        let mut changes = Vec::new();
        let up = self.memory_level(reading.memory_bytes, 0);
        let down = self.memory_level(reading.memory_bytes, LOWER_BY_PERCENT);
        if let Some(from) = self.memory.observe(now_ms, up, down, 0, self.hold_ms) {
            changes.push(Change::Memory { from: level(from), to: self.memory() });
            if self.memory.level > from && self.memory() >= MemoryLevel::High {
                changes.push(Change::Clean);
            }
        }
        if let Some(disk) = &reading.disk {
            let [up, down] = [false, true].map(|lower| usize::from(self.is_low(disk, lower)));
            if self.disk.observe(now_ms, up, down, 0, self.hold_ms).is_some() {
                changes.push(if self.is_disk_low() { Change::DiskLow } else { Change::DiskRecovered });
            }
        }
        if let Some(cpu) = reading.cpu_percent {
            let [up, down] =
                [0, LOWER_BY_PERCENT].map(|lower| usize::from(cpu >= self.cpu_percent.saturating_sub(lower)));
            if self.cpu.observe(now_ms, up, down, CPU_HOLD_MS, CPU_HOLD_MS).is_some() {
                changes.push(if self.is_cpu_high() { Change::CpuHigh } else { Change::CpuRecovered });
            }
        }
        let due = |last: Option<i64>, pause_ms| last.is_none_or(|at| now_ms.saturating_sub(at) >= pause_ms);
        // By this reading, not by what the level is still held at.
        if up == MEMORY_LINES.len() && due(self.evicted_ms, EVICT_PAUSE_MS) {
            self.evicted_ms = Some(now_ms);
            changes.push(Change::Evict);
        }
        if self.is_disk_low() && due(self.cleaned_ms, CLEAN_PAUSE_MS) {
            self.cleaned_ms = Some(now_ms);
            changes.push(Change::Clean);
        }
        changes
    }

    fn memory_level(&self, bytes: u64, lower_by: u64) -> usize {
        MEMORY_LINES.iter().filter(|line| bytes >= self.share(line.saturating_sub(lower_by))).count()
    }

    fn share(&self, percent: u64) -> u64 {
        self.memory_bytes.saturating_mul(percent) / 100
    }

    /// Of room or of files: nearly all in use, and little left. With `lower`, by the lines of recovery.
    fn is_low(&self, disk: &DiskReading, lower: bool) -> bool {
        let (by, left) = if lower { (LOWER_BY_PERCENT, RECOVERED_PERCENT) } else { (0, 100) };
        let line = self.disk_used_percent.saturating_sub(by);
        let low = |total: u64, free: u64, least: u64| {
            let used = total.saturating_sub(free);
            total > 0
                && used.saturating_mul(100) >= total.saturating_mul(line)
                && free < least.saturating_mul(left) / 100
        };
        low(disk.total_bytes, disk.free_bytes, self.disk_free_bytes)
            || low(disk.total_inodes, disk.free_inodes, LEAST_INODES)
    }
}

/// How much memory of all brings each step: nothing is started, submissions are refused, the largest attempt ends.
#[must_use]
pub fn memory_lines(limits: &Limits) -> [u64; 3] {
    MEMORY_LINES.map(|percent| limits.memory_bytes.saturating_mul(percent) / 100)
}

/// The most memory that one attempt may be given: with it alone, nothing is done but that no other one starts beside it.
/// An attempt that grows beyond is out of memory by its own doing, and not the one that is in the others' way.
#[must_use]
pub fn most_for_one(limits: &Limits) -> u64 {
    limits.memory_bytes.saturating_mul(MEMORY_LINES.first().copied().unwrap_or(0)) / 100
}

impl MemoryLevel {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Tight => "tight",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

fn level(at: usize) -> MemoryLevel {
    match at {
        0 => MemoryLevel::Calm,
        1 => MemoryLevel::Tight,
        2 => MemoryLevel::High,
        _ => MemoryLevel::Critical,
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
