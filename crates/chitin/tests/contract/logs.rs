//! What a task wrote, as it stands and as it comes.

use std::fs;
use std::io::{BufRead, BufReader};

use serde_json::json;

use crate::common::{Gateway, ended};

/// Speaks on both streams in turns, far enough apart to be heard apart.
const TURNS: &str = "for i in 1 2 3; do echo out $i; sleep 0.05; echo err $i >&2; sleep 0.05; done";

#[test]
fn both_streams_come_in_the_order_of_receipt() {
    let gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", TURNS]);
    gateway.ended(&id);
    let raw = gateway.get(&format!("/v1/tasks/{id}/logs")).with(200);
    let whole = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n";
    assert_eq!(String::from_utf8(raw.body).unwrap(), whole);
    for (stream, expected) in [("stdout", "out 1\nout 2\nout 3\n"), ("stderr", "err 1\nerr 2\nerr 3\n")] {
        let raw = gateway.get(&format!("/v1/tasks/{id}/logs?stream={stream}")).with(200);
        assert_eq!(String::from_utf8(raw.body).unwrap(), expected);
        let one = gateway.cli(&["logs", "--stream", stream, &id]).with(0);
        assert_eq!((one.out(), one.err.as_str()), (expected, ""));
    }
    let both = gateway.cli(&["logs", &id]).with(0);
    assert_eq!((both.out(), both.err.as_str()), ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n"));

    // Into one file, the command line keeps the order too.
    let file = fs::File::create(gateway.path("both")).unwrap();
    let mut command = gateway.command(&["logs", &id]);
    command.stdout(file.try_clone().unwrap()).stderr(file);
    ended(command.spawn().unwrap()).with(0);
    assert_eq!(fs::read_to_string(gateway.path("both")).unwrap(), whole);
}

#[test]
fn one_pipe_for_both_is_exact() {
    let gateway = Gateway::start();
    let script = "i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); echo $i >&2; i=$((i+1)); done";
    let run = gateway.cli(&["run", "--merge", "--", "sh", "-c", script]).with(0);
    let expected: String = (0..200).map(|line| format!("{line}\n")).collect();
    assert_eq!((run.out(), run.err.as_str()), (expected.as_str(), ""));
}

#[test]
fn following_shows_what_comes_until_the_end() {
    let gateway = Gateway::start();
    let script = "echo first; while [ ! -e go ]; do sleep 0.02; done; echo last; echo oops >&2; exit 3";
    let id = gateway.submit(&["sh", "-c", script]);
    let mut logs = gateway.command(&["logs", "-f", &id]).spawn().unwrap();
    let mut out = BufReader::new(logs.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n", "before the task has ended");
    assert_eq!(gateway.task(&id)["state"], "running");
    assert_eq!(gateway.cli(&["logs", &id]).with(0).out(), "first\n", "what there is so far");
    fs::write(gateway.path("go"), "").unwrap();
    line.clear();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "last\n");
    let end = ended(logs).with(0);
    assert_eq!(end.err, "oops\n");
    assert_eq!(gateway.ended(&id)["state"], "dead");

    let raw = gateway.get(&format!("/v1/tasks/{id}/logs?follow=true&stream=stdout")).with(200);
    assert_eq!(raw.body, b"first\nlast\n");
}

#[test]
fn following_goes_on_through_a_restart_of_the_gateway() {
    let mut gateway = Gateway::start();
    let script = "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two";
    let mut run = gateway.command(&["run", "--", "sh", "-c", script]).spawn().unwrap();
    let mut out = BufReader::new(run.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    gateway.crash();
    gateway.up();
    fs::write(gateway.path("go"), "").unwrap();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "one\ntwo\n", "nothing is lost, nothing comes twice");
    ended(run).with(0);
}

#[test]
fn every_attempt_has_its_logs() {
    let gateway = Gateway::start();
    let script = "echo attempt $CHITIN_ATTEMPT; [ $CHITIN_ATTEMPT = 2 ]";
    let body = json!({"command": ["sh", "-c", script], "retry": {"max": 1, "backoff_s": [0]}});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    gateway.ended(&id);
    let logs = |attempt: &str| gateway.cli(&["logs", "--attempt", attempt, &id]);
    assert_eq!(logs("1").with(0).out(), "attempt 1\n");
    assert_eq!(logs("2").with(0).out(), "attempt 2\n");
    assert_eq!(logs("3").with(64).err, "chitin: there is no attempt 3; the newest is 2\n");
    assert_eq!(gateway.cli(&["logs", &id]).with(0).out(), "attempt 2\n", "the newest, unless one is named");
}
