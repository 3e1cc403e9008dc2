//! Pausing one task: what waits is held, what runs stands still, and neither a restart nor an end is lost on it.

use std::fs;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Gateway, ended, traces, until};

/// Counts in a file, as does a child of its own session, until it is ended.
const COUNTS: &str = "count() { n=0; while :; do n=$((n+1)); echo $n > $1; done; }; \
    setsid sh -c 'n=0; while :; do n=$((n+1)); echo $n > stray; done' & count own";

fn counts(gateway: &Gateway) -> [String; 2] {
    ["own", "stray"].map(|name| fs::read_to_string(gateway.path(name)).unwrap_or_default())
}

fn goes_on(gateway: &Gateway) {
    let before = counts(gateway);
    until("both count on", || {
        counts(gateway).iter().zip(&before).all(|(now, then)| !now.is_empty() && now != then).then_some(())
    });
}

/// Two looks, some time apart, that saw the same.
fn stands_still(gateway: &Gateway) {
    until("neither counts on", || {
        let before = counts(gateway);
        std::thread::sleep(std::time::Duration::from_millis(100));
        (before == counts(gateway)).then_some(())
    });
}

fn post(gateway: &Gateway, id: &str, action: &str) -> Value {
    gateway.post(&format!("/v1/tasks/{id}/{action}"), &Value::Null).with(200).json()
}

fn said(task: &Value) -> (&str, &str) {
    (task["state"].as_str().unwrap(), task["reason"].as_str().unwrap_or_default())
}

#[test]
fn what_waits_is_held_and_what_was_held_goes_on() {
    let mut gateway = Gateway::start();
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
    let id = gateway.submit(&["true"]);
    let held = post(&gateway, &id, "pause");
    assert_eq!(said(&held), ("paused", "held"));
    assert_eq!(post(&gateway, &id, "pause"), held, "repeating it changes nothing");
    gateway.post("/v1/queues/default/resume", &Value::Null).with(200);
    let other = gateway.submit(&["true"]);
    gateway.ended(&other);
    gateway.crash();
    gateway.up();
    assert_eq!(said(&gateway.task(&id)), ("paused", "held"), "also for the next gateway");
    assert_eq!(gateway.counts(), (1, 0), "and it counts");
    let status = gateway.get("/v1/status").with(200).json();
    assert_eq!(status["layers"]["queue"]["paused"], 1);
    let listed = gateway.get("/v1/tasks?state=paused").with(200).json();
    assert_eq!(listed["tasks"][0]["id"], json!(id));
    assert!(gateway.cli(&["ps"]).with(0).out().contains("paused (held)"));
    assert!(!gateway.cli(&["show", &id]).with(0).out().contains("expires"));

    gateway.cli(&["resume", &id]).with(0);
    let task = gateway.ended(&id);
    assert_eq!(said(&task), ("succeeded", ""));
    for action in ["pause", "resume"] {
        let problem = gateway.post(&format!("/v1/tasks/{id}/{action}"), &Value::Null).problem();
        assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"));
        assert_eq!(problem.detail, format!("the task is succeeded: it cannot be {action}d"));
        assert_eq!(gateway.cli(&[action, &id]).with(1).out(), "");
    }
}

#[test]
fn the_time_to_live_moves_by_the_pause_and_the_time_to_start_does_not() {
    let gateway = Gateway::start();
    let body = json!({"command": ["true"], "delay_s": 3600, "ttl_s": 60});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    let before = gateway.task(&id);
    post(&gateway, &id, "pause");
    std::thread::sleep(std::time::Duration::from_millis(300));
    let after = post(&gateway, &id, "resume");
    assert_eq!(said(&after), ("scheduled", "delay"));
    assert_eq!(after["run_at"], before["run_at"]);
    let at = |task: &Value| task["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let moved = at(&after).duration_since(at(&before)).as_millis();
    assert!((300..60_000).contains(&moved), "{moved} ms");
}

#[test]
fn what_runs_stands_still_with_all_that_it_started() {
    let gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", COUNTS]);
    goes_on(&gateway);
    assert_eq!(
        gateway.cli(&["pause", &id[..13]]).with(0).out(),
        format!("paused {id} (it runs, and stands still)\n")
    );
    stands_still(&gateway);
    assert_eq!(said(&gateway.task(&id)), ("paused", "frozen"));
    let status = gateway.get("/v1/status").with(200).json();
    assert_eq!(status["layers"]["workers"]["paused"], 1);
    assert_eq!(gateway.counts(), (0, 1), "it keeps its slot");
    assert_eq!(gateway.cli(&["resume", &id]).with(0).out(), format!("running {id}\n"));
    goes_on(&gateway);
    gateway.cli(&["pause", &id]).with(0);
    stands_still(&gateway);
    gateway.cli(&["cancel", &id]).with(0);
    assert_eq!(said(&gateway.ended(&id)), ("cancelled", ""), "thawed, so that it hears of its end");
    until("nothing of it is left", || {
        let left = traces::processes(&gateway.data);
        (!left.iter().any(|process| process.command.contains("stray"))).then_some(())
    });
}

#[test]
fn a_timeout_does_not_count_while_a_task_is_paused() {
    let gateway = Gateway::start();
    let id = gateway.submit_with(&["--timeout", "3s"], &["sh", "-c", "echo > began; sleep 1000"]);
    until("it runs", || gateway.path("began").exists().then_some(()));
    post(&gateway, &id, "pause");
    // Longer than its time is: that a clock stands still shows only while others run.
    std::thread::sleep(std::time::Duration::from_millis(3_200));
    assert_eq!(said(&gateway.task(&id)), ("paused", "frozen"), "its time is not up");
    post(&gateway, &id, "resume");
    let task = gateway.ended(&id);
    assert_eq!(task["attempts"][0]["outcome"], "timed_out");
}

#[test]
fn gateways_that_die_lose_neither_a_pause_nor_its_end() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", COUNTS]);
    goes_on(&gateway);
    post(&gateway, &id, "pause");
    stands_still(&gateway);
    gateway.crash();
    gateway.up();
    assert_eq!(said(&gateway.task(&id)), ("paused", "frozen"));
    stands_still(&gateway);
    post(&gateway, &id, "resume");
    goes_on(&gateway);
    gateway.crash();
    gateway.up();
    goes_on(&gateway);
    // One that goes leaves it as it is, too.
    post(&gateway, &id, "pause");
    stands_still(&gateway);
    assert_eq!(gateway.down(&[]).with(0).out(), "stopped; 1 task goes on running\n");
    gateway.up();
    stands_still(&gateway);
    let task = gateway.task(&id);
    assert_eq!((said(&task), &task["attempt"]), (("paused", "frozen"), &json!(1)));
}

