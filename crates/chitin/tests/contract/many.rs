//! Many tasks: bulk, pages, queues and their bound, idempotency under concurrency.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Value, json};

use crate::common::http::{Answer, Request};
use crate::common::{Gateway, ended};

fn ids(answer: Answer) -> Vec<String> {
    let ids = answer.json()["ids"].as_array().unwrap().clone();
    ids.iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

fn tasks(count: usize) -> Value {
    json!({ "tasks": vec![json!({"command": ["true"]}); count] })
}

/// One whose default queue is paused: what comes in stays.
fn still(limits: &str) -> Gateway {
    let gateway = Gateway::start_with(limits);
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
    gateway
}

#[test]
fn bulk_is_all_or_none() {
    let gateway = still("");
    assert_eq!(ids(gateway.post("/v1/tasks/bulk", &tasks(1_000)).with(202)).len(), 1_000);
    assert_eq!(gateway.counts(), (1_000, 0));

    let problem = gateway.post("/v1/tasks/bulk", &tasks(1_001)).problem();
    assert_eq!(
        (problem.status, problem.code.as_str(), problem.field.as_str()),
        (400, "invalid-request", "tasks")
    );
    assert_eq!(problem.detail, "`tasks` has 1001 tasks; 1 to 1000 are allowed");
    let problem = gateway.post("/v1/tasks/bulk", &tasks(0)).problem();
    assert_eq!(problem.detail, "`tasks` has 0 tasks; 1 to 1000 are allowed");

    let mut wrong = tasks(3);
    wrong["tasks"][1]["priority"] = json!(10);
    let problem = gateway.post("/v1/tasks/bulk", &wrong).problem();
    assert_eq!((problem.status, problem.field.as_str()), (400, "tasks[1].priority"));
    assert_eq!(
        problem.detail,
        "tasks[1]: `priority`: 10 is not a priority: 0 to 9 are allowed, 9 goes first"
    );
    wrong["tasks"][1] = json!({"comand": ["true"]});
    let problem = gateway.post("/v1/tasks/bulk", &wrong).problem();
    assert_eq!((problem.status, problem.field.as_str()), (400, "tasks[1].comand"), "{}", problem.detail);
    assert_eq!(gateway.counts(), (1_000, 0), "nothing of what was refused is there");
}

#[test]
fn the_queues_bound_is_exact_under_concurrency() {
    let gateway = still("waiting_tasks = 50");
    let answers: Vec<Answer> = thread::scope(|scope| {
        let post = || gateway.post("/v1/tasks", &json!({"command": ["true"]}));
        let clients: Vec<_> =
            (0..8).map(|_| scope.spawn(move || (0..10).map(|_| post()).collect::<Vec<_>>())).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(accepted, 50);
    for refused in answers.iter().filter(|answer| answer.status != 202) {
        let problem = refused.problem();
        assert_eq!((problem.status, problem.code.as_str()), (429, "queue-full"));
        assert_eq!(problem.detail, "50 tasks wait; 50 are allowed; try again when some are done");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(gateway.counts(), (50, 0));
    // The command line waits for a place.
    let submit = gateway.command(&["submit", "--", "true"]).spawn().unwrap();
    let one = answers.iter().find(|answer| answer.status == 202).unwrap().json()["id"].clone();
    gateway.cli(&["cancel", one.as_str().unwrap()]).with(0);
    assert_eq!(ended(submit).with(0).err, "");
    assert_eq!(gateway.counts(), (50, 0));
}

#[test]
fn bulk_over_the_bound_is_refused_whole() {
    let gateway = still("waiting_tasks = 50");
    gateway.post("/v1/tasks/bulk", &tasks(45)).with(202);
    assert_eq!(gateway.post("/v1/tasks/bulk", &tasks(6)).problem().code, "queue-full");
    assert_eq!(gateway.counts(), (45, 0));
    gateway.post("/v1/tasks/bulk", &tasks(5)).with(202);
    assert_eq!(gateway.counts(), (50, 0));
    // Delayed tasks wait, too.
    assert_eq!(
        gateway.post("/v1/tasks", &json!({"command": ["true"], "delay_s": 60})).problem().code,
        "queue-full"
    );
}

#[test]
fn one_key_is_one_task() {
    let gateway = still("");
    let submit = |key: &str, body: &Value| {
        gateway.tcp(&Request::post("/v1/tasks", body).header("idempotency-key", key))
    };
    let body = json!({"command": ["echo", "a"]});
    let first = submit("k1", &body).with(202);
    let again = submit("k1", &body).with(200);
    assert_eq!(again.json()["id"], first.json()["id"]);
    assert_eq!(again.header("location"), first.header("location"));

    let problem = submit("k1", &json!({"command": ["echo", "b"]})).problem();
    assert_eq!((problem.status, problem.code.as_str()), (409, "idempotency-mismatch"));
    assert_eq!(
        problem.detail,
        "this Idempotency-Key was used with another body; use a new key for a new task"
    );
    submit("k2", &body).with(202);
    assert_eq!(gateway.counts(), (2, 0));

    // A refusal is not remembered.
    submit("k3", &json!({"command": []})).with(400);
    submit("k3", &body).with(202);

    let bulk =
        |key: &str| gateway.tcp(&Request::post("/v1/tasks/bulk", &tasks(3)).header("idempotency-key", key));
    assert_eq!(ids(bulk("k1").with(202)), ids(bulk("k1").with(200)), "another route, another scope");
    assert_eq!(gateway.counts(), (6, 0));
}

#[test]
fn a_hundred_at_once_with_one_key_are_one_task() {
    let mut gateway = still("");
    let request = Request::post("/v1/tasks", &json!({"command": ["true"]})).header("idempotency-key", "one");
    let answers: Vec<Answer> = thread::scope(|scope| {
        let clients: Vec<_> = (0..100).map(|_| scope.spawn(|| gateway.tcp(&request))).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let found: HashSet<String> = answers.iter().map(|answer| answer.json()["id"].to_string()).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 202)));
    assert_eq!(gateway.counts(), (1, 0));
    gateway.crash();
    gateway.up();
    assert_eq!(gateway.tcp(&request).with(200).json()["id"].to_string(), *found.iter().next().unwrap());
}

fn listed(gateway: &Gateway, query: &str) -> (Vec<String>, Value) {
    let page = gateway.get(&format!("/v1/tasks?{query}")).with(200).json();
    let ids = page["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned());
    (ids.collect(), page["next_cursor"].clone())
}

#[test]
fn a_list_is_read_page_by_page_newest_first() {
    let gateway = still("");
    let mut expected = ids(gateway.post("/v1/tasks/bulk", &tasks(25)).with(202));
    expected.reverse();
    let mut seen = Vec::new();
    let mut query = "limit=10".to_owned();
    let mut sizes = Vec::new();
    loop {
        let (page, next) = listed(&gateway, &query);
        sizes.push(page.len());
        seen.extend(page);
        // What comes meanwhile does not shift the pages.
        gateway.post("/v1/tasks", &json!({"command": ["true"]})).with(202);
        let Some(cursor) = next.as_str() else { break };
        query = format!("limit=10&cursor={cursor}");
    }
    assert_eq!((sizes, seen), (vec![10, 10, 5], expected));
}

#[test]
fn a_list_is_filtered() {
    let gateway = still("");
    let post =
        |body: Value| gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    let plain = post(json!({"command": ["true"]}));
    let tagged = post(json!({"command": ["true"], "tags": ["night", "a b"]}));
    let other = post(json!({"command": ["true"], "queue": "other", "tags": ["night"]}));
    let later = post(json!({"command": ["true"], "delay_s": 3600}));
    gateway.ended(&other);
    let list = |query: &str| listed(&gateway, query).0;
    assert_eq!(list("tag=night"), [other.as_str(), tagged.as_str()]);
    assert_eq!(list("tag=a%20b"), [tagged.as_str()]);
    assert_eq!(list("tag=none"), Vec::<String>::new());
    assert_eq!(list("queue=other"), [other.as_str()]);
    assert_eq!(list("queue=nowhere"), Vec::<String>::new());
    assert_eq!(list("state=queued"), [tagged.as_str(), plain.as_str()]);
    assert_eq!(list("state=scheduled,succeeded"), [later.as_str(), other.as_str()]);
    assert_eq!(list("state=open"), [later.as_str(), tagged.as_str(), plain.as_str()]);
    assert_eq!(list("state=ended"), [other.as_str()]);
    assert_eq!(list("state=ended&tag=night&queue=other&limit=5"), [other.as_str()]);
}

#[test]
fn a_paused_queues_tasks_wait_and_count() {
    let gateway = still("");
    let queue = |name: &str| {
        let list = gateway.get("/v1/queues").with(200).json();
        list["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == name).cloned()
    };
    let held = gateway.submit(&["true"]);
    assert_eq!(gateway.ended(&gateway.submit_with(&["--queue", "other"], &["true"]))["state"], "succeeded");
    assert_eq!(gateway.task(&held)["state"], "queued");
    let expected = json!({"name": "default", "paused": true, "waiting": 1, "running": 0});
    assert_eq!(queue("default"), Some(expected.clone()));
    assert_eq!(
        gateway.post("/v1/queues/default/pause", &Value::Null).with(200).json(),
        expected,
        "again: the same"
    );
    gateway.tcp(&Request::new("POST", "/v1/queues/default/resume")).with(200);
    assert_eq!(gateway.ended(&held)["state"], "succeeded");
    assert_eq!(queue("default").unwrap()["paused"], false);
    let problem = gateway.post("/v1/queues/nowhere/pause", &Value::Null).problem();
    assert_eq!((problem.status, problem.detail.as_str()), (404, "there is no queue `nowhere`"));
    let cli = gateway.cli(&["queues", "pause", "nowhere"]).with(1);
    assert_eq!(cli.err, "chitin: there is no queue `nowhere`\n");
}

/// Sends the head of a request and waits for as many bytes of what comes back.
fn begin(gateway: &Gateway, head: &str, bytes: usize) -> (UnixStream, Vec<u8>) {
    let mut stream = UnixStream::connect(gateway.data.join("chitin.sock")).unwrap();
    stream.write_all(format!("{head}\r\nhost: localhost\r\n\r\n").as_bytes()).unwrap();
    let mut heard = vec![0; bytes];
    stream.read_exact(&mut heard).unwrap();
    (stream, heard)
}

#[test]
fn slow_senders_keep_nobody_from_submitting() {
    let gateway = still("requests = 2\nbody_bytes_in_flight = 16000000");
    let slow = |length: usize| {
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue"
        );
        let (stream, heard) = begin(&gateway, &head, 25);
        assert_eq!(heard, b"HTTP/1.1 100 Continue\r\n\r\n");
        stream
    };
    // More than there are places, and as much as one client's large bodies may take together.
    let _slow = [4_000, 4_000, 4_000, 9_000_000, 3_000_000].map(slow);
    let post = |bytes: usize| {
        let body = json!({"command": ["true"], "stdin": "x".repeat(bytes)}).to_string();
        let head = format!(
            "POST /v1/tasks HTTP/1.1\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nexpect: 100-continue",
            body.len()
        );
        begin(&gateway, &head, 25).1
    };
    assert_eq!(post(1_000_000), b"HTTP/1.1 503 Service Unav");
    assert_eq!(post(10), b"HTTP/1.1 100 Continue\r\n\r\n");
    // Another one has what is left, and not more.
    let large =
        |bytes: usize| gateway.post("/v1/tasks", &json!({"command": ["true"], "stdin": "x".repeat(bytes)}));
    large(1_000_000).with(202);
    assert_eq!(large(2_600_000).problem().code, "overloaded");
    let layer = gateway.get("/v1/status").with(200).json()["layers"]["gateway"].clone();
    assert_eq!(layer["body_bytes_refused"], 2, "{layer}");
}

#[test]
fn slow_readers_of_a_large_result_cost_little_and_it_comes_whole() {
    let gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", "seq 2000000 | head -c 10000000"]);
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    let resident_kb = || {
        let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = resident_kb();
    let head = format!("GET /v1/tasks/{id}/result HTTP/1.1");
    let slow: Vec<_> = (0..50).map(|_| begin(&gateway, &head, 1_000)).collect();
    let grown = resident_kb().saturating_sub(before);
    assert!(grown < 100_000, "50 readers of 10 MB cost {grown} kB");
    drop(slow);

    let whole: String = (1..=2_000_000).map(|number| format!("{number}\n")).collect();
    let answer = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
    assert_eq!(answer.header("content-length"), Some("10000000"));
    assert!(answer.body == whole.as_bytes()[..10_000_000], "other bytes");
}
