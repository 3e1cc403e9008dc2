//! What the kernel enforces, on the tiers it does.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may; clippy sees none outside of one")]

mod common;

use chitin_proto::shim::{Cause, Isolation, PidsRefused, ResourceLimits, StartStep};
use chitin_shim::groups::Tier;
use common::{group_tiers, limited, sh, until};
use rustix::process::{Resource, getrlimit};

const LIMIT: u64 = 48_000_000;

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
    let tier = Tier::Rlimit;
    let python = "x = bytearray(100_000_000); print('full', flush=True); import time; time.sleep(1000)";
    let attempt = limited(&tier, &["/usr/bin/env", "python3", "-c", python], memory());
    let report = attempt.run();
    assert_eq!(report.cause, Cause::OomKilled { limit_bytes: LIMIT });
}

#[test]
fn what_the_tree_shares_counts_once() {
    let tier = Tier::Rlimit;
    // Six processes of 20 MB that are one and the same 20 MB; a look that finds nothing leaves no other trace than
    // that the command lives on for a few of them.
    let python = "import os, time\n\
        x = bytearray(20_000_000)\n\
        for _ in range(5):\n    if os.fork() == 0: time.sleep(1.7); os._exit(0)\n\
        for _ in range(5): os.wait()";
    let attempt = limited(&tier, &["/usr/bin/env", "python3", "-c", python], memory());
    let report = attempt.run();
    assert_eq!((report.cause, report.exit_code), (Cause::Exited, Some(0)));
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
fn refused_processes_are_told_with_the_limit() {
    for tier in &group_tiers().0 {
        let limits = ResourceLimits { pids: Some(8), ..ResourceLimits::default() };
        let many = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; wait";
        let report = limited(tier, &["/bin/sh", "-c", many], limits.clone()).run();
        assert_eq!(report.pids_refused, Some(PidsRefused { limit: 8, times: 1 }), "{}", tier.name());
        let report = limited(tier, &["true"], limits).run();
        assert_eq!(report.pids_refused, None, "{}", tier.name());
    }
}

#[test]
fn files_and_descriptors_are_bounded_for_the_command_alone() {
    for tier in &common::tiers().0 {
        let own = getrlimit(Resource::Nofile);
        let attempt = sh(tier, "ulimit -Sn; ulimit -Hn; ulimit -f");
        let shown = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        let unbounded = format!("{}\n{}\nunlimited\n", shown(own.current), shown(own.maximum));
        assert_eq!(attempt.stdout(&attempt.run()), unbounded, "as the shim was started with");

        // What the command says may be longer than its files: the shim keeps that.
        let limits =
            ResourceLimits { file_bytes: Some(10_240), open_files: Some(77), ..ResourceLimits::default() };
        let script = "ulimit -Sn; ulimit -Hn; ulimit -f; head -c 50000 /dev/zero; exec head -c 20000 /dev/zero > large";
        let attempt = limited(tier, &["/bin/sh", "-c", script], limits);
        let report = attempt.run();
        // The shell counts in blocks of 512 bytes.
        assert!(attempt.stdout(&report).starts_with("77\n77\n20\n"), "{}", attempt.stdout(&report));
        assert_eq!((report.cause, report.signal), (Cause::Signalled, Some(25)), "SIGXFSZ");
        assert_eq!(report.stdout.total_bytes, 50_009);
        assert_eq!(attempt.file("large").metadata().unwrap().len(), 10_240);
    }
}

#[test]
fn a_niceness_is_the_commands_and_not_the_shims() {
    let limits = ResourceLimits { nice: 7, ..ResourceLimits::default() };
    let attempt = limited(&Tier::Rlimit, &["/bin/sh", "-c", "until [ -e go ]; do sleep 0.01; done"], limits);
    let mut gateway = attempt.start();
    let command = gateway.started();
    // Field 19; counted from behind the name.
    let nice = |pid: u32| -> i32 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit(") ").next().unwrap().split(' ').nth(16).unwrap().parse().unwrap()
    };
    let own = nice(std::process::id());
    assert_eq!((nice(command), nice(gateway.shim_pid)), ((own + 7).min(19), own));
    std::fs::write(attempt.file("go"), "").unwrap();
    gateway.ended();
    gateway.settle();
}