#[test]
fn a_killed_shims_frozen_tree_is_ended_and_its_task_held() {
    let gateway = Gateway::start();
    let id = gateway.cli(&["submit", "--", "sh", "-c", COUNTS]).with(0).out().trim_end().to_owned();
    goes_on(&gateway);
    post(&gateway, &id, "pause");
    stands_still(&gateway);
    let shims = traces::processes(&gateway.data);
    let shim = shims
        .iter()
        .find(|process| process.command.starts_with("chitin-shim") && process.command.contains(&id));
    traces::kill(shim.unwrap_or_else(|| panic!("{shims:?}")));
    let task = until("it is lost", || {
        let task = gateway.task(&id);
        (said(&task) == ("paused", "held")).then_some(task)
    });
    assert_eq!(task["attempts"][0]["outcome"], "worker_lost");
    until("nothing of it is left", || {
        let left = traces::processes(&gateway.data);
        (!left.iter().any(|process| process.command.contains("stray"))).then_some(())
    });
    assert_eq!(said(&post(&gateway, &id, "resume")), ("scheduled", "backoff"));
    gateway.cli(&["cancel", &id]).with(0);
}

#[test]
fn a_kill_of_all_puts_what_is_paused_back_as_paused() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", COUNTS]);
    goes_on(&gateway);
    post(&gateway, &id, "pause");
    stands_still(&gateway);
    gateway.down(&["--kill"]).with(0);
    assert!(traces::processes(&gateway.data).is_empty());
    gateway.up();
    assert_eq!(said(&gateway.task(&id)), ("paused", "held"), "it does not start by itself");
    post(&gateway, &id, "resume");
    goes_on(&gateway);
}

#[test]
fn whoever_waits_for_what_is_paused_is_told() {
    let mut gateway = Gateway::start();
    let run = gateway.command(&[
        "run",
        "--",
        "sh",
        "-c",
        "echo $CHITIN_TASK_ID > id; while [ ! -e go ]; do sleep 0.02; done; echo went",
    ]);
    let run = {
        let mut run = run;
        run.stderr(fs::File::create(gateway.path("run.stderr")).unwrap());
        run.spawn().unwrap()
    };
    let id = until("it runs", || {
        let id = fs::read_to_string(gateway.path("id")).ok()?;
        id.ends_with('\n').then(|| id.trim_end().to_owned())
    });
    let told = |name: &str, what: &str| {
        until(what, || fs::read_to_string(gateway.path(name)).ok()?.contains(what).then_some(()));
    };
    post(&gateway, &id, "pause");
    told("run.stderr", &format!("chitin: the task is paused; it goes on after `chitin resume {id}`\n"));
    fs::write(gateway.path("go"), "").unwrap();

    let mut down = gateway.command(&["down", "--wait"]);
    down.stdout(Stdio::piped()).stderr(fs::File::create(gateway.path("down.stderr")).unwrap());
    let down = down.spawn().unwrap();
    told("down.stderr", "1 of the tasks it waits for is paused, and must be resumed or cancelled");
    post(&gateway, &id, "resume");
    assert_eq!(ended(down).with(0).out(), "stopped\n");
    gateway.up();
    assert_eq!(ended(run).with(0).out(), "went\n");
}
