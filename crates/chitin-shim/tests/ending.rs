//! Every way in which a tree ends, and that nothing of it stays.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may; clippy sees none outside of one")]

mod common;

use chitin_proto::shim::Cause;
use chitin_shim::recover::Found;
use common::{sh, tiers, until};

/// A grandchild of another session, without parent, that holds the pipes and ignores SIGTERM: the worst there is.
const STRAY: &str = "setsid sh -c '(trap \"\" TERM HUP; echo $$ > stray; sleep 1000; sleep 1000) & ' & wait $!; \
    until [ -s stray ]; do sleep 0.01; done;";

#[test]
fn a_timeout_ends_the_whole_tree() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = sh(tier, &format!("{STRAY} echo ready; exec sleep 1000"));
        (attempt.order.timeout_ms, attempt.order.grace_ms) = (Some(1_000), 200);
        let report = attempt.run();
        assert_eq!((report.cause, report.exit_code, report.signal), (Cause::TimedOut, None, Some(15)));
        assert!((1_000..30_000).contains(&report.running_ms), "{}", report.running_ms);
    }
}

#[test]
fn who_ignores_sigterm_is_killed_after_the_grace() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = sh(tier, "trap '' TERM; echo ready; while :; do sleep 0.1; done");
        attempt.order.grace_ms = 300;
        let mut gateway = attempt.start();
        gateway.started();
        until("it ignores SIGTERM", || attempt.file("stdout.0").exists());
        gateway.cancel();
        gateway.cancel();
        let report = gateway.ended();
        assert_eq!((report.cause, report.signal), (Cause::Cancelled, Some(9)));
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn who_heeds_sigterm_keeps_its_exit_code() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(tier, "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        let mut gateway = attempt.start();
        until("it traps SIGTERM", || attempt.file("stdout.0").exists());
        gateway.cancel();
        let report = gateway.ended();
        assert_eq!((&report.cause, report.exit_code), (&Cause::Cancelled, Some(7)));
        assert_eq!(attempt.stdout(&report), "ready\nbye\n");
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn a_stopped_command_can_be_cancelled_gently() {
    let tiers = tiers();
    let attempt = sh(&tiers.0[0], "trap 'exit 7' TERM; echo ready; kill -STOP $$; sleep 1000");
    let mut gateway = attempt.start();
    let pid = gateway.started();
    until("it stands still", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|s| s.contains(") T "))
    });
    gateway.cancel();
    let report = gateway.ended();
    assert_eq!((report.cause, report.exit_code), (Cause::Cancelled, Some(7)));
    gateway.settle();
}

#[test]
fn what_an_ended_command_left_is_ended_and_does_not_hold_it_up() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let mut attempt = sh(tier, &format!("{STRAY} echo done; exit 4"));
        attempt.order.grace_ms = 200;
        let report = attempt.run();
        assert_eq!((&report.cause, report.exit_code, report.signal), (&Cause::Exited, Some(4), None));
        assert_eq!(attempt.stdout(&report), "done\n");
    }
}

#[test]
fn the_last_words_of_a_child_that_is_not_waited_for_are_kept() {
    let tiers = tiers();
    // The child speaks a moment after the command is gone and reaped, and would die of SIGTERM.
    let attempt = sh(
        &tiers.0[0],
        "(while kill -0 $$; do :; done 2>/dev/null; for i in 1 2 3 4 5; do env true; done; echo last) & exit 0",
    );
    let report = attempt.run();
    assert_eq!((attempt.stdout(&report).as_str(), report.exit_code), ("last\n", Some(0)));
}

#[test]
fn a_fork_bomb_is_ended() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let script = "spread() { [ $1 -gt 0 ] && { spread $(($1-1)) & spread $(($1-1)) & }; sleep 1000; }; \
                      trap '' TERM; spread 5; sleep 1000";
        let mut attempt = sh(tier, script);
        attempt.order.grace_ms = 0;
        let mut gateway = attempt.start();
        until("it has spread", || attempt.processes().len() > 30);
        gateway.cancel();
        assert_eq!(gateway.ended().cause, Cause::Cancelled);
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn ten_gigabytes_would_do_no_harm() {
    let tiers = tiers();
    // A flood that never ends, a cap of three segments, and a cancel that is heard all the same.
    let mut attempt = sh(&tiers.0[0], "exec yes");
    attempt.order.segment_bytes = 100_000;
    let mut gateway = attempt.start();
    gateway.started();
    until("the head is full and gone by", || {
        let kept = std::fs::read_dir(attempt.path()).unwrap().flatten();
        kept.filter(|e| e.file_name().to_str().unwrap().starts_with("stdout")).count() == 3
            && !attempt.file("stdout.100000").exists()
    });
    gateway.cancel();
    let report = gateway.ended();
    assert_eq!(report.cause, Cause::Cancelled);
    let kept = attempt.kept("stdout", &report.stdout);
    assert!(kept.len() <= 300_000 && report.stdout.total_bytes > 300_000);
    gateway.settle();
}

#[test]
fn signals_to_the_shim_itself_are_not_heard() {
    let tiers = tiers();
    let attempt =
        sh(&tiers.0[0], "kill -TERM $PPID; kill -HUP $PPID; kill -INT $PPID; kill -USR1 $PPID; echo on");
    let report = attempt.run();
    assert_eq!((attempt.stdout(&report).as_str(), report.exit_code), ("on\n", Some(0)));
}

/// A small disk of memory, for as long as it is in scope.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        let size = Some(c"size=200k");
        rustix::mount::mount("tmpfs", dir.path(), "tmpfs", flags, size).ok()?;
        Some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_full_disk_neither_blocks_nor_ends_a_command() {
    let Some(disk) = SmallDisk::new() else {
        println!("skipped: cannot mount a small disk");
        return;
    };
    let tiers = tiers();
    let mut attempt = common::command(&tiers.0[0], &["seq", "1", "200000"]);
    attempt.dir = tempfile::tempdir_in(disk.0.path()).unwrap();
    attempt.order.cwd = Some("/".into());
    let gateway = attempt.start();
    // Nobody hears the end, and the record has its place although the disk is full.
    gateway.desert();
    let Found::Dead { record: Some(report), .. } = attempt.probe() else { panic!("{:?}", attempt.probe()) };
    let all: String = (1..=200_000).map(|i| format!("{i}\n")).collect();
    assert_eq!((report.exit_code, report.stdout.total_bytes), (Some(0), all.len() as u64));
    let head = &report.stdout.segments[0];
    let bytes = attempt.read("stdout.0");
    assert_eq!(crc32fast::hash(&bytes), head.crc32);
    assert!(!bytes.is_empty() && all.as_bytes().starts_with(&bytes));
}
