//! What may be in flight: long polls beside submissions, and bodies within the gateway's memory.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::json;

use super::common::http::Request;
use super::common::{Gateway, until};

/// Begins a request over TCP.
fn begin(gateway: &Gateway, head: &str) -> TcpStream {
    let address = gateway.address.unwrap();
    let token = fs::read_to_string(gateway.data.join("admin.token")).unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "{head}\r\nhost: {address}\r\nauthorization: Bearer {}\r\n", token.trim()).unwrap();
    stream
}

#[test]
fn those_who_wait_keep_nobody_from_submitting_and_are_bounded() {
    let gateway = Gateway::start_with("requests = 4\nwatchers = 16");
    let held = gateway.submit_with(&["--delay", "1h"], &["true"]);
    let layer = || gateway.get("/v1/status").with(200).json()["layers"]["gateway"].clone();
    let poll = || {
        let mut stream = begin(&gateway, &format!("GET /v1/tasks/{held}?wait_s=60 HTTP/1.1"));
        stream.write_all(b"\r\n").unwrap();
        stream
    };
    let _waiting: Vec<TcpStream> = (0..14).map(|_| poll()).collect();
    until("they wait", || (layer()["watchers"] == 14).then_some(()));
    assert_eq!(layer()["watchers_limit"], 16);
    // One client leaves an eighth for others.
    let mut said = vec![0; 12];
    poll().read_exact(&mut said).unwrap();
    assert_eq!(said, b"HTTP/1.1 503");
    // Over the socket comes another client.
    gateway.unix(&Request::get(&format!("/v1/tasks/{held}?wait_s=0.1"))).with(200);
    for _ in 0..20 {
        gateway.post("/v1/tasks", &json!({"command": ["true"]})).with(202);
    }
    assert_eq!(layer()["watchers_refused"], 1);
}

#[test]
fn bodies_in_flight_stay_within_the_memory_there_may_be() {
    let gateway = Gateway::start_with("gateway_memory_bytes = 100000000\nwaiting_bytes = 1000000000000");
    let task = json!({"command": ["true"], "stdin": "x".repeat(9_000_000), "delay_s": 3_600}).to_string();
    let mut all: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = begin(&gateway, "POST /v1/tasks HTTP/1.1");
            write!(
                stream,
                "content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                task.len()
            )
            .unwrap();
            stream
        })
        .collect();
    let mut most_bytes = 0;
    let own_bytes = || {
        let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
    };
    let (mut accepted, mut refused) = (0, 0);
    for stream in &mut all {
        // Whoever was refused may find the connection closed.
        let _ = stream.write_all(task.as_bytes());
        most_bytes = most_bytes.max(own_bytes());
    }
    for mut stream in all {
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        most_bytes = most_bytes.max(own_bytes());
        match said.get(9..12) {
            Some(b"202") => accepted += 1,
            _ => refused += 1,
        }
    }
    assert!(accepted >= 1 && refused >= 20, "{accepted} accepted, {refused} refused");
    assert!(most_bytes < 100_000_000, "{most_bytes} bytes for {accepted} accepted");
    until("new work is taken again", || {
        (gateway.post("/v1/tasks", &json!({"command": ["true"]})).status == 202).then_some(())
    });
}
