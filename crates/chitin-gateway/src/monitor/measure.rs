//! What is measured, and how: the gateway's own memory, that of each attempt, the machine's processors and pressure, and
//! the file system of the data directory. The last may hang with its disk, so a thread of its own looks at it, and what it
//! saw last counts for a moment only.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chitin_core::AttemptKey;
use chitin_core::monitor::{DiskReading, Reading};

use crate::clock;
use crate::runner::Context;

/// Between two looks at the disk.
const LOOK_AT_DISK: Duration = Duration::from_millis(250);
/// What was seen longer ago is not known any more.
const DISK_COUNTS_FOR_MS: i64 = 10_000;
/// In hundredths of a second, on all processors together: less tells nothing about how busy they are.
const LEAST_TICKS: u64 = 20;

/// Everything at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Measured {
    pub(super) reading: Reading,
    pub(super) gateway_bytes: u64,
    pub(super) attempts_bytes: u64,
    /// The attempt with the most memory whose end nobody wants yet.
    pub(super) largest: Option<(AttemptKey, u64)>,
    /// How much of the last ten seconds somebody waited for memory, processors and disks, in percent.
    pub(super) pressure: [Option<f64>; 3],
    pub(super) descriptors: Option<u64>,
}

/// Measures.
#[derive(Debug)]
pub(super) struct Meter {
    context: Arc<Context>,
    disk: Arc<Disk>,
    /// Ticks of the processors: busy, and all.
    ticks: Option<(u64, u64)>,
    cpu_percent: Option<u64>,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    seen: Mutex<Option<(i64, DiskReading)>>,
    stop: AtomicBool,
}

impl Meter {
    pub(super) fn new(context: Arc<Context>, data_dir: PathBuf) -> std::io::Result<Self> {
        let disk = Arc::new(Disk { path: data_dir, seen: Mutex::default(), stop: AtomicBool::new(false) });
        disk.look();
        let looked_at = Arc::clone(&disk);
        // Not waited for at the end: it may be waiting for a disk that hangs.
        thread::Builder::new().name("chitin-disk".to_owned()).spawn(move || {
            while !looked_at.stop.load(Ordering::Relaxed) {
                thread::park_timeout(LOOK_AT_DISK);
                looked_at.look();
            }
        })?;
        Ok(Self { context, disk, ticks: None, cpu_percent: None })
    }

    pub(super) fn take(&mut self) -> Measured {
        let gateway_bytes = chitin_shim::heap::own_bytes().unwrap_or(0);
        let mut attempts_bytes: u64 = 0;
        let mut largest: Option<(AttemptKey, u64)> = None;
        for (key, shim_pid, is_ending) in self.context.hub.under_way() {
            let isolation = self.context.isolation(key);
            let Some(bytes) = chitin_shim::usage::memory_bytes(&isolation, shim_pid) else { continue };
            attempts_bytes = attempts_bytes.saturating_add(bytes);
            if !is_ending && largest.is_none_or(|(_, most)| bytes > most) {
                largest = Some((key, bytes));
            }
        }
        self.look_at_processors();
        Measured {
            reading: Reading {
                memory_bytes: gateway_bytes.saturating_add(attempts_bytes),
                cpu_percent: self.cpu_percent,
                disk: self.disk.last(),
            },
            gateway_bytes,
            attempts_bytes,
            largest,
            pressure: ["memory", "cpu", "io"].map(pressure),
            descriptors: fs::read_dir("/proc/self/fd").ok().map(|fds| number(fds.count())),
        }
    }

    fn look_at_processors(&mut self) {
        let Some(now) = fs::read_to_string("/proc/stat").ok().and_then(|stat| ticks(&stat)) else { return };
        let Some(before) = self.ticks else {
            self.ticks = Some(now);
            return;
        };
        let (busy, all) = (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1));
        if all >= LEAST_TICKS {
            self.ticks = Some(now);
            self.cpu_percent = Some(busy.saturating_mul(100) / all);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.disk.stop.store(true, Ordering::Relaxed);
    }
}

impl Disk {
    fn look(&self) {
        let seen = room(&self.path);
        if let Ok(mut place) = self.seen.lock()
            && let Some(seen) = seen
        {
            *place = Some((clock::boottime_ms(), seen));
        }
    }

    fn last(&self) -> Option<DiskReading> {
        let (at, seen) = (*self.seen.lock().ok()?)?;
        (clock::boottime_ms().saturating_sub(at) < DISK_COUNTS_FOR_MS).then_some(seen)
    }
}

/// What is left on a path's file system.
pub(super) fn room(path: &Path) -> Option<DiskReading> {
    let stat = rustix::fs::statvfs(path).ok()?;
    Some(DiskReading {
        // What is reserved for the system is not ours to fill.
        total_bytes: stat
            .f_blocks
            .saturating_sub(stat.f_bfree.saturating_sub(stat.f_bavail))
            .saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        total_inodes: stat.f_files,
        free_inodes: stat.f_favail,
    })
}

/// Busy ticks and all, from `/proc/stat`. Who waits for a disk keeps no processor busy.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let fields: Vec<u64> = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace()
        // Beyond these stands guest time, which is in them already.
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let all = fields.iter().sum::<u64>();
    let idle = fields.get(3)?.saturating_add(fields.get(4).copied().unwrap_or(0));
    Some((all.saturating_sub(idle), all))
}

/// The machine's memory.
pub(super) fn machine_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"))?;
    kib.parse::<u64>().ok()?.checked_mul(1_024)
}

/// `None`: this kernel does not tell.
fn pressure(what: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/pressure/{what}")).ok()?;
    parse_pressure(&text)
}

fn parse_pressure(text: &str) -> Option<f64> {
    text.lines().next()?.strip_prefix("some avg10=")?.split(' ').next()?.parse().ok()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        assert_eq!(ticks("cpu  10 0 20 100 5 1 2 3 0 0\ncpu0 1 2\n"), Some((36, 141)));
        assert_eq!(ticks("cpu 1 2 3\n"), None);
        assert_eq!(parse_pressure("some avg10=1.53 avg60=0.00 avg300=0.00 total=1\nfull ...\n"), Some(1.53));
        assert_eq!(parse_pressure("nonsense"), None);
        assert!(machine_bytes().unwrap() > 10_000_000);
        let room = room(Path::new("/proc/self")).unwrap();
        assert_eq!(room.total_bytes, 0, "a file system without any");
    }

    #[test]
    fn what_the_disk_said_long_ago_is_not_known() {
        let disk = Disk {
            path: "/".into(),
            seen: Mutex::new(Some((clock::boottime_ms() - DISK_COUNTS_FOR_MS, DiskReading::default()))),
            stop: AtomicBool::new(false),
        };
        assert_eq!(disk.last(), None);
        disk.look();
        assert!(disk.last().unwrap().total_bytes > 0);
    }
}
