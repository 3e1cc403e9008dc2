//! Pausing on every tier: a tree that stands still with all that belongs to it, a timeout that stands still with it, and
//! ends that find it all the same.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may; clippy sees none outside of one"
)]

mod common;

use std::fs;

use chitin_proto::shim::{Cause, FromShim, Isolation, PAUSE_SINCE, ToShim};
use chitin_shim::groups::Tier;
use common::{Attempt, Gateway, kill9, sh, tiers, until, wait_for};

/// The command and a grandchild of another session, without parent: each counts in a file of its own.
const COUNT: &str = "count() { n=0; while :; do n=$((n+1)); echo $n > $1; done; }; \
    setsid sh -c 'trap \"\" HUP; count() { n=0; while :; do n=$((n+1)); echo $n > $1; done; }; count stray & exit' & \
    count own";

fn counting(tier: &Tier) -> (Attempt, Gateway) {
    let attempt = sh(tier, COUNT);
    let mut gateway = attempt.start();
    match gateway.next() {
        Some(FromShim::Started { v, .. }) => assert!(v >= PAUSE_SINCE, "it says what it understands"),
        other => panic!("{other:?}"),
    }
    until("both count", || ["own", "stray"].iter().all(|name| attempt.file(name).exists()));
    (attempt, gateway)
}

fn counts(attempt: &Attempt) -> Vec<Vec<u8>> {
    ["own", "stray"].map(|name| fs::read(attempt.file(name)).unwrap_or_default()).to_vec()
}

/// Stopped by signals, or by the kernel's freezer.
fn stands_still(attempt: &Attempt) -> bool {
    let frozen = match &attempt.order.isolation {
        Isolation::Cgroup2 { group } | Isolation::Cgroup1 { unified: Some(group), .. } => {
            Some(fs::read_to_string(group.join("cgroup.events")).unwrap().contains("frozen 1"))
        }
        _ => None,
    };
    frozen.unwrap_or_else(|| {
        attempt.processes().iter().filter(|pid| !is_shim(**pid)).all(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // A shell that waits in the kernel for a child to begin, which was stopped first, stops when that goes on.
            stat.contains(") T ") || stat.contains(") D ")
        })
    })
}

fn is_shim(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "chitin-shim")
}

/// Whether neither has counted on, over as much time as a count takes many times over.
fn nothing_moves(attempt: &Attempt) -> bool {
    let before = counts(attempt);
    std::thread::sleep(std::time::Duration::from_millis(50));
    before == counts(attempt)
}

#[test]
fn a_paused_tree_stands_still_and_goes_on_where_it_was() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let (attempt, mut gateway) = counting(tier);
        for _ in 0..3 {
            gateway.send(&ToShim::Pause);
            until("all of it stands still", || stands_still(&attempt));
            assert!(nothing_moves(&attempt), "{}", tier.name());
            gateway.send(&ToShim::Resume);
            let before = counts(&attempt);
            until("both go on", || counts(&attempt).iter().zip(&before).all(|(now, before)| now != before));
        }
        gateway.cancel();
        assert_eq!(gateway.ended().cause, Cause::Cancelled);
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn the_timeout_does_not_count_while_a_tree_is_paused() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = sh(tier, "while :; do sleep 0.01; done");
        (attempt.order.timeout_ms, attempt.order.grace_ms) = (Some(1_500), 100);
        let mut gateway = attempt.start();
        gateway.started();
        gateway.send(&ToShim::Pause);
        // Longer than its time is: that a clock stands still shows only while others run.
        std::thread::sleep(std::time::Duration::from_millis(1_700));
        assert!(!attempt.processes().is_empty(), "{}: its time is not up", tier.name());
        gateway.send(&ToShim::Resume);
        let report = gateway.ended();
        assert_eq!(report.cause, Cause::TimedOut);
        let wall_ms = report.ended_at_ms - report.started_at_ms.unwrap();
        assert!(wall_ms >= 3_200, "{}: after {wall_ms} ms with the pause", tier.name());
        assert!(report.running_ms + 1_600 <= wall_ms.unsigned_abs(), "{} ms of {wall_ms}", report.running_ms);
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn a_cancel_thaws_so_that_the_command_can_put_its_things_away() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(tier, "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        let mut gateway = attempt.start();
        until("it traps SIGTERM", || attempt.file("stdout.0").exists());
        gateway.send(&ToShim::Pause);
        until("it stands still", || stands_still(&attempt));
        gateway.cancel();
        let report = gateway.ended();
        assert_eq!((&report.cause, report.exit_code), (&Cause::Cancelled, Some(7)), "{}", tier.name());
        assert_eq!(attempt.stdout(&report), "ready\nbye\n");
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn a_command_that_is_killed_while_it_is_paused_ends_with_what_it_left() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = sh(tier, COUNT);
        attempt.order.grace_ms = 200;
        let mut gateway = attempt.start();
        let pid = gateway.started();
        until("both count", || ["own", "stray"].iter().all(|name| attempt.file(name).exists()));
        gateway.send(&ToShim::Pause);
        until("all of it stands still", || stands_still(&attempt));
        kill9(pid);
        let report = gateway.ended();
        assert_eq!((report.cause, report.signal), (Cause::Signalled, Some(9)), "{}", tier.name());
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn the_tree_of_a_shim_that_was_killed_while_it_was_paused_is_ended() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let (attempt, mut gateway) = counting(tier);
        gateway.send(&ToShim::Pause);
        until("all of it stands still", || stands_still(&attempt));
        kill9(gateway.shim_pid);
        wait_for(gateway.shim_pid);
        chitin_shim::tree::end(&attempt.order.isolation, &attempt.order.task, 1).unwrap();
        until("nothing is left", || attempt.processes().is_empty());
        assert!(attempt.groups().iter().all(|group| !group.exists()), "{}", tier.name());
    }
}

#[test]
fn a_later_gateway_finds_it_paused_and_lets_it_go_on() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let (attempt, mut gateway) = counting(tier);
        gateway.send(&ToShim::Pause);
        until("all of it stands still", || stands_still(&attempt));
        let shim_pid = gateway.shim_pid;
        drop(gateway);
        let mut later = attempt.attach(shim_pid, common::EPOCH + 1);
        later.started();
        assert!(stands_still(&attempt), "nobody let it go on");
        later.send(&ToShim::Resume);
        let before = counts(&attempt);
        until("both go on", || counts(&attempt).iter().zip(&before).all(|(now, before)| now != before));
        later.cancel();
        assert_eq!(later.ended().cause, Cause::Cancelled);
        later.settle();
        attempt.assert_nothing_left();
    }
}
