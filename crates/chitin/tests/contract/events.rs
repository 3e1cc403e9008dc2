//! What happened is told in order, from any place on, over restarts.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout};

use serde_json::{Value, json};

use crate::common::http::Request;
use crate::common::{Gateway, ended, until};

/// The events in an answer's body.
fn events(body: &[u8]) -> Vec<Value> {
    let lines = std::str::from_utf8(body).unwrap().lines();
    lines
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

/// Names of the events of one task.
fn names(events: &[Value], task: &str) -> Vec<String> {
    let own = events.iter().filter(|event| event["task"] == task);
    own.map(|event| event["name"].as_str().unwrap().to_owned()).collect()
}

/// Somebody who follows, and what they read.
struct Follower {
    child: Child,
    lines: BufReader<ChildStdout>,
    heard: Vec<Value>,
}

impl Follower {
    fn start(gateway: &Gateway, args: &[&str]) -> Self {
        let args = [&["events", "-f", "--json"], args].concat();
        let mut child = gateway.command(&args).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines, heard: Vec::new() }
    }

    /// Reads until it is told of this.
    fn hear(&mut self, what: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended: {:?}", self.heard);
            let event: Value = serde_json::from_str(&line).unwrap();
            self.heard.push(event.clone());
            if what(&event) {
                return event;
            }
        }
    }

    /// Ends it; what it was told.
    fn stop(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.heard
    }
}

fn is(name: &'static str, task: &str) -> impl Fn(&Value) -> bool {
    move |event| event["name"] == name && (task.is_empty() || event["task"] == task)
}

#[test]
fn the_life_of_a_task_is_told_in_order() {
    let gateway = Gateway::start();
    let body =
        json!({"command": ["sh", "-c", "[ $CHITIN_ATTEMPT = 2 ]"], "retry": {"max": 1, "backoff_s": [0]}});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    gateway.ended(&id);
    let told = events(&gateway.get(&format!("/v1/tasks/{id}/events")).with(200).body);
    let life =
        ["task.submitted", "task.started", "task.retrying", "task.due", "task.started", "task.succeeded"];
    assert_eq!(names(&told, &id), life);
    assert_eq!(
        (&told[2]["outcome"], &told[2]["exit_code"], &told[2]["attempt"]),
        (&json!("failed"), &json!(1), &json!(1))
    );
    assert_eq!(told[4]["outcome"], Value::Null, "a start tells no end");
    let all = events(&gateway.get("/v1/events?follow=false").with(200).body);
    assert_eq!(names(&all, &id), life);
    assert!(all.iter().any(is("gateway.started", "")), "{all:?}");

    // From any place on, of the task and of all; and nobody who was told everything is kept waiting.
    for (at, event) in told.iter().enumerate() {
        let after = event["id"].as_str().unwrap();
        let rest = gateway.get(&format!("/v1/tasks/{id}/events?after={after}"));
        assert_eq!(names(&events(&rest.body), &id), life[at + 1..]);
        assert_eq!(rest.status, if at + 1 == life.len() { 204 } else { 200 });
        let request = Request::get("/v1/events?follow=false").header("last-event-id", after);
        assert_eq!(names(&events(&gateway.unix(&request).with(200).body), &id), life[at + 1..]);
    }
    let shown = gateway.cli(&["events", &id]).with(0);
    assert_eq!(shown.out().lines().count(), life.len(), "{}", shown.out());
    assert!(shown.out().contains("attempt 1, failed, exit code 1"), "{}", shown.out());
    gateway.cli(&["events", "-n", "1"]).with(0).out().lines().next().unwrap();
}

#[test]
fn followers_are_told_as_it_happens_and_over_a_restart_without_a_gap_or_a_repetition() {
    let mut gateway = Gateway::start();
    let mut all = Follower::start(&gateway, &[]);
    all.hear(is("gateway.started", ""));
    let first = gateway.submit(&["sh", "-c", "touch begun; while [ ! -e go ]; do sleep 0.02; done"]);
    let mut one = Follower::start(&gateway, &[&first]);
    for follower in [&mut all, &mut one] {
        follower.hear(is("task.started", &first));
    }
    // A start that nobody has claimed yet is begun anew, which is told, too.
    until("it runs", || gateway.path("begun").exists().then_some(()));
    gateway.crash();
    gateway.up();
    let second = gateway.submit(&["true"]);
    std::fs::write(gateway.path("go"), "").unwrap();
    for id in [&first, &second] {
        gateway.ended(id);
    }
    one.hear(is("task.succeeded", &first));
    ended(one.child).with(0);
    let heard = &one.heard;
    assert_eq!(names(heard, &first), ["task.submitted", "task.started", "task.succeeded"], "{heard:?}");

    until("both are told", || {
        let told = |id| all.heard.iter().any(is("task.succeeded", id));
        if told(&first) && told(&second) {
            return Some(());
        }
        all.hear(|_| true);
        None
    });
    let heard = all.stop();
    for id in [&first, &second] {
        assert_eq!(names(&heard, id), ["task.submitted", "task.started", "task.succeeded"]);
    }
    let ids: Vec<_> = heard.iter().filter_map(|event| event["id"].as_str()).collect();
    let unique: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "{ids:?}");
    assert!(heard.iter().filter(|event| event["name"] == "gateway.started").count() >= 2, "{heard:?}");
}

#[test]
fn streams_are_bounded_and_what_is_wrong_is_said() {
    let gateway = Gateway::start_with("watchers = 1");
    let follower = Follower::start(&gateway, &[]);
    let refused = until("the one place is taken", || {
        let answer = gateway.get("/v1/events?follow=false");
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(refused.with(503).problem().code, "overloaded");
    // Nobody who submits or looks is kept from it.
    gateway.submit(&["true"]);
    follower.stop();
    until("the place is free again", || (gateway.get("/v1/events?follow=false").status == 200).then_some(()));
    for (query, field) in [
        ("follow=perhaps", "follow"),
        ("last=1001", "last"),
        ("after=nonsense", "after"),
        ("since=1", "since"),
    ] {
        let answer = gateway.get(&format!("/v1/events?{query}"));
        assert_eq!(answer.with(400).problem().field, field, "{query}");
    }
    let missed = events(&gateway.get("/v1/events?follow=false&after=ab-1-1").with(200).body);
    assert_eq!(missed[0]["name"], "events.missed", "an id of another store");
    gateway.get("/v1/tasks/0198c2f1/events").with(404);
}

#[test]
fn what_is_told_survives_and_goes_with_its_bound() {
    let gateway = Gateway::start_with("events = 1000\nsweep_s = 1");
    let body = json!({"tasks": vec![json!({"command": ["true"], "delay_s": 3600}); 1_000]});
    let ids = gateway.post("/v1/tasks/bulk", &body).with(202).json()["ids"].clone();
    for id in ids.as_array().unwrap() {
        gateway.post(&format!("/v1/tasks/{}/cancel", id.as_str().unwrap()), &json!({})).with(200);
        gateway.post(&format!("/v1/tasks/{}/retry", id.as_str().unwrap()), &json!({})).with(200);
    }
    // Whoever comes from the beginning is told how many are gone.
    let first = until("the earliest went", || {
        let tag = events(&gateway.get("/v1/events?follow=false&last=1").body)[0]["id"].clone();
        let tag = tag.as_str()?.split_once('-')?.0.to_owned();
        let all = events(&gateway.get(&format!("/v1/events?follow=false&after={tag}-2000-0")).body);
        (all[0]["name"] == "events.missed").then(|| all[0].clone())
    });
    assert!(first["detail"]["events"].as_u64().unwrap() > 0, "{first}");
}
