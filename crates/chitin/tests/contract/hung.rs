//! Shims that hang: their tasks end, or run again, and those beside them notice nothing.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::common::{Gateway, ended, traces, until};

/// In its first attempt it stops its shim, and has a tree to be ended; in its second one it says so.
const HANGS_ONCE: &str = "if [ $CHITIN_ATTEMPT = 1 ]; then \
    setsid sleep 600 & echo said; kill -STOP $PPID; sleep 601; fi; echo again";
const HANGS: &str = "setsid sleep 600 & kill -STOP $PPID; sleep 601";

fn submitted(gateway: &Gateway, script: &str) -> String {
    let task = json!({"command": ["sh", "-c", script], "retry": {"max": 1, "backoff_s": [0]},
        "cwd": gateway.home.path()});
    gateway.post("/v1/tasks", &task).with(202).json()["id"].as_str().unwrap().to_owned()
}

fn is_stopped(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default().contains(") T ")
}

/// The shim of a task, once it hangs.
fn hung(gateway: &Gateway, id: &str) -> u32 {
    until("its shim hangs", || {
        let all = traces::processes(&gateway.data);
        let is_its = |command: &str| command.starts_with("chitin-shim") && command.contains(id);
        all.iter().find(|process| is_its(&process.command) && is_stopped(process.pid)).map(|shim| shim.pid)
    })
}

fn outcomes(task: &Value) -> Vec<&str> {
    task["attempts"].as_array().unwrap().iter().map(|one| one["outcome"].as_str().unwrap()).collect()
}

fn is_lost_heartbeat(attempt: &Value) -> bool {
    attempt["error"].as_str().unwrap().starts_with("heartbeat lost: ")
}

fn nothing_sleeps(gateway: &Gateway) {
    until("nothing of the trees is left", || {
        let left = traces::processes(&gateway.data);
        (!left.iter().any(|process| process.command.contains("sleep 60"))).then_some(())
    });
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

#[test]
fn a_task_whose_shim_hangs_runs_again_and_one_that_is_busy_or_paused_is_left_alone() {
    let gateway = Gateway::start_with("heartbeat_s = 3");
    let busy = submitted(&gateway, "touch busy; while [ ! -e go ]; do :; done; echo done");
    let paused = submitted(&gateway, "touch paused; while [ ! -e go ]; do sleep 0.02; done; echo done");
    for name in ["busy", "paused"] {
        until("it runs", || gateway.path(name).exists().then_some(()));
    }
    gateway.cli(&["pause", &paused]).with(0);
    let id = submitted(&gateway, HANGS_ONCE);
    let shim = hung(&gateway, &id);
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], outcomes(&task)), (&json!("succeeded"), vec!["worker_lost", "succeeded"]));
    assert!(is_lost_heartbeat(&task["attempts"][0]), "{task}");
    nothing_sleeps(&gateway);
    assert!(!traces::processes(&gateway.data).iter().any(|process| process.pid == shim), "its shim is gone");
    let events = gateway.get(&format!("/v1/tasks/{id}/events?follow=false")).with(200);
    let events = String::from_utf8(events.body).unwrap();
    let retrying = events.lines().find(|line| line.contains("task.retrying")).unwrap();
    assert!(retrying.contains("heartbeat lost: "), "{retrying}");

    gateway.cli(&["resume", &paused]).with(0);
    fs::write(gateway.path("go"), "").unwrap();
    for id in [&busy, &paused] {
        assert_eq!(outcomes(&gateway.ended(id)), ["succeeded"]);
    }
}

#[test]
fn the_next_gateway_gives_a_hung_shim_up_as_well() {
    let gateway = Gateway::start_with("heartbeat_s = 3");
    let id = submitted(&gateway, HANGS_ONCE);
    hung(&gateway, &id);
    gateway.kill_gateway();
    let task = gateway.ended(&id);
    assert_eq!(outcomes(&task), ["worker_lost", "succeeded"]);
    assert!(is_lost_heartbeat(&task["attempts"][0]), "{task}");
    nothing_sleeps(&gateway);
}

/// A gateway that stood still has heard nobody, and that is nobody's fault.
#[test]
fn a_gateway_that_stood_still_misses_no_shim() {
    let gateway = Gateway::start_with("heartbeat_s = 1");
    let id = submitted(&gateway, "touch began; while [ ! -e go ]; do sleep 0.02; done");
    until("it runs", || gateway.path("began").exists().then_some(()));
    let all = [gateway.supervisor_pid(), gateway.pid()];
    for _ in 0..3 {
        all.iter().for_each(|pid| signal(*pid, Signal::STOP));
        // Longer than the limit; and shorter than a watchdog needs to replace it.
        std::thread::sleep(Duration::from_millis(1_500));
        all.iter().rev().for_each(|pid| signal(*pid, Signal::CONT));
        gateway.get("/v1/status").with(200);
    }
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(outcomes(&gateway.ended(&id)), ["succeeded"]);
}

/// The limit is far away; whoever wants the end does not wait for it.
#[test]
fn a_cancel_of_a_task_whose_shim_hangs_ends_it() {
    let gateway = Gateway::start();
    let id = submitted(&gateway, HANGS);
    hung(&gateway, &id);
    gateway.cli(&["cancel", &id]).with(0);
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], outcomes(&task)), (&json!("cancelled"), vec!["cancelled"]));
    assert!(is_lost_heartbeat(&task["attempts"][0]), "{task}");
    nothing_sleeps(&gateway);
}

#[test]
fn down_kill_leaves_nothing_of_a_task_whose_shim_hangs_and_the_task_runs_again() {
    let mut gateway = Gateway::start();
    let id = submitted(&gateway, HANGS_ONCE);
    hung(&gateway, &id);
    let down = gateway.command(&["down", "--kill"]).spawn().unwrap();
    assert_eq!(ended(down).with(0).out(), "stopped; 1 task was ended and is queued again\n");
    assert_eq!(traces::processes(&gateway.data), []);
    assert_eq!(traces::groups(&gateway.data), Vec::<std::path::PathBuf>::new());
    gateway.down(&[]);
    gateway.up();
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], outcomes(&task)), (&json!("succeeded"), vec!["worker_lost", "succeeded"]));
}