#[test]
fn all_attempts_together_have_their_weight_of_cpu_time() {
    for tier in &group_tiers().0 {
        let (place, file, weight) = match tier {
            Tier::Cgroup2 { base, cpu: true, .. } => (base, "cpu.weight", common::WEIGHT),
            Tier::Cgroup1 { cpu: Some(base), .. } => (base, "cpu.shares", common::WEIGHT * 1_024 / 100),
            _ => continue,
        };
        let place = place.join(format!("chitin-{}", common::instance()));
        let written = std::fs::read_to_string(place.join(file)).unwrap();
        assert_eq!(written.trim(), weight.to_string());
        let attempt = sh(tier, "until [ -e go ]; do sleep 0.01; done");
        let mut gateway = attempt.start();
        let command = gateway.started();
        let groups = std::fs::read_to_string(format!("/proc/{command}/cgroup")).unwrap();
        let inside = groups.lines().any(|line| {
            let controllers = line.split(':').nth(1).unwrap();
            let is_cpu = match tier {
                Tier::Cgroup2 { .. } => controllers.is_empty(),
                _ => controllers.split(',').any(|name| name == "cpu"),
            };
            is_cpu && line.contains(&format!("chitin-{}/", common::instance()))
        });
        assert!(inside, "{groups}");
        std::fs::write(attempt.file("go"), "").unwrap();
        gateway.ended();
        gateway.settle();
        attempt.assert_nothing_left();
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

#[test]
fn groups_of_a_gateway_that_sat_elsewhere_are_swept() {
    for tier in &group_tiers().0 {
        let (Tier::Cgroup1 { memory: base, .. } | Tier::Cgroup2 { base, .. }) = tier else { continue };
        let elsewhere = base.join(format!("chitin-elsewhere-{}", common::instance()));
        let place = elsewhere.join(format!("chitin-{}", common::instance()));
        for leaf in ["t.1", "t.2"] {
            std::fs::create_dir_all(place.join(leaf)).unwrap();
        }
        assert_eq!(tier.sweep(&common::instance(), &|name| name == "t.2"), 1);
        assert!(place.join("t.2").exists() && !place.join("t.1").exists());
        assert_eq!(tier.sweep(&common::instance(), &|_| false), 1);
        assert!(!place.exists());
        std::fs::remove_dir(elsewhere).unwrap();
    }
}

/// A group in the version 2 tree, even where no controller is there for it: joining, killing, counting CPU time.
fn bare_group(attempt: &mut common::Attempt) -> Option<std::path::PathBuf> {
    let Tier::Cgroup1 { unified: Some(base), .. } = chitin_shim::groups::detect() else {
        println!("skipped: no version 2 tree without controllers");
        return None;
    };
    let place = base.join(format!("chitin-{}", common::instance()));
    std::fs::create_dir(&place).unwrap();
    attempt.order.isolation = Isolation::Cgroup2 { group: place.join("leaf") };
    Some(place)
}

#[test]
fn a_version_2_group_keeps_a_tree_together() {
    let mut attempt = sh(
        &Tier::Rlimit,
        "setsid sleep 1000 & i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exec sleep 1000",
    );
    let Some(place) = bare_group(&mut attempt) else { return };
    let mut gateway = attempt.start();
    gateway.started();
    until("both sleep", || attempt.named("sleep") == 2);
    let members = std::fs::read_to_string(place.join("leaf/cgroup.procs")).unwrap();
    assert_eq!(members.lines().count(), 2);
    gateway.cancel();
    let report = gateway.ended();
    assert!(report.cause == Cause::Cancelled && report.cpu_ms > 0, "{report:?}");
    gateway.settle();
    attempt.assert_nothing_left();
    std::fs::remove_dir(place).unwrap();
}

#[test]
fn a_limit_that_cannot_be_set_is_our_trouble() {
    let mut attempt = limited(&Tier::Rlimit, &["touch", "ran"], memory());
    let Some(place) = bare_group(&mut attempt) else { return };
    let mut gateway = attempt.start();
    let why = gateway.not_started();
    assert_eq!((why.step, why.errno), (StartStep::Machinery, 2));
    assert!(why.message.starts_with("cannot set memory.max of the group"), "{}", why.message);
    gateway.settle();
    attempt.assert_nothing_left();
    assert!(!attempt.file("ran").exists());
    std::fs::remove_dir(place).unwrap();
}
