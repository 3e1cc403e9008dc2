//! A task's fields, one wrong at a time.

use std::fs;

use serde_json::json;

use crate::common::Gateway;
use crate::common::http::Request;

/// Body, the field that is named, the whole message.
const CASES: &[(&str, &str, &str)] = &[
    // Shape.
    ("[]", "", "invalid type: sequence, expected a JSON object"),
    // Not even with the values in the right places.
    (r#"[["true"]]"#, "", "invalid type: sequence, expected a JSON object"),
    ("null", "", "invalid type: null, expected a JSON object"),
    (
        r#"{"command": ["true"], "retry": [0]}"#,
        "retry",
        "`retry`: invalid type: sequence, expected a JSON object",
    ),
    ("{}", "command", "`command` is missing: give a program and its arguments, [\"program\", …]"),
    (
        r#"{"comand": ["true"]}"#,
        "comand",
        "`comand`: unknown field `comand`, expected one of `command`, `stdin`, `env`, `cwd`, `merge`, `queue`, \
         `priority`, `delay_s`, `run_at`, `timeout_s`, `ttl_s`, `retry`, `memory_bytes`, `cpus`, `pids`, `tags`, \
         `handler`, `input`, `stall_timeout_s`, `webhook`",
    ),
    (
        r#"{"command": ["true"], "retry": {"count": 1}}"#,
        "retry.count",
        "`retry.count`: unknown field `count`, expected one of `max`, `backoff_s`, `jitter`",
    ),
    (r#"{"command": "true"}"#, "command", "`command`: invalid type: string \"true\", expected a sequence"),
    (r#"{"command": [1]}"#, "command[0]", "`command[0]`: invalid type: integer `1`, expected a string"),
    (
        r#"{"command": ["true"], "timeout_s": "5s"}"#,
        "timeout_s",
        "`timeout_s`: invalid type: string \"5s\", expected f64",
    ),
    (
        r#"{"command": ["true"], "memory_bytes": -1}"#,
        "memory_bytes",
        "`memory_bytes`: invalid value: integer `-1`, expected u64",
    ),
    (
        r#"{"command": ["true"], "env": {"A": 1}}"#,
        "env.A",
        "`env.A`: invalid type: integer `1`, expected a string",
    ),
    (
        r#"{"command": ["true"], "stdin": 1}"#,
        "stdin",
        "`stdin`: invalid type: integer `1`, expected a string, or {\"base64\": string}",
    ),
    (r#"{"command": ["true"], "stdin": {"base64": "?"}}"#, "stdin", "`stdin`: not valid base64"),
    // Command, environment, directory.
    (
        r#"{"command": []}"#,
        "command",
        "`command`: the command is empty: give a program and its arguments, [\"program\", …]",
    ),
    (r#"{"command": [""]}"#, "command[0]", "`command[0]`: the program's name is empty"),
    (
        r#"{"command": ["echo", "a\u0000b"]}"#,
        "command[1]",
        "`command[1]`: contains a NUL byte, which no argument can hold",
    ),
    (
        r#"{"command": ["true"], "env": {"A": "\u0000"}}"#,
        "env.A",
        "`env.A`: contains a NUL byte, which no variable can hold",
    ),
    (
        r#"{"command": ["true"], "env": {"A\u0000": ""}}"#,
        "env",
        "`env`: `A\\u{0}` is no variable's name: not empty, no `=`, no NUL byte",
    ),
    (
        r#"{"command": ["true"], "env": {"A=B": ""}}"#,
        "env",
        "`env`: `A=B` is no variable's name: not empty, no `=`, no NUL byte",
    ),
    (r#"{"command": ["true"], "env": {"A": "1", "A": "2"}}"#, "env", "`env`: the name `A` stands twice"),
    (
        r#"{"command": ["true"], "env": {"CHITIN_SOCKET": "x"}}"#,
        "env.CHITIN_SOCKET",
        "`env.CHITIN_SOCKET`: is set by chitin itself",
    ),
    (
        r#"{"command": ["true"], "cwd": "here"}"#,
        "cwd",
        "`cwd`: an absolute path is needed, beginning with `/`",
    ),
    (
        r#"{"command": ["true"], "cwd": "/\u0000"}"#,
        "cwd",
        "`cwd`: contains a NUL byte, which no path can hold",
    ),
    // Numbers.
    (
        r#"{"command": ["true"], "timeout_s": 0}"#,
        "timeout_s",
        "`timeout_s` is 0; above 0 to 315360000 seconds are allowed",
    ),
    (
        r#"{"command": ["true"], "timeout_s": -1.5}"#,
        "timeout_s",
        "`timeout_s` is -1.5; above 0 to 315360000 seconds are allowed",
    ),
    (
        r#"{"command": ["true"], "ttl_s": 0}"#,
        "ttl_s",
        "`ttl_s` is 0; above 0 to 315360000 seconds are allowed",
    ),
    (
        r#"{"command": ["true"], "delay_s": -1}"#,
        "delay_s",
        "`delay_s` is -1; from 0 to 315360000 seconds are allowed",
    ),
    (
        r#"{"command": ["true"], "run_at": "tomorrow"}"#,
        "run_at",
        "`run_at`: a time in RFC 3339 is needed, like 2030-01-31T12:00:00Z",
    ),
    (
        r#"{"command": ["true"], "run_at": "2030-01-31T12:00:00Z", "delay_s": 1}"#,
        "run_at",
        "`run_at` and `delay_s` exclude each other",
    ),
    (
        r#"{"command": ["true"], "priority": 10}"#,
        "priority",
        "`priority`: 10 is not a priority: 0 to 9 are allowed, 9 goes first",
    ),
    (
        r#"{"command": ["true"], "retry": {"max": 1001}}"#,
        "retry.max",
        "`retry.max` is 1001; 0 to 1000 are allowed",
    ),
    (
        r#"{"command": ["true"], "retry": {"backoff_s": [1, -1]}}"#,
        "retry.backoff_s[1]",
        "`retry.backoff_s[1]` is -1; from 0 to 315360000 seconds are allowed",
    ),
    (
        r#"{"command": ["true"], "retry": {"jitter": 1.5}}"#,
        "retry.jitter",
        "`retry.jitter`: a number from 0 to 1 is allowed",
    ),
    (
        r#"{"command": ["true"], "memory_bytes": 1000}"#,
        "memory_bytes",
        "`memory_bytes` is 1000; 1000000 to 1000000000000000 are allowed",
    ),
    (r#"{"command": ["true"], "cpus": 0}"#, "cpus", "`cpus` is 0; 0.01 to 1024 cores are allowed"),
    (r#"{"command": ["true"], "pids": 0}"#, "pids", "`pids` is 0; 1 to 1000000000000000 are allowed"),
    // Names.
    (
        r#"{"command": ["true"], "queue": "A b"}"#,
        "queue",
        "`queue`: a queue's name is 1 to 64 characters of a-z, 0-9, `_`, `-` and `.`, and begins with a letter or digit",
    ),
    (
        r#"{"command": ["true"], "tags": [""]}"#,
        "tags[0]",
        "`tags[0]`: a tag is 1 to 128 bytes of text without control characters",
    ),
    (
        r#"{"command": ["true"], "tags": ["a", "a"]}"#,
        "tags[1]",
        "`tags[1]`: stands twice; each tag once is allowed",
    ),
    // Parts that are not built yet.
    (r#"{"handler": "resize", "input": {}}"#, "handler", "`handler` is not supported yet"),
    (r#"{"command": ["true"], "input": 1}"#, "input", "`input` is not supported yet"),
    (
        r#"{"command": ["true"], "stall_timeout_s": 5}"#,
        "stall_timeout_s",
        "`stall_timeout_s` is not supported yet",
    ),
    (r#"{"command": ["true"], "webhook": {"url": "x"}}"#, "webhook", "`webhook` is not supported yet"),
];

#[test]
fn every_wrong_field_is_named_with_what_is_allowed() {
    let gateway = Gateway::start();
    for (body, field, detail) in CASES {
        let problem = gateway.tcp(&Request::new("POST", "/v1/tasks").json(*body)).problem();
        let found = (problem.status, problem.code.as_str(), problem.field.as_str(), problem.detail.as_str());
        assert_eq!(found, (400, "invalid-request", *field, *detail), "{body}");
    }
    // The same inside a bulk, where it takes the good ones with it.
    for (body, field, _) in CASES.iter().filter(|(_, field, _)| !field.is_empty()) {
        let bulk = format!(r#"{{"tasks": [{{"command": ["true"]}}, {body}]}}"#);
        let problem = gateway.tcp(&Request::new("POST", "/v1/tasks/bulk").json(bulk)).problem();
        assert_eq!((problem.status, problem.field), (400, format!("tasks[1].{field}")), "{body}");
    }
    nothing_happened(&gateway);
}

/// No task, no folder, no process but the gateway and its supervisor.
pub(crate) fn nothing_happened(gateway: &Gateway) {
    assert_eq!(gateway.get("/v1/tasks").with(200).json(), json!({"tasks": [], "next_cursor": null}));
    assert_eq!(gateway.counts(), (0, 0));
    assert_eq!(fs::read_dir(gateway.data.join("spool")).unwrap().count(), 0);
    let processes = crate::common::traces::processes(&gateway.data);
    let own = [gateway.pid(), gateway.supervisor_pid()];
    assert!(processes.iter().all(|process| own.contains(&process.pid)), "{processes:?}");
}

#[test]
fn the_command_line_says_it_too() {
    let gateway = Gateway::start();
    for (args, said) in [
        (
            &["submit", "--queue", "A b", "--", "true"][..],
            "chitin: `queue`: a queue's name is 1 to 64 characters of a-z, 0-9, `_`, `-` and `.`, and begins with a \
             letter or digit\n",
        ),
        (
            &["submit", "--tag", "", "--", "true"],
            "chitin: `tags[0]`: a tag is 1 to 128 bytes of text without control characters\n",
        ),
        (&["submit", "--", ""], "chitin: `command[0]`: the program's name is empty\n"),
        (&["run", "--", ""], "chitin: `command[0]`: the program's name is empty\n"),
        (
            &["submit", "-e", "A=1", "-e", "A=2", "--", "true"],
            "chitin: -e A is given twice; allowed: each name once\n",
        ),
        (
            &["submit", "-e", "CHITIN_SOCKET=x", "--", "true"],
            "chitin: `env.CHITIN_SOCKET`: is set by chitin itself\n",
        ),
        (
            &["submit", "--memory", "1KB", "--", "true"],
            "chitin: `memory_bytes` is 1000; 1000000 to 1000000000000000 are allowed\n",
        ),
        (
            &["ps", "--state", "odd"],
            "chitin: `state`: open, ended, or a list of scheduled, queued, running, paused, succeeded, cancelled, expired, dead\n",
        ),
    ] {
        let end = gateway.cli(args).with(64);
        assert_eq!((end.out(), end.err.as_str()), ("", said), "{args:?}");
    }
    nothing_happened(&gateway);
}
