//! The fork server: shims that were forked look and live like shims that were executed, and neither its death nor its
//! gateway's touches them.
#![allow(clippy::unwrap_used, reason = "a test may; clippy sees no test in its helpers")]

mod common;

use std::path::Path;

use chitin_proto::shim::{Cause, ToShim};
use chitin_shim::recover::Found;
use chitin_shim::start::{self, ForkServer};
use common::{Attempt, Gateway, alive, command, kill9, sh, tiers, until};

fn server() -> ForkServer {
    ForkServer::new(env!("CARGO_BIN_EXE_chitin-shim").into(), 200)
}

fn fork(server: &ForkServer, attempt: &Attempt) -> Gateway {
    let spawned = server.start(attempt.path(), &attempt.order, attempt.stdin.as_deref()).unwrap();
    Gateway::new(spawned.pid.unwrap(), spawned.socket)
}

/// What `/proc` says of a process, one field of its status.
fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    line.unwrap().trim().to_owned()
}

/// The process that forked a shim.
fn parent(shim: u32) -> u32 {
    status(shim, "PPid").parse().unwrap()
}

fn is_gone(pid: u32) -> bool {
    !alive(pid)
}

/// Lets it go, and waits until it is gone: it is no child of ours.
fn settle(mut gateway: Gateway) {
    gateway.send(&ToShim::Settled);
    assert_eq!(gateway.next(), None);
    until("the shim ends", || is_gone(gateway.shim_pid));
}

#[test]
fn a_forked_shim_looks_like_one_that_was_executed() {
    let tiers = tiers();
    let server = server();
    for tier in &tiers.0 {
        let (forked, executed) = (sh(tier, "read x; sleep 1000"), sh(tier, "read x; sleep 1000"));
        let (mut one, mut other) = (fork(&server, &forked), executed.start());
        one.started();
        other.started();
        for (gateway, attempt) in [(&one, &forked), (&other, &executed)] {
            let proc = Path::new("/proc").join(gateway.shim_pid.to_string());
            let cmdline = std::fs::read(proc.join("cmdline")).unwrap();
            assert_eq!(cmdline, format!("chitin-shim\0{}\0", attempt.path().display()).into_bytes());
            assert_eq!(std::fs::read(proc.join("environ")).unwrap(), b"");
            assert_eq!(status(gateway.shim_pid, "Name"), "chitin-shim");
            let stat = std::fs::read_to_string(proc.join("stat")).unwrap();
            let session = stat.rsplit(") ").next().unwrap().split(' ').nth(3).unwrap();
            assert_eq!(session, gateway.shim_pid.to_string(), "a session of its own");
            assert_eq!(attempt.claim().shim.unwrap().pid, gateway.shim_pid);
        }
        let same = |field| assert_eq!(status(one.shim_pid, field), status(other.shim_pid, field), "{field}");
        ["SigBlk", "SigIgn", "Umask", "Threads", "Seccomp"].into_iter().for_each(same);
        let of = |pid, file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        for file in ["oom_score_adj", "limits", "cgroup"] {
            assert_eq!(of(one.shim_pid, file), of(other.shim_pid, file), "{file}");
        }
        let fds = |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        until("they hold as many descriptors", || fds(one.shim_pid) == fds(other.shim_pid));
        one.cancel();
        other.cancel();
        assert_eq!(one.ended().cause, Cause::Cancelled);
        settle(one);
        other.ended();
        other.settle();
        forked.assert_nothing_left();
        executed.assert_nothing_left();
    }
}

#[test]
fn its_command_starts_with_clean_signals_and_three_descriptors() {
    let _leak = rustix::io::dup(std::io::stdin()).unwrap();
    let tiers = tiers();
    let server = server();
    for tier in &tiers.0 {
        for _ in 0..2 {
            let script = "grep -E '^Sig(Blk|Ign):' /proc/self/status; ls /proc/self/fd; cat";
            let mut attempt = sh(tier, script);
            attempt.stdin = Some(b"given".to_vec());
            let mut gateway = fork(&server, &attempt);
            let report = gateway.ended();
            settle(gateway);
            let told = attempt.stdout(&report);
            let (masks, rest) = told.split_at(told.match_indices('\n').nth(1).unwrap().0 + 1);
            for mask in masks.lines().map(|line| line.split_once('\t').unwrap().1) {
                // 32 and 33 belong to the C library, which lets nobody else touch them.
                assert_eq!(u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31), 0, "{told}");
            }
            assert_eq!(rest, "0\n1\n2\n3\ngiven");
            attempt.assert_nothing_left();
        }
    }
}

#[test]
fn a_folder_that_is_too_long_for_its_arguments_is_served_too() {
    let tiers = tiers();
    let server = ForkServer::new(env!("CARGO_BIN_EXE_chitin-shim").into(), 3);
    let attempt = command(&tiers.0[0], &["true"]);
    let mut gateway = fork(&server, &attempt);
    assert_eq!(gateway.ended().exit_code, Some(0));
    gateway.settle();
}

