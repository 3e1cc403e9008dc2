//! Shims that do not answer: how they are asked, and how one that hangs is killed, and nobody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test may; clippy sees none outside of one"
)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use chitin_proto::shim::{
    Cause, Claim, ClaimedBy, Isolation, OLDEST_VERSION, PROTOCOL_VERSION, ToShim, names,
};
use chitin_shim::recover::{self, Found, InKernel, Killed};
use chitin_shim::{groups::Tier, tree};
use common::{EPOCH, TOKEN, alive, boot_id, sh, tiers, until, wait_for};
use rustix::process::{Pid, Signal, kill_process};

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

fn state(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().unwrap_or_default().chars().take(1).collect()
}

/// What a gateway asks again and again, in the words of the oldest version that is still read.
const QUESTION: ToShim = ToShim::Attach { v: OLDEST_VERSION, epoch: EPOCH };

#[test]
fn it_answers_each_question_whatever_it_is_at() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(
            tier,
            "trap 'until [ -e go ]; do sleep 0.01; done; exit 0' TERM; touch set; while :; do sleep 0.01; done",
        );
        let mut gateway = attempt.start();
        let command = gateway.started();
        until("the command is ready", || attempt.file("set").exists());
        let mut asked = |before: Option<ToShim>| {
            if let Some(before) = before {
                gateway.send(&before);
            }
            for _ in 0..3 {
                gateway.send(&QUESTION);
            }
            for _ in 0..3 {
                assert_eq!(gateway.started(), command);
            }
        };
        asked(None);
        asked(Some(ToShim::Pause));
        asked(Some(ToShim::Resume));
        // While it ends, as long as that takes.
        asked(Some(ToShim::Cancel));
        fs::write(attempt.file("go"), "").unwrap();
        assert_eq!(gateway.ended().cause, Cause::Cancelled);
        gateway.send(&QUESTION);
        assert_eq!(gateway.ended().cause, Cause::Cancelled, "and when it has ended, with how");
        gateway.settle();
        attempt.assert_nothing_left();
    }
}

#[test]
fn one_that_stood_still_answers_all_that_it_was_asked() {
    let attempt = sh(&Tier::Rlimit, "until [ -e go ]; do sleep 0.01; done");
    let mut gateway = attempt.start();
    let command = gateway.started();
    signal(gateway.shim_pid, Signal::STOP);
    for _ in 0..30 {
        gateway.send(&QUESTION);
    }
    signal(gateway.shim_pid, Signal::CONT);
    for _ in 0..30 {
        assert_eq!(gateway.started(), command);
    }
    fs::write(attempt.file("go"), "").unwrap();
    gateway.ended();
    gateway.settle();
}

#[test]
fn a_hung_one_is_killed_by_its_claim_and_its_tree_is_found() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let attempt = sh(tier, "setsid sh -c 'sleep 1000 & sleep 1000' & kill -STOP $PPID; sleep 1000");
        let gateway = attempt.start();
        until("it hangs, and its tree is complete", || {
            state(gateway.shim_pid) == "T" && attempt.named("sleep") == 3
        });
        let kill =
            |token: &str, boot: &str| recover::kill(attempt.path(), token, boot, InKernel::Spare).unwrap();
        assert_eq!(kill("another", &boot_id()), Killed::Nobody);
        assert_eq!(kill(TOKEN, "another"), Killed::Nobody);
        assert!(alive(gateway.shim_pid));
        assert_eq!(kill(TOKEN, &boot_id()), Killed::Signalled);
        wait_for(gateway.shim_pid);
        assert_eq!(kill(TOKEN, &boot_id()), Killed::Nobody, "it is dead");
        let Found::Dead { record: None, claim } = attempt.probe() else { panic!("{:?}", attempt.probe()) };
        tree::end(&claim.shim.unwrap().isolation, &attempt.order.task, 1).unwrap();
        until("the tree is gone", || attempt.processes().is_empty());
    }
}

#[test]
fn nobody_waits_in_the_line_before_one_that_hangs() {
    let attempt = sh(&Tier::Rlimit, "until [ -e go ]; do sleep 0.01; done");
    let mut gateway = attempt.start();
    gateway.started();
    signal(gateway.shim_pid, Signal::STOP);
    let mut line = Vec::new();
    let refused = loop {
        match recover::connect(attempt.path()) {
            Ok(socket) => line.push(socket),
            Err(error) => break error,
        }
        assert!(line.len() < 10_000);
    };
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    drop(line);
    signal(gateway.shim_pid, Signal::CONT);
    fs::write(attempt.file("go"), "").unwrap();
    gateway.ended();
    gateway.settle();
}

