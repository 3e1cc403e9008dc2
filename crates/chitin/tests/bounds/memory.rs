//! The gateway's own memory: over its line new work is refused, and below it taken again without anybody's help (R1.3).

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};

use super::common::http::Answer;
use super::common::{Gateway, until};

/// Sends a large task, whatever becomes of it.
fn send_large(gateway: &Gateway, body: &str) {
    let token = fs::read_to_string(gateway.data.join("admin.token")).unwrap();
    let address = gateway.address.unwrap();
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        token.trim(),
        body.len()
    );
    // Whoever is refused may find the connection closed.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
    let _ = stream.read_to_end(&mut Vec::new());
}

/// What was told of shedding since the beginning.
fn told(gateway: &Gateway, name: &str) -> Option<Value> {
    let body = gateway.get("/v1/events?follow=false&last=1000").with(200).body;
    let lines = String::from_utf8(body).unwrap();
    let mut data = lines.lines().filter_map(|line| line.strip_prefix("data: "));
    data.find_map(|data| {
        let event: Value = serde_json::from_str(data).unwrap();
        (event["name"] == name && event["detail"]["used_bytes"].is_u64()).then(|| event["detail"].clone())
    })
}

#[test]
fn over_its_line_new_work_is_refused_and_below_it_is_taken_again() {
    // Results in memory bring it near the line, again and again, and large bodies over it.
    let gateway = Gateway::start_with(
        "gateway_memory_bytes = 50000000\ncache_value_bytes = 10000000\nwaiting_tasks = 1000000\nwaiting_bytes = 200000000",
    );
    let large = json!({"command": ["true"], "stdin": "x".repeat(4_000_000), "delay_s": 3_600}).to_string();
    let small = json!({"command": ["true"], "delay_s": 3_600});
    let (done, refused) = (AtomicBool::new(false), Mutex::new(None::<Answer>));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    send_large(&gateway, &large);
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let answer = gateway.post("/v1/tasks", &small);
                if answer.status == 503 && answer.problem().detail.contains("memory is nearly full") {
                    *refused.lock().unwrap() = Some(answer);
                    done.store(true, Ordering::Relaxed);
                }
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let script = "head -c 8000000 /dev/zero | tr '\\0' x";
                let body = json!({"command": ["sh", "-c", script], "retry": {"max": 0}});
                let answer = gateway.post("/v1/tasks", &body);
                if let (202, Some(id)) = (answer.status, answer.json()["id"].as_str()) {
                    gateway.ended(id);
                }
            }
        });
        until("a refusal for the gateway's memory", || done.load(Ordering::Relaxed).then_some(()));
    });
    let refused = refused.into_inner().unwrap().unwrap();
    assert_eq!(refused.problem().code, "overloaded");
    assert!(refused.header("retry-after").is_some_and(|after| after.parse::<u64>().is_ok_and(|s| s >= 1)));
    until("new work is taken again", || (gateway.post("/v1/tasks", &small).status == 202).then_some(()));
    let began = until("it is told", || told(&gateway, "shed.began"));
    assert!(began["used_bytes"].as_u64().unwrap() >= 46_000_000, "{began}");
    assert_eq!(began["limit_bytes"], 50_000_000, "{began}");
    until("its end is told", || told(&gateway, "shed.ended"));
    let layer = gateway.get("/v1/status").json()["layers"]["gateway"].clone();
    assert!(layer["memory_refused"].as_u64().unwrap() >= 1, "{layer}");
}

#[test]
fn what_the_cache_keeps_does_not_keep_it_over_its_line() {
    let gateway = Gateway::start_with("gateway_memory_bytes = 50000000\ncache_value_bytes = 10000000");
    let body =
        json!({"command": ["sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' x"], "retry": {"max": 0}});
    until("results in memory bring it over its line", || {
        let answer = gateway.post("/v1/tasks", &body);
        if answer.status == 202 {
            gateway.ended(answer.json()["id"].as_str().unwrap());
        }
        told(&gateway, "shed.began")
    });
    until("it is below again", || told(&gateway, "shed.ended"));
    until("new work is taken again", || (gateway.post("/v1/tasks", &body).status == 202).then_some(()));
}