#[test]
fn a_killed_server_touches_no_attempt_and_the_next_start_finds_another() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let server = server();
        let (first, second) = (sh(tier, "read x; exit 3"), sh(tier, "exit 4"));
        let mut running = fork(&server, &first);
        running.started();
        let killed = parent(running.shim_pid);
        kill9(killed);
        until("the server is gone", || is_gone(killed));
        let mut next = fork(&server, &second);
        assert_eq!(next.ended().exit_code, Some(4));
        assert_ne!(parent(next.shim_pid), killed);
        settle(next);
        assert_eq!(running.ended().exit_code, Some(3), "it needs nobody");
        settle(running);
        first.assert_nothing_left();
    }
}

#[test]
fn a_start_that_a_stopped_server_never_carried_out_is_seen_by_its_socket() {
    let tiers = tiers();
    let server = server();
    let warm = sh(&tiers.0[0], "exit 0");
    let mut gateway = fork(&server, &warm);
    gateway.ended();
    let stopped = parent(gateway.shim_pid);
    settle(gateway);
    let pid = rustix::process::Pid::from_raw(i32::try_from(stopped).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();

    let attempt = sh(&tiers.0[0], "touch ran");
    let unanswered = server.start(attempt.path(), &attempt.order, None).unwrap();
    assert_eq!(unanswered.pid, None, "nobody knows");
    let mut silent = Gateway::new(0, unanswered.socket);
    assert_eq!(silent.next(), None, "nobody has the other end");
    assert_eq!(attempt.probe(), Found::NoClaim);
    until("it was killed", || is_gone(stopped));
    // Once without a server, then by a new one.
    for forked in [false, true] {
        let next = sh(&tiers.0[0], "exit 5");
        let mut gateway = fork(&server, &next);
        assert_eq!(gateway.ended().exit_code, Some(5));
        assert_eq!(parent(gateway.shim_pid) != std::process::id(), forked);
        if forked { settle(gateway) } else { gateway.settle() }
    }
    assert!(!attempt.file("ran").exists());
}

#[test]
fn it_goes_with_its_gateway_and_its_shims_stay() {
    let tiers = tiers();
    for tier in &tiers.0 {
        let server = server();
        let attempt = sh(tier, "echo out; read x; exit 7");
        let mut gateway = fork(&server, &attempt);
        gateway.started();
        let (shim, forker) = (gateway.shim_pid, parent(gateway.shim_pid));
        assert_eq!(status(forker, "Name"), "chitin-forks", "it is no shim");
        // As a killed gateway does: every descriptor closes.
        drop((server, gateway));
        until("the server goes", || is_gone(forker));
        until("the shim ends by itself", || is_gone(shim));
        let Found::Dead { record: Some(report), .. } = attempt.probe() else { panic!("no record") };
        assert_eq!((report.exit_code, attempt.stdout(&report).as_str()), (Some(7), "out\n"));
        attempt.assert_nothing_left();
    }
}

#[test]
fn it_leaves_nothing_when_it_is_closed() {
    let tiers = tiers();
    let server = server();
    let attempt = sh(&tiers.0[0], "exit 0");
    let mut gateway = fork(&server, &attempt);
    gateway.ended();
    let forker = parent(gateway.shim_pid);
    settle(gateway);
    server.close();
    assert!(!Path::new("/proc").join(forker.to_string()).exists(), "not even a zombie");
    // Closed is not for ever.
    let again = sh(&tiers.0[0], "exit 6");
    let mut gateway = fork(&server, &again);
    assert_eq!(gateway.ended().exit_code, Some(6));
    settle(gateway);
}

#[test]
fn many_at_once_are_each_started_once() {
    let tiers = tiers();
    let server = server();
    for tier in &tiers.0 {
        let attempts: Vec<_> = (0..40).map(|_| command(tier, &["sh", "-c", "echo x >> ran"])).collect();
        std::thread::scope(|scope| {
            for some in attempts.chunks(10) {
                let server = &server;
                scope.spawn(move || {
                    for attempt in some {
                        let mut gateway = fork(server, attempt);
                        assert_eq!(gateway.ended().exit_code, Some(0));
                        let shim = Path::new("/proc").join(gateway.shim_pid.to_string());
                        settle(gateway);
                        until("not even a zombie is left", || !shim.exists());
                        assert_eq!(attempt.read("ran"), b"x\n");
                        attempt.assert_nothing_left();
                    }
                });
            }
        });
    }
}

#[test]
fn a_server_that_is_no_server_is_done_without() {
    let tiers = tiers();
    // It ends at once, whatever it is asked.
    let server = ForkServer::new("/bin/true".into(), 200);
    let attempt = command(&tiers.0[0], &["true"]);
    for _ in 0..4 {
        let spawned = server.start(attempt.path(), &attempt.order, None).unwrap();
        assert_eq!(Gateway::new(0, spawned.socket).next(), None, "each start is told by its socket");
    }
    assert_eq!(attempt.probe(), Found::NoClaim);
    start::reap_children();
}
