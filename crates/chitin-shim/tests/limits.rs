//! What the kernel enforces, on the tiers it does.

mod common;

use chitin_proto::shim::{Cause, ResourceLimits};
use common::{group_tiers, limited, sh, until};

const LIMIT: u64 = 32_000_000;

fn memory() -> ResourceLimits {
    ResourceLimits { memory_bytes: Some(LIMIT), ..ResourceLimits::default() }
}

#[test]
fn the_memory_limit_is_told_as_the_reason() {
    for tier in &group_tiers().0 {
        let attempt = limited(tier, &["tail", "/dev/zero"], memory());
        let report = attempt.run();
        assert_eq!((report.cause, report.signal), (Cause::OomKilled { limit_bytes: LIMIT }, Some(9)));
        assert!((LIMIT / 2..=LIMIT).contains(&report.peak_memory_bytes.unwrap()));
    }
}

#[test]
fn a_child_that_meets_the_limit_ends_the_whole_tree() {
    for tier in &group_tiers().0 {
        // The shell itself is small and would wait for ever.
        let attempt = limited(tier, &["/bin/sh", "-c", "tail /dev/zero; sleep 1000"], memory());
        let report = attempt.run();
        assert_eq!((report.cause, report.signal), (Cause::OomKilled { limit_bytes: LIMIT }, Some(9)));
    }
}

#[test]
fn without_groups_the_tree_is_measured() {
    let tier = chitin_shim::groups::Tier::Rlimit;
    let python = "x = bytearray(100_000_000); print('full', flush=True); import time; time.sleep(1000)";
    let attempt = limited(&tier, &["/usr/bin/env", "python3", "-c", python], memory());
    let report = attempt.run();
    assert_eq!(report.cause, Cause::OomKilled { limit_bytes: LIMIT });
}

#[test]
fn the_pids_limit_holds_a_fork_bomb() {
    for tier in &group_tiers().0 {
        let limits = ResourceLimits { pids: Some(8), ..ResourceLimits::default() };
        let script = "i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done";
        let attempt = limited(tier, &["/bin/sh", "-c", script], limits);
        let report = attempt.run();
        assert_ne!(report.exit_code, Some(0), "the shell cannot fork and says so");
        assert!(attempt.stderr(&report).to_lowercase().contains("fork"), "{}", attempt.stderr(&report));
    }
}

#[test]
fn the_cpu_limit_is_written() {
    for tier in &group_tiers().0 {
        let limits = ResourceLimits { cpu_millis: Some(250), ..ResourceLimits::default() };
        let attempt = limited(tier, &["/bin/sh", "-c", "until [ -e go ]; do sleep 0.01; done"], limits);
        let mut gateway = attempt.start();
        gateway.started();
        let quota = attempt.groups().iter().find_map(|g| {
            let v1 = std::fs::read_to_string(g.join("cpu.cfs_quota_us"));
            v1.or_else(|_| std::fs::read_to_string(g.join("cpu.max"))).ok()
        });
        assert_eq!(quota.unwrap().split_whitespace().next(), Some("25000"));
        std::fs::write(attempt.file("go"), "").unwrap();
        gateway.ended();
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn cpu_time_and_memory_are_counted() {
    for tier in &common::tiers().0 {
        let attempt = sh(tier, "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done");
        let report = attempt.run();
        assert!(report.cpu_ms > 10 && report.peak_memory_bytes.unwrap() > 100_000, "{report:?}");
    }
}

#[test]
fn the_shim_sits_outside_and_the_command_inside() {
    for tier in &group_tiers().0 {
        let attempt = sh(tier, "until [ -e go ]; do sleep 0.01; done");
        let mut gateway = attempt.start();
        let command = gateway.started();
        for group in attempt.groups() {
            let members = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
            let members: Vec<u32> = members.lines().map(|l| l.parse().unwrap()).collect();
            assert!(
                members.contains(&command) && !members.contains(&gateway.shim_pid),
                "{}",
                group.display()
            );
        }
        std::fs::write(attempt.file("go"), "").unwrap();
        gateway.ended();
        gateway.settle();
    }
}

#[test]
fn a_stale_group_of_the_same_name_is_ended_and_made_anew() {
    for tier in &group_tiers().0 {
        let stale = limited(tier, &["sleep", "1000"], memory());
        let mut first = stale.start();
        let pid = first.started();
        common::kill9(first.shim_pid);
        common::wait_for(first.shim_pid);
        // More than the stale group allowed.
        let mut attempt = sh(tier, "head -c 100000000 /dev/zero | tail -c 99000000 | wc -c");
        attempt.order.isolation = stale.order.isolation.clone();
        assert_eq!(attempt.stdout(&attempt.run()), "99000000\n");
        until("the stale command is gone", || !common::alive(pid));
    }
}
