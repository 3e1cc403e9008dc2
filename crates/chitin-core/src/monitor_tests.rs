//! Up at once, down slowly, and never back and forth.

use super::*;

const GB: u64 = 1_000_000_000;

fn monitor() -> Monitor {
    Monitor::new(&Limits::default())
}

/// Percent of the default 2 GB.
fn memory(percent: u64) -> Reading {
    Reading { memory_bytes: percent * 20_000_000, ..Reading::default() }
}

fn disk(total_bytes: u64, free_bytes: u64) -> Reading {
    let disk = DiskReading { total_bytes, free_bytes, total_inodes: 0, free_inodes: 0 };
    Reading { disk: Some(disk), ..Reading::default() }
}

#[test]
fn each_line_has_its_step_and_is_met_at_once() {
    let mut monitor = monitor();
    let up = |from, to| Change::Memory { from, to };
    use MemoryLevel::{Calm, Critical, High, Tight};
    assert_eq!(monitor.observe(0, &memory(74)), []);
    assert_eq!(monitor.observe(1, &memory(75)), [up(Calm, Tight)]);
    assert_eq!(monitor.observe(2, &memory(90)), [up(Tight, High), Change::Clean]);
    assert_eq!(monitor.observe(3, &memory(95)), [up(High, Critical), Change::Clean, Change::Evict]);
    let mut monitor = self::monitor();
    assert_eq!(
        monitor.observe(0, &memory(300)),
        [up(Calm, Critical), Change::Clean, Change::Evict],
        "all at once"
    );
}

#[test]
fn it_is_left_only_below_the_lower_line_and_after_a_while() {
    let mut monitor = monitor();
    monitor.observe(0, &memory(92));
    for at in 1..100 {
        assert_eq!(monitor.observe(at * 1_000, &memory(86)), [], "between the lines nothing changes");
    }
    monitor.observe(100_000, &memory(60));
    monitor.observe(101_999, &memory(60));
    assert_eq!(monitor.memory(), MemoryLevel::High, "not yet");
    assert_eq!(
        monitor.observe(102_000, &memory(60)),
        [Change::Memory { from: MemoryLevel::High, to: MemoryLevel::Calm }]
    );
}

#[test]
fn a_reading_above_begins_the_wait_anew() {
    let mut monitor = monitor();
    monitor.observe(0, &memory(92));
    for second in 1..60 {
        let percent = if second % 2 == 0 { 60 } else { 91 };
        assert_eq!(monitor.observe(second * 1_000, &memory(percent)), [], "it does not flap");
    }
}

#[test]
fn one_attempt_at_a_time_is_ended_and_only_while_it_is_needed() {
    let mut monitor = monitor();
    let evictions = |monitor: &mut Monitor, from: i64, to: i64, percent| {
        let at = (from..to).step_by(250).map(|at| monitor.observe(at, &memory(percent)));
        at.flatten().filter(|change| *change == Change::Evict).count()
    };
    assert_eq!(evictions(&mut monitor, 0, 10_000, 97), 5, "one in two seconds");
    assert_eq!(evictions(&mut monitor, 10_000, 20_000, 94), 0, "the level is held, and nobody ends for it");
    assert_eq!(monitor.memory(), MemoryLevel::Critical);
}

#[test]
fn a_disk_is_low_when_most_is_used_and_little_is_left() {
    let low = |total, free| {
        let mut monitor = monitor();
        monitor.observe(0, &disk(total, free)).contains(&Change::DiskLow)
    };
    assert!(low(100 * GB, GB - 1), "99 % used, less than 1 GB left");
    assert!(!low(100 * GB, GB), "exactly 1 GB left");
    assert!(!low(5 * GB, GB - 1), "four fifths used");
    assert!(!low(9 * GB, GB - 1), "a ninth is left");
    assert!(low(9 * GB, 9 * GB / 10), "90 % used exactly");
}

#[test]
fn files_can_run_out_before_room_does() {
    let mut monitor = monitor();
    let of = |free_inodes| Reading {
        disk: Some(DiskReading {
            total_bytes: 100 * GB,
            free_bytes: 90 * GB,
            total_inodes: 200_000,
            free_inodes,
        }),
        ..Reading::default()
    };
    assert_eq!(monitor.observe(0, &of(10_000)), []);
    assert_eq!(monitor.observe(1, &of(9_999)), [Change::DiskLow, Change::Clean]);
    assert_eq!(monitor.observe(2, &of(100)), [], "cleaning takes a moment");
    assert_eq!(monitor.observe(1_001, &of(100)), [Change::Clean]);
    monitor.observe(2_000, &of(50_000));
    assert_eq!(monitor.observe(4_000, &of(50_000)), [Change::DiskRecovered]);
    assert!(!monitor.is_disk_low());
}

#[test]
fn a_disk_that_does_not_answer_changes_nothing() {
    let mut monitor = monitor();
    monitor.observe(0, &disk(100 * GB, 1));
    for at in 1..100 {
        monitor.observe(at * 1_000, &Reading::default());
        assert!(monitor.is_disk_low());
    }
}

#[test]
fn a_busy_processor_is_told_only_when_it_lasts() {
    let mut monitor = monitor();
    let busy = |cpu_percent| Reading { cpu_percent: Some(cpu_percent), ..Reading::default() };
    assert_eq!(monitor.observe(0, &busy(100)), []);
    assert_eq!(monitor.observe(9_999, &busy(100)), []);
    assert_eq!(monitor.observe(10_000, &busy(80)), [Change::CpuHigh]);
    assert_eq!(monitor.observe(20_000, &busy(76)), [], "above the lower line");
    assert_eq!(monitor.observe(30_000, &busy(10)), []);
    assert_eq!(monitor.observe(40_000, &busy(10)), [Change::CpuRecovered]);
}

#[test]
fn near_a_line_readings_come_sooner() {
    let mut monitor = monitor();
    assert!(!monitor.is_near(&memory(59)) && monitor.is_near(&memory(60)));
    monitor.observe(0, &memory(80));
    assert!(monitor.is_near(&memory(1)), "until it is calm again");
}

#[test]
fn one_attempt_alone_never_has_to_be_evicted() {
    let limits = Limits::default();
    let mut monitor = monitor();
    let gateway = 100_000_000;
    let reading = Reading { memory_bytes: most_for_one(&limits) + gateway, ..Reading::default() };
    assert!(!monitor.observe(0, &reading).contains(&Change::Evict));
    assert!(monitor.memory() < MemoryLevel::High, "nor are submissions refused");
}