#[test]
fn one_that_hangs_before_it_claims_is_killed_once_its_attempt_is_void() {
    let attempt = sh(&Tier::Rlimit, "true");
    // Held up at its order: a pipe that nobody writes to stands for a disk.
    let mut shim = Command::new(env!("CARGO_BIN_EXE_chitin-shim"));
    shim.arg0("chitin-shim")
        .arg(attempt.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let beside = Command::new("sh")
        .args(["-c", "read x", "chitin-shim"])
        .arg(attempt.path())
        .stdin(Stdio::piped())
        .spawn();
    let (shim, beside) = (shim.spawn().unwrap(), beside.unwrap());
    until("it is there", || {
        let arguments = fs::read(format!("/proc/{}/cmdline", shim.id())).unwrap_or_default();
        arguments.starts_with(b"chitin-shim\0")
    });
    assert_eq!(recover::void(attempt.path(), TOKEN, &boot_id()).unwrap(), recover::Voided::Voided);
    recover::kill_unclaimed(attempt.path(), &boot_id()).unwrap();
    until("it dies", || !alive(shim.id()));
    assert!(alive(beside.id()), "who names the folder otherwise is no shim");
    end(shim);
    end(beside);
}

/// A claim as a shim writes it, of any process; locked by whoever holds the file.
fn forged(folder: &Path, pid: u32, start_ticks: u64) -> File {
    let shim = ClaimedBy { pid, start_ticks, isolation: Isolation::Rlimit };
    let claim = Claim { v: PROTOCOL_VERSION, token: TOKEN.to_owned(), boot_id: boot_id(), shim: Some(shim) };
    let path = folder.join(names::claim(TOKEN));
    fs::write(&path, serde_json::to_vec(&claim).unwrap()).unwrap();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.lock().unwrap();
    file
}

fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().parse().unwrap()
}

fn kill(folder: &Path, in_kernel: InKernel) -> Killed {
    recover::kill(folder, TOKEN, &boot_id(), in_kernel).unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_number_that_was_given_anew_or_whose_lock_is_free_is_nobodys() {
    let folder = tempfile::tempdir().unwrap();
    let stranger = Command::new("sleep").arg("1000").spawn().unwrap();
    let pid = stranger.id();
    // The pid of a shim that started at another time.
    let lock = forged(folder.path(), pid, start_ticks(pid) + 1);
    assert_eq!(kill(folder.path(), InKernel::Kill), Killed::Nobody);
    drop(lock);
    // Its own time; but whoever claimed is dead, for nobody holds the lock.
    drop(forged(folder.path(), pid, start_ticks(pid)));
    assert_eq!(kill(folder.path(), InKernel::Kill), Killed::Nobody);
    assert!(alive(pid));
    let _lock = forged(folder.path(), pid, start_ticks(pid));
    assert_eq!(kill(folder.path(), InKernel::Spare), Killed::Signalled);
    until("it dies", || !alive(pid));
    assert_eq!(kill(folder.path(), InKernel::Spare), Killed::Nobody, "a zombie is not alive");
    end(stranger);
}

/// Waits in the kernel, as before a disk: for a child that shares its memory and opens a pipe that nobody writes to.
const IN_KERNEL: &str = "import os, sys
os.posix_spawn('/bin/true', ['true'], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)])
import time; time.sleep(1000)";

#[test]
fn one_that_waits_for_a_disk_is_spared_as_long_as_it_may_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status();
    let python = Command::new("python3").args(["-c", IN_KERNEL]).arg(&pipe).stdin(Stdio::null()).spawn();
    let (Ok(true), Ok(python)) = (made.map(|made| made.success()), python) else {
        println!("skipped: needs mkfifo and python3");
        return;
    };
    let pid = python.id();
    // For its child: while it starts, it may wait for a disk, but only for a moment.
    let has_child = || {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.is_ok_and(|children| !children.trim().is_empty())
    };
    until("it waits in the kernel", || has_child() && state(pid) == "D");
    let _lock = forged(folder.path(), pid, start_ticks(pid));
    assert_eq!(kill(folder.path(), InKernel::Spare), Killed::Spared);
    assert_eq!(state(pid), "D");
    assert_eq!(kill(folder.path(), InKernel::Kill), Killed::Signalled);
    until("it dies", || !alive(pid));
    // Its child goes on, and ends.
    let writer = OpenOptions::new().write(true).open(&pipe).unwrap();
    drop(writer);
    end(python);
}
