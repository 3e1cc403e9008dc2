//! Memory that runs out for all (R5.2): the steps one after the other, each told with its figures, and back again without
//! anybody's help. What was evicted runs again at no cost.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod common;

use std::fs;

use common::{Gateway, until};
use serde_json::{Value, json};

/// Holds as many megabytes as its file says, until that says `end`. Asked to begin again, it ends well at once.
const HOLDS: &str = r#"
import os, sys, time
held = []
while os.environ["CHITIN_ATTEMPT"] == "1":
    try:
        want = open(sys.argv[1]).read()
    except FileNotFoundError:
        want = ""
    if want == "end":
        break
    while want and len(held) < int(want):
        held.append(bytearray(b"x" * 1000000))
    time.sleep(0.02)
print("done", sys.argv[1])
"#;

/// Three hundred megabytes for all, looked at twenty times a second.
const LIMITS: &str = "memory_bytes = 300_000_000\nmonitor_interval_ms = 50\nmonitor_hold_ms = 300";

fn monitor(gateway: &Gateway) -> Value {
    gateway.get("/v1/status").json()["layers"]["monitor"].clone()
}

fn submit(gateway: &Gateway, name: &str) -> String {
    let body = json!({
        "command": ["python3", "-c", HOLDS, gateway.path(name)],
        // Nothing may be consumed.
        "retry": {"max": 0},
    });
    gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned()
}

/// Lets one grow, megabyte by megabyte, until the monitor is in this state.
fn grow(gateway: &Gateway, name: &str, from: u64, state: &str) -> u64 {
    let mut size = from;
    until(state, || {
        let now = monitor(gateway);
        if now["state"] == state {
            return Some(size);
        }
        let held = now["tasks_memory_bytes"].as_u64()?;
        // It has what it was told to take: a little more.
        if held >= size * 1_000_000 {
            size += 4;
            assert!(size < 300, "{now}");
            fs::write(gateway.path(name), size.to_string()).unwrap();
        }
        None
    })
}

