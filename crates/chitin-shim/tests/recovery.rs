//! Claims, gateways that die and come back, shims that are killed.

mod common;

use std::path::Path;

use chitin_proto::shim::{Cause, FromShim, PROTOCOL_VERSION, names};
use chitin_shim::recover::{self, Found, Voided};
use chitin_shim::{start, tree};
use common::{EPOCH, TOKEN, alive, boot_id, kill9, sh, tiers, until, wait_for};

#[test]
fn a_voided_attempt_never_runs() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(tier, "touch ran");
        assert_eq!(recover::void(attempt.path(), TOKEN, &boot_id()).unwrap(), Voided::Voided);
        let mut gateway = attempt.start();
        assert_eq!(gateway.next(), Some(FromShim::Void { v: PROTOCOL_VERSION }));
        assert_eq!(gateway.next(), None);
        gateway.wait();
        assert_eq!(attempt.probe(), Found::Void);
        assert!(!attempt.file("ran").exists());
        assert_eq!(std::fs::read_dir(attempt.path()).unwrap().count(), 1, "only the void claim");
        attempt.assert_nothing_left();
    }
}

#[test]
fn a_swept_folder_is_never_made_again() {
    let tiers = tiers();
    let dir = tempfile::tempdir().unwrap();
    let mut attempt = sh(&tiers.0[0], "touch ran");
    attempt.order.cwd = Some(dir.path().to_owned());
    let gone = dir.path().join("gone");
    let shim = Path::new(env!("CARGO_BIN_EXE_chitin-shim"));
    let spawned = start::spawn(shim, &gone, &attempt.order, None).unwrap();
    let mut gateway = common::Gateway::new(spawned.pid.unwrap(), spawned.socket);
    assert_eq!(gateway.next(), None);
    gateway.wait();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_claim_tells_who_runs_it() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(tier, "read x < /dev/null; until [ -e go ]; do sleep 0.01; done");
        let mut gateway = attempt.start();
        gateway.started();
        assert_eq!(attempt.probe(), Found::Alive);
        assert_eq!(recover::void(attempt.path(), TOKEN, &boot_id()).unwrap(), Voided::LostToClaim);
        let by = attempt.claim().shim.unwrap();
        assert_eq!((by.pid, by.isolation), (gateway.shim_pid, attempt.order.isolation.clone()));
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", by.pid)).unwrap();
        let cmdline = std::fs::read(format!("/proc/{}/cmdline", by.pid)).unwrap();
        assert_eq!(comm, "chitin-shim\n");
        assert_eq!(cmdline, format!("chitin-shim\0{}\0", attempt.path().display()).into_bytes());
        let other_boot = recover::probe(attempt.path(), TOKEN, "another").unwrap();
        assert_eq!(other_boot, Found::OtherBoot { record: None });
        std::fs::write(attempt.file("go"), "").unwrap();
        gateway.ended();
        gateway.settle();
        assert!(matches!(attempt.probe(), Found::Dead { record: None, .. }), "settled: no record is due");
    }
}

#[test]
fn an_end_that_nobody_hears_is_on_disk() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(
            tier,
            "until [ -e go ]; do sleep 0.01; done; seq 100000; echo no >&2; echo yes > result; exit 3",
        );
        let mut gateway = attempt.start();
        gateway.started();
        let shim_pid = gateway.shim_pid;
        drop(gateway);
        std::fs::write(attempt.file("go"), "").unwrap();
        wait_for(shim_pid);
        let Found::Dead { record: Some(report), .. } = attempt.probe() else {
            panic!("{:?}", attempt.probe());
        };
        assert_eq!((&report.cause, report.exit_code), (&Cause::Exited, Some(3)));
        let all: String = (1..=100_000).map(|i| format!("{i}\n")).collect();
        assert!(attempt.stdout(&report) == all);
        assert_eq!(attempt.stderr(&report), "no\n");
        assert_eq!(report.result.as_ref().unwrap().crc32, crc32fast::hash(b"yes\n"));
        assert_eq!(attempt.read(names::INTERLEAVE).len() as u64, report.interleave_bytes);
        assert!(!attempt.file(names::EXIT_RECORD_DRAFT).exists());
        assert_eq!(recover::probe(attempt.path(), "other", &boot_id()).unwrap(), Found::NoClaim);
        let other_boot = recover::probe(attempt.path(), TOKEN, "another").unwrap();
        assert_eq!(other_boot, Found::OtherBoot { record: Some(report) });
        attempt.assert_nothing_left();
    }
}

