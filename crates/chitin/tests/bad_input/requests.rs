//! Routes, ids, queries and headers that are wrong.

use super::fields::nothing_happened;
use crate::common::Gateway;
use crate::common::http::Request;

/// A task's id that nobody has.
const NONE: &str = "01980000-0000-7000-8000-000000000001";

#[test]
fn wrong_targets_are_refused_with_what_is_allowed() {
    let gateway = Gateway::start();
    let no_task = format!("there is no task `{NONE}`");
    let task = |rest: &str| format!("/v1/tasks/{NONE}{rest}");
    let states = "`state`: open, ended, or a list of scheduled, queued, running, paused, succeeded, cancelled, \
                  expired, dead";
    let cases: Vec<(&str, String, u16, &str, &str, &str)> = vec![
        // Routes and methods.
        ("GET", "/nowhere".into(), 404, "not-found", "", "there is no such route"),
        ("GET", "/v1/tasks/".into(), 404, "not-found", "", "there is no such route"),
        (
            "PUT",
            "/v1/tasks".into(),
            405,
            "method-not-allowed",
            "",
            "the route exists for other methods; see the header Allow",
        ),
        (
            "GET",
            "/v1/tasks/bulk".into(),
            405,
            "method-not-allowed",
            "",
            "the route exists for other methods; see the header Allow",
        ),
        // Ids.
        ("GET", task(""), 404, "not-found", "", &no_task),
        ("GET", task("?wait_s=5"), 404, "not-found", "", &no_task),
        ("GET", task("/result"), 404, "not-found", "", &no_task),
        ("GET", task("/logs"), 404, "not-found", "", &no_task),
        ("POST", task("/cancel"), 404, "not-found", "", &no_task),
        ("POST", task("/retry"), 404, "not-found", "", &no_task),
        ("DELETE", task(""), 404, "not-found", "", &no_task),
        ("GET", "/v1/tasks/xyz".into(), 404, "not-found", "", "there is no task `xyz`"),
        ("GET", "/v1/tasks/%00%0A".into(), 404, "not-found", "", "there is no task `\\u{0}\\n`"),
        (
            "GET",
            "/v1/tasks/%ff".into(),
            400,
            "invalid-request",
            "",
            "the request's path or query cannot be read",
        ),
        // Queries.
        (
            "GET",
            task("?wait_s=61"),
            400,
            "invalid-request",
            "wait_s",
            "`wait_s`: seconds from 0 to 60 are allowed",
        ),
        (
            "GET",
            task("?wait_s=-1"),
            400,
            "invalid-request",
            "wait_s",
            "`wait_s`: seconds from 0 to 60 are allowed",
        ),
        (
            "GET",
            task("?wait_s=NaN"),
            400,
            "invalid-request",
            "wait_s",
            "`wait_s`: seconds from 0 to 60 are allowed",
        ),
        (
            "GET",
            task("?wait=1"),
            400,
            "invalid-request",
            "wait",
            "the parameter `wait` is unknown here; allowed: wait_s",
        ),
        (
            "GET",
            "/v1/tasks?limit=0".into(),
            400,
            "invalid-request",
            "limit",
            "`limit`: 1 to 1000 tasks are allowed on a page",
        ),
        (
            "GET",
            "/v1/tasks?limit=1001".into(),
            400,
            "invalid-request",
            "limit",
            "`limit`: 1 to 1000 tasks are allowed on a page",
        ),
        ("GET", "/v1/tasks?state=odd".into(), 400, "invalid-request", "state", states),
        (
            "GET",
            "/v1/tasks?cursor=x".into(),
            400,
            "invalid-request",
            "cursor",
            "`cursor` is not one of ours: use the `next_cursor` of the page before",
        ),
        ("GET", "/v1/tasks?tag=a&tag=b".into(), 400, "invalid-request", "tag", "`tag` stands twice"),
        (
            "GET",
            "/v1/tasks?handler=x".into(),
            400,
            "invalid-request",
            "handler",
            "`handler` is not supported yet",
        ),
        (
            "GET",
            "/v1/tasks?colour=x".into(),
            400,
            "invalid-request",
            "colour",
            "the parameter `colour` is unknown here; allowed: state, queue, tag, cursor, limit",
        ),
        (
            "GET",
            task("/logs?stream=both"),
            400,
            "invalid-request",
            "stream",
            "`stream`: stdout or stderr are allowed; none means both",
        ),
        (
            "GET",
            task("/logs?follow=yes"),
            400,
            "invalid-request",
            "follow",
            "`follow`: true or false are allowed",
        ),
        (
            "GET",
            task("/logs?attempt=x"),
            400,
            "invalid-request",
            "attempt",
            "`attempt`: a whole number is needed",
        ),
        // Queues.
        ("POST", "/v1/queues/nowhere/resume".into(), 404, "not-found", "", "there is no queue `nowhere`"),
        (
            "POST",
            "/v1/queues/A%20B/pause".into(),
            400,
            "invalid-request",
            "queue",
            "`queue`: a queue's name is 1 to 64 characters of a-z, 0-9, `_`, `-` and `.`, and begins with a letter or digit",
        ),
    ];
    for (method, target, status, code, field, detail) in cases {
        let answer = gateway.tcp(&Request::new(method, &target));
        let problem = answer.problem();
        let found = (problem.status, problem.code.as_str(), problem.field.as_str(), problem.detail.as_str());
        assert_eq!(found, (status, code, field, detail), "{method} {target}");
        assert_eq!(answer.header("allow").is_some(), status == 405, "{method} {target}");
    }
    nothing_happened(&gateway);
}

