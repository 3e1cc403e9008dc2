//! Bodies: their size to the byte, their form, their type.

use serde_json::json;

use super::fields::nothing_happened;
use crate::common::Gateway;
use crate::common::http::{Problem, Request};

/// A task of exactly so many bytes, as JSON.
fn task_of(bytes: usize) -> Vec<u8> {
    let body = |padding: usize| json!({"command": ["wc", "-c"], "stdin": "x".repeat(padding)}).to_string();
    body(bytes - body(0).len()).into_bytes()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::with_capacity(body.len() + 10_000);
    for chunk in body.chunks(65_536) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    chunks
}

fn too_large(problem: Problem) {
    let detail = "a body of at most 10000000 bytes is allowed here; put large data into a file";
    let found = (problem.status, problem.code.as_str(), problem.detail.as_str());
    assert_eq!(found, (413, "too-large", detail));
}

#[test]
fn ten_million_bytes_are_the_most() {
    const MOST: usize = 10_000_000;
    let gateway = Gateway::start();
    let post = || Request::new("POST", "/v1/tasks");
    let over = task_of(MOST + 1);
    assert_eq!(over.len(), MOST + 1);
    too_large(gateway.tcp(&post().json(over.clone())).problem());
    too_large(gateway.unix(&post().json(over.clone())).problem());
    too_large(gateway.tcp(&post().json(over.clone()).header("expect", "100-continue")).problem());
    let in_chunks = post().json(chunked(&over)).header("transfer-encoding", "chunked");
    too_large(gateway.tcp(&in_chunks).problem());
    nothing_happened(&gateway);

    let most = task_of(MOST);
    assert_eq!(most.len(), MOST);
    let chunks = post().json(chunked(&most)).header("transfer-encoding", "chunked");
    let asks = post().json(most.clone()).header("expect", "100-continue");
    let input = MOST - task_of(1_000).len()
        + serde_json::from_slice::<serde_json::Value>(&task_of(1_000)).unwrap()["stdin"]
            .as_str()
            .unwrap()
            .len();
    for request in [post().json(most.clone()), asks, chunks] {
        let id = gateway.tcp(&request).with(202).json()["id"].as_str().unwrap().to_owned();
        assert_eq!(gateway.ended(&id)["state"], "succeeded");
        assert_eq!(gateway.cli(&["result", &id]).with(0).out().trim(), input.to_string());
    }
}

#[test]
fn the_command_line_refuses_too_much_input_itself() {
    let gateway = Gateway::start();
    let submit = gateway.command(&["submit", "--", "cat"]);
    let end = crate::common::finish(submit, Some(&vec![b'x'; 10_000_001])).with(64);
    assert_eq!(
        end.err,
        "chitin: the task is over 10,000,000 bytes as sent, with its standard input; that is the most allowed\n\
         hint: put the input into a file and let the command read it\n"
    );
    nothing_happened(&gateway);
}

#[test]
fn a_bulk_has_its_own_bound() {
    let gateway = Gateway::start();
    let request = Request::new("POST", "/v1/tasks/bulk").json(vec![b' '; 16_000_001]);
    let problem = gateway.tcp(&request).problem();
    let detail = "a body of at most 16000000 bytes is allowed here; put large data into a file";
    assert_eq!((problem.status, problem.detail.as_str()), (413, detail));
    nothing_happened(&gateway);
}

#[test]
fn a_body_must_be_json_and_say_so() {
    let gateway = Gateway::start();
    for (body, detail) in [
        ("", "the body is not valid JSON: EOF while parsing a value at line 1 column 0"),
        ("{", "the body is not valid JSON: EOF while parsing an object at line 1 column 1"),
        (
            "{\"command\": [\"true\"]}\n}",
            "the body is not valid JSON: trailing characters at line 2 column 1",
        ),
        ("{\"command\": ['true']}", "the body is not valid JSON: expected value at line 1 column 14"),
    ] {
        let problem = gateway.tcp(&Request::new("POST", "/v1/tasks").json(body)).problem();
        let found = (problem.status, problem.code.as_str(), problem.detail.as_str());
        assert_eq!(found, (400, "invalid-request", detail));
    }
    let latin = b"{\"command\": [\"caf\xe9\"]}".to_vec();
    let problem = gateway.tcp(&Request::new("POST", "/v1/tasks").json(latin)).problem();
    assert_eq!((problem.status, problem.code.as_str()), (400, "invalid-request"), "{}", problem.detail);

    let good = r#"{"command": ["true"]}"#;
    let send = "send the header `Content-Type: application/json`";
    for (name, value, detail) in [
        ("content-type", "text/plain", send),
        ("content-type", "application/x-www-form-urlencoded", send),
        ("x-other", "x", send),
        ("content-encoding", "gzip", "a Content-Encoding is not supported; send the JSON as it is"),
    ] {
        let mut request = Request::new("POST", "/v1/tasks").body(good).header(name, value);
        if name == "content-encoding" {
            request = request.header("content-type", "application/json");
        }
        let problem = gateway.tcp(&request).problem();
        let found = (problem.status, problem.code.as_str(), problem.detail.as_str());
        assert_eq!(found, (415, "unsupported-media-type", detail), "{name}: {value}");
    }
    nothing_happened(&gateway);
    let with_parameter = Request::new("POST", "/v1/tasks")
        .body(good)
        .header("content-type", "Application/JSON; charset=utf-8");
    gateway.tcp(&with_parameter).with(202);
}