#[test]
fn a_gateway_that_leaves_after_the_report_finds_the_record() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "exit 5");
    let mut gateway = attempt.start();
    let report = gateway.ended();
    gateway.desert();
    match attempt.probe() {
        Found::Dead { record: Some(record), .. } => assert_eq!(record, report),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_start_that_failed_is_recorded_like_an_end() {
    let tiers = tiers();
    let mut attempt = sh(&tiers.0[0], "");
    attempt.order.command = vec!["no-such-tool".into()];
    let gateway = attempt.start();
    gateway.desert();
    match attempt.probe() {
        Found::Dead { record: Some(record), .. } => assert!(matches!(record.cause, Cause::NotStarted(_))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_gateway_takes_a_running_attempt_over() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "until [ -e go ]; do sleep 0.01; done; exit 6");
    let mut first = attempt.start();
    let pid = first.started();
    let mut second = attempt.attach(first.shim_pid, EPOCH + 2);
    assert_eq!(second.started(), pid);
    assert_eq!(first.next(), None, "the old one is closed");
    let mut late = attempt.attach(first.shim_pid, EPOCH + 1);
    assert_eq!(late.next(), None, "a lower epoch is refused");
    std::fs::write(attempt.file("go"), "").unwrap();
    assert_eq!(second.ended().exit_code, Some(6));
    let mut third = attempt.attach(first.shim_pid, EPOCH + 2);
    assert_eq!(third.ended().exit_code, Some(6), "told again to whoever comes last");
    assert_eq!(second.next(), None);
    third.settle();
    attempt.assert_nothing_left();
}

#[test]
fn nobody_gives_orders_before_saying_who_it_is() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "until [ -e go ]; do sleep 0.01; done");
    let mut gateway = attempt.start();
    gateway.started();
    let mut stranger = common::Gateway::new(0, recover::connect(attempt.path()).unwrap());
    stranger.cancel();
    assert_eq!(stranger.next(), None);
    std::fs::write(attempt.file("go"), "").unwrap();
    assert_eq!(gateway.ended().cause, Cause::Exited);
    gateway.settle();
}

#[test]
fn a_killed_shim_is_seen_and_its_tree_is_ended() {
    let tiers = tiers();
    for tier in &tiers.0 {
        // Of another session and without a parent in the tree.
        let attempt = sh(tier, "setsid sh -c 'sleep 1000 & sleep 1000' & sleep 1000");
        let mut gateway = attempt.start();
        let command = gateway.started();
        until("the tree is complete", || attempt.named("sleep") == 3);
        kill9(gateway.shim_pid);
        wait_for(gateway.shim_pid);
        let Found::Dead { record: None, claim } = attempt.probe() else { panic!("{:?}", attempt.probe()) };
        let isolation = claim.shim.unwrap().isolation;
        tree::end(&isolation, &attempt.order.task, 1).unwrap();
        until("the tree is gone", || attempt.processes().is_empty() && !alive(command));
        for group in attempt.groups() {
            assert!(!group.exists(), "{}", group.display());
        }
        let again = tree::end(&isolation, &attempt.order.task, 1).unwrap();
        assert_eq!(again.killed, 0, "ending what is gone does nothing");
    }
}

#[test]
fn without_groups_the_command_dies_with_its_shim() {
    let attempt = sh(&chitin_shim::groups::Tier::Rlimit, "exec sleep 1000");
    let mut gateway = attempt.start();
    let command = gateway.started();
    kill9(gateway.shim_pid);
    wait_for(gateway.shim_pid);
    until("the command is gone", || !alive(command));
}

#[test]
fn another_attempt_of_the_task_is_not_touched() {
    let tier = chitin_shim::groups::Tier::Rlimit;
    let attempt = sh(&tier, "exec sleep 1000");
    let mut gateway = attempt.start();
    let command = gateway.started();
    tree::end(&attempt.order.isolation, &attempt.order.task, 2).unwrap();
    assert!(alive(command));
    gateway.cancel();
    assert_eq!(gateway.ended().cause, Cause::Cancelled);
    gateway.settle();
}