#[test]
fn a_shutdown_must_say_how() {
    let gateway = Gateway::start();
    for (body, field, detail) in [
        (
            r#"{"mode": "now"}"#,
            "mode",
            "`mode`: unknown variant `now`, expected one of `drain`, `leave`, `kill`",
        ),
        (r#"{}"#, "", "missing field `mode`"),
    ] {
        let problem = gateway.tcp(&Request::new("POST", "/v1/shutdown").json(body)).problem();
        assert_eq!((problem.status, problem.field.as_str(), problem.detail.as_str()), (400, field, detail));
    }
    gateway.get("/v1/status").with(200);
}

#[test]
fn a_key_must_be_one() {
    let gateway = Gateway::start();
    for key in ["", "a b", "caf\u{e9}", &"k".repeat(256)] {
        for (path, body) in [
            ("/v1/tasks", r#"{"command": ["true"]}"#),
            ("/v1/tasks/bulk", r#"{"tasks": [{"command": ["true"]}]}"#),
        ] {
            let request = Request::new("POST", path).json(body).header("idempotency-key", key);
            let problem = gateway.tcp(&request).problem();
            let found =
                (problem.status, problem.code.as_str(), problem.field.as_str(), problem.detail.as_str());
            let detail = "`Idempotency-Key`: one of 1 to 255 visible ASCII characters is allowed";
            assert_eq!(found, (400, "invalid-request", "Idempotency-Key", detail), "{key:?}");
        }
    }
    nothing_happened(&gateway);
    let longest = Request::new("POST", "/v1/tasks").json(r#"{"command": ["true"]}"#);
    gateway.tcp(&longest.header("idempotency-key", &"k".repeat(255))).with(202);
}

#[test]
fn two_keys_are_none() {
    let gateway = Gateway::start();
    let request = Request::new("POST", "/v1/tasks").json(r#"{"command": ["true"]}"#);
    let request = request.header("idempotency-key", "a").header("idempotency-key", "b");
    let problem = gateway.tcp(&request).problem();
    assert_eq!((problem.status, problem.field.as_str()), (400, "Idempotency-Key"));
    nothing_happened(&gateway);
}

#[test]
fn headers_have_a_bound() {
    let gateway = Gateway::start();
    let long = |bytes: usize| Request::get("/healthz").header("x-long", &"x".repeat(bytes));
    let many = |count: usize| {
        (0..count).fold(Request::get("/healthz"), |request, at| request.header(&format!("x-{at}"), "x"))
    };
    gateway.tcp(&long(32_000)).with(200);
    gateway.tcp(&many(60)).with(200);
    let path = Request::get(&format!("/{}", "x".repeat(33_000)));
    for request in [long(33_000), many(65), path] {
        let problem = gateway.tcp(&request).problem();
        let found = (problem.status, problem.code.as_str(), problem.detail.as_str());
        let detail = "a path and headers of at most 32768 bytes together, and 64 headers, are allowed";
        assert_eq!(found, (431, "headers-too-large", detail));
    }
    // Who is far over it gets the bare status.
    assert_eq!(gateway.tcp(&long(1_000_000)).status, 431);
    assert_eq!(gateway.tcp(&many(1_000)).status, 431);
    gateway.get("/v1/status").with(200);
}