/// What was told since the beginning.
fn told(gateway: &Gateway) -> Vec<Value> {
    let body = gateway.get("/v1/events?follow=false&last=1000").with(200).body;
    let lines = String::from_utf8(body).unwrap();
    let data = lines.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

#[test]
fn tasks_that_together_take_too_much_are_held_back_step_by_step_and_all_of_them_succeed() {
    let gateway = Gateway::start_with(LIMITS);
    let [small, large] = ["small", "large"].map(|name| submit(&gateway, name));
    for id in [&small, &large] {
        gateway.until_state(id, "running");
    }
    fs::write(gateway.path("small"), "60").unwrap();
    until("the small one is held", || {
        (monitor(&gateway)["tasks_memory_bytes"].as_u64()? > 60_000_000).then_some(())
    });

    let size = grow(&gateway, "large", 60, "tight");
    let waits = submit(&gateway, "waits");
    fs::write(gateway.path("waits"), "end").unwrap();
    let size = grow(&gateway, "large", size, "shedding");
    let refused = gateway.post("/v1/tasks", &json!({"command": ["true"]})).with(503);
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.problem().code, "overloaded");
    assert_eq!(gateway.get("/v1/status").json()["shedding"], true);
    assert_eq!(gateway.task(&waits)["state"], "queued", "nothing is started beside them");
    assert_eq!(gateway.task(&large)["state"], "running", "nor ended");

    let size = size + 40;
    fs::write(gateway.path("large"), size.to_string()).unwrap();
    let done = gateway.ended(&large);
    assert_eq!(done["state"], "succeeded", "{done}");
    let attempts = done["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{done}");
    assert_eq!(attempts[0]["outcome"], "worker_lost", "{done}");
    assert!(attempts[0]["error"].as_str().unwrap().starts_with("evicted: "), "{done}");
    assert_eq!(gateway.ended(&waits)["state"], "succeeded");
    assert_eq!(gateway.task(&small)["state"], "running", "the smaller one was left alone");
    until("new work is taken", || {
        (gateway.post("/v1/tasks", &json!({"command": ["true"]})).status == 202).then_some(())
    });
    fs::write(gateway.path("small"), "end").unwrap();
    let small = gateway.ended(&small);
    assert_eq!((&small["state"], &small["attempt"]), (&json!("succeeded"), &json!(1)));

    let told = told(&gateway);
    let names: Vec<&str> = told.iter().map(|event| event["name"].as_str().unwrap()).collect();
    let at = |name: &str| {
        names.iter().position(|told| *told == name).unwrap_or_else(|| panic!("{name}: {names:?}"))
    };
    let steps = ["dispatch.paused", "shed.began", "task.evicted", "task.put_back", "dispatch.resumed"];
    assert!(steps.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{names:?}");
    assert!(at("shed.began") < at("shed.ended"));
    for name in ["dispatch.paused", "shed.began", "shed.ended", "dispatch.resumed", "task.evicted"] {
        assert_eq!(names.iter().filter(|told| **told == name).count(), 1, "{name} once: {names:?}");
        let figures = &told[at(name)]["detail"];
        assert!(
            figures["memory_bytes"].as_u64().unwrap() > 0 && figures["limit_bytes"] == 300_000_000,
            "{figures}"
        );
    }
    assert_eq!(told[at("task.evicted")]["task"], large.as_str());
    let page = monitor(&gateway);
    assert!(names.contains(&page["last"].as_str().unwrap()) && page["last_at"].is_string(), "{page}");
}

#[test]
fn whoever_does_not_heed_its_eviction_is_ended_all_the_same() {
    let gateway = Gateway::start_with(LIMITS);
    let script = format!("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{HOLDS}");
    let body = json!({"command": ["python3", "-c", script, gateway.path("deaf")], "retry": {"max": 0}});
    let deaf = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    let other = submit(&gateway, "other");
    for id in [&deaf, &other] {
        gateway.until_state(id, "running");
    }
    fs::write(gateway.path("other"), "100").unwrap();
    until("the other one is held", || {
        (monitor(&gateway)["tasks_memory_bytes"].as_u64()? > 100_000_000).then_some(())
    });
    fs::write(gateway.path("deaf"), "200").unwrap();
    let done = gateway.ended(&deaf);
    assert_eq!((&done["state"], &done["attempt"]), (&json!("succeeded"), &json!(2)), "{done}");
    assert!(done["attempts"][0]["error"].as_str().unwrap().starts_with("evicted: "), "{done}");
    fs::write(gateway.path("other"), "end").unwrap();
    assert_eq!(gateway.ended(&other)["attempt"], 1);
}

#[test]
fn one_that_is_too_large_by_itself_is_out_of_memory_and_not_in_the_way() {
    let gateway = Gateway::start_with(LIMITS);
    let task = submit(&gateway, "alone");
    gateway.until_state(&task, "running");
    fs::write(gateway.path("alone"), "290").unwrap();
    let done = gateway.ended(&task);
    assert_eq!(done["attempts"][0]["outcome"], "oom_killed", "{done}");
    assert_eq!(done["state"], "dead");
}

#[test]
fn memory_that_is_waited_for_is_looked_at_before_the_interval_is_over() {
    // The next look would come after a minute.
    let gateway = Gateway::start_with("monitor_interval_ms = 60000");
    let seen = until("the first look", || {
        let monitor = monitor(&gateway);
        (monitor["state"] != "starting").then_some(monitor)
    });
    if seen["pressure_told"].is_null() {
        println!("skipped: this kernel does not tell when memory is waited for");
        return;
    }
    assert_eq!(seen["pressures"], 0, "{seen}");
    // More than fits into its limit, read again and again: it waits for pages most of the time, and nobody else does.
    let reads = "head -c 60000000 /dev/zero > large; while :; do cat large > /dev/null; done";
    let body = json!({"command": ["sh", "-c", reads], "memory_bytes": 12_000_000, "retry": {"max": 0}});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    if gateway.get("/v1/status").json()["isolation"] == "rlimit" {
        println!("skipped: without control groups its limit is only looked at now and then");
        return;
    }
    until("a look that the kernel asked for", || (monitor(&gateway)["pressures"] != 0).then_some(()));
    assert_eq!(gateway.task(&id)["state"], "running", "it only waits");
}

#[test]
fn its_page_has_its_lines_and_doctor_says_which_limits_cannot_hold() {
    let gateway = Gateway::start_with(LIMITS);
    until("the first look", || (monitor(&gateway)["state"] != "starting").then_some(()));
    let page = gateway.cli(&["status", "monitor"]).with(0);
    let line = |name: &str, value: &str| {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        page.out().lines().any(|line| words(line) == format!("{name} {value}"))
    };
    for (name, value) in [
        ("state", "ok"),
        ("dispatch", "on"),
        ("memory bytes limit", "300MB"),
        ("pause at bytes", "225MB"),
        ("shed at bytes", "270MB"),
        ("evict at bytes", "285MB"),
    ] {
        assert!(line(name, value), "{name} {value}: {page:?}");
    }
    let json = gateway.cli(&["status", "monitor", "--json"]).with(0).json();
    assert_eq!(json["evict_at_bytes"], 285_000_000, "{json}");

    // More than any machine has.
    fs::write(gateway.data.join("chitin.toml"), "[limits]\nmemory_bytes = 10_000_000_000_000\n").unwrap();
    let doctor = gateway.cli(&["doctor", "--json"]).json();
    let checks = doctor["checks"].as_array().unwrap();
    let memory = checks.iter().find(|check| check["check"] == "memory").unwrap();
    assert_eq!(memory["verdict"], "warning", "{memory}");
    assert!(memory["detail"].as_str().unwrap().contains("set memory_bytes to"), "{memory}");
    for check in ["free space", "pressure", "descriptors"] {
        assert!(checks.iter().any(|other| other["check"] == check), "{check}: {doctor}");
    }
}
