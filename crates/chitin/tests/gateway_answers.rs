//! The command line against a gateway that answers, refuses and breaks as each test says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests, helpers included")]

mod support;

use std::io::{Read, Write};
use std::process::Stdio;

use serde_json::json;
use support::{Fake, ID, Reply, accepted, ended, finish, frame, start, task};

/// A gateway whose tasks have ended so, with this log.
fn ending(log: Vec<u8>, end: serde_json::Value) -> Fake {
    Fake::serve(move |request, _| match request.line.as_str() {
        "POST /v1/tasks" => accepted(),
        line if line.contains("/logs?") => Reply::Stream(log.clone()),
        _ => Reply::json(200, end.clone()),
    })
}

fn output(bytes: &[u8]) -> Vec<u8> {
    [frame(2, &1_u32.to_le_bytes()), frame(0, bytes)].concat()
}

#[test]
fn run_gives_both_outputs_and_the_exit_code_exactly() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let log = [output(&bytes), frame(1, b"to\x00err\n"), frame(4, b"")].concat();
    let fake =
        ending(log, task("dead", Some("retries_exhausted"), json!({"outcome": "failed", "exit_code": 3})));
    let output = start(fake.chitin(&["run", "--tag", "t", "--", "sh", "-c", "x", "--", "-y"]))
        .wait_with_output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.stdout, bytes);
    assert_eq!(output.stderr, b"to\x00err\n");

    let submission = &fake.received()[0];
    assert_eq!(submission.body["command"], json!(["sh", "-c", "x", "--", "-y"]));
    assert_eq!(submission.body["retry"], json!({"max": 0}));
    assert_eq!(submission.body["env"], json!({"HOME": "/nowhere", "PATH": "/usr/bin:/bin"}));
    assert_eq!(submission.body["cwd"], json!(std::env::current_dir().unwrap()));
    let key = submission.key.clone().unwrap();
    assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
}

#[test]
fn the_double_dash_may_be_left_out() {
    let fake = ending(output(b""), task("succeeded", None, json!({"outcome": "succeeded", "exit_code": 0})));
    assert_eq!(finish(fake.chitin(&["run", "-n", "ls", "-l", "--color"])).0, 0);
    assert_eq!(fake.received()[0].body["command"], json!(["ls", "-l", "--color"]));
}

#[test]
fn ends_that_are_no_exit_are_said() {
    let cases = [
        (json!({"outcome": "timed_out", "signal": 15}), 124, "chitin: timed out after 5s\n"),
        (json!({"outcome": "signalled", "signal": 11}), 139, "chitin: ended by signal 11 (SIGSEGV)\n"),
        (
            json!({"outcome": "oom_killed", "peak_memory_bytes": 64_000_000}),
            137,
            "chitin: out of memory: peak 64MB\n",
        ),
        (
            json!({"outcome": "failed", "exit_code": 127, "error": "no such command: `x`"}),
            127,
            "chitin: no such command: `x`\n",
        ),
        (json!({"outcome": "worker_lost"}), 125, "chitin: lost its worker\n"),
    ];
    for (attempt, code, line) in cases {
        let fake = ending(output(b""), task("dead", Some("retries_exhausted"), attempt));
        assert_eq!(finish(fake.chitin(&["run", "--", "x"])), (code, String::new(), line.to_owned()));
        assert_eq!(finish(fake.chitin(&["wait", ID])), (code, String::new(), line.to_owned()));
    }
}

#[test]
fn a_torn_log_goes_on_where_it_was() {
    let fake = Fake::serve(|request, _| match request.line.as_str() {
        "POST /v1/tasks" => accepted(),
        line if line.contains("stdout_from=8&stderr_from=2") => Reply::Stream(output(b"th rest\n")),
        line if line.contains("/logs?") => {
            // A frame of 10 bytes, of which 8 arrive.
            let torn = [frame(2, &1_u32.to_le_bytes()), frame(1, b"er"), frame(0, b"begin wiXX")].concat();
            Reply::Torn(torn[..torn.len() - 2].to_vec())
        }
        _ => Reply::json(200, task("succeeded", None, json!({"outcome": "succeeded", "exit_code": 0}))),
    });
    assert_eq!(
        finish(fake.chitin(&["run", "--", "x"])),
        (0, "begin with rest\n".to_owned(), "er".to_owned())
    );
    assert!(
        fake.received().iter().any(|request| request.line.contains("&attempt=1&stdout_from=8&stderr_from=2"))
    );
}

#[test]
fn a_lost_answer_is_asked_for_with_the_same_key() {
    let fake = Fake::serve(|_, before| if before < 2 { Reply::Reset } else { accepted() });
    assert_eq!(finish(fake.chitin(&["submit", "--", "true"])), (0, format!("{ID}\n"), String::new()));
    let keys: Vec<_> = fake.received().into_iter().map(|request| request.key.unwrap()).collect();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert_eq!(fake.received()[0].body.get("retry"), None, "the gateway's policy holds");
}

#[test]
fn a_refusal_for_now_is_waited_for_and_any_other_is_not() {
    let fake = Fake::serve(|_, before| match before {
        0 => Reply::problem(429, "the queue is full: 10000 of 10000", "retry-after: 0\r\n"),
        1 => Reply::problem(503, "overloaded", "retry-after: 0\r\n"),
        _ => accepted(),
    });
    assert_eq!(finish(fake.chitin(&["submit", "--", "true"])).0, 0);

    for (status, code) in [(507, 75), (400, 64), (409, 1), (500, 1)] {
        let fake = Fake::serve(move |_, _| Reply::problem(status, "because", ""));
        assert_eq!(
            finish(fake.chitin(&["submit", "--", "true"])),
            (code, String::new(), "chitin: because\n".to_owned())
        );
    }
}

#[test]
fn standard_input_is_sent_unless_it_is_unwanted() {
    let fake = Fake::serve(|_, _| accepted());
    for args in [&["submit", "--", "cat"][..], &["submit", "-n", "--", "cat"]] {
        let mut command = fake.chitin(args);
        command.stdin(Stdio::piped());
        let mut child = start(command);
        let _ = child.stdin.take().unwrap().write_all(b"a\xffb");
        assert_eq!(ended(child.wait_with_output().unwrap()).0, 0);
    }
    let bodies: Vec<_> = fake.received().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies[0]["stdin"], json!({"base64": "Yf9i"}));
    assert_eq!(bodies[1].get("stdin"), None);
}

#[test]
fn a_silent_pipe_is_mentioned() {
    let fake = Fake::serve(|_, _| accepted());
    let mut command = fake.chitin(&["submit", "--", "cat"]);
    command.stdin(Stdio::piped());
    let mut child = start(command);
    let line = "chitin: waiting for standard input, which goes to the command; -n sends none\n";
    let mut said = vec![0; line.len()];
    child.stderr.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), line);
    drop(child.stdin.take());
    assert_eq!(ended(child.wait_with_output().unwrap()).0, 0);
}

/// A gateway whose one task prints and goes on for ever.
fn endless() -> Fake {
    Fake::serve(|request, _| match request.line.as_str() {
        "POST /v1/tasks" => accepted(),
        line if line.contains("/logs?") => Reply::Open(output(b"working\n")),
        line if line.contains("/cancel") => {
            Reply::json(200, task("cancelled", None, json!({"outcome": "cancelled"})))
        }
        _ => Reply::json(200, task("running", None, json!({}))),
    })
}

fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

fn read_line(from: &mut impl Read) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.last() != Some(&b'\n') && from.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

#[test]
fn an_interrupt_leaves_the_task_and_a_second_one_cancels_it() {
    for second in [false, true] {
        let fake = endless();
        let mut child = start(fake.chitin(&["run", "--", "x"]));
        assert_eq!(read_line(child.stdout.as_mut().unwrap()), "working\n");
        interrupt(&child);
        let mut stderr = child.stderr.take().unwrap();
        assert_eq!(
            read_line(&mut stderr),
            format!("chitin: detached; task {ID} goes on (Ctrl-C again now cancels it)\n")
        );
        assert_eq!(read_line(&mut stderr), format!("chitin: to end it: chitin cancel {ID}\n"));
        if second {
            interrupt(&child);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130));
        let cancelled = fake.received().iter().any(|request| request.line.contains("/cancel"));
        assert_eq!(cancelled, second);
    }
}

#[test]
fn a_closed_standard_output_leaves_the_task_quietly() {
    let fake = Fake::serve(|request, _| match request.line.as_str() {
        "POST /v1/tasks" => accepted(),
        line if line.contains("/logs?") => Reply::Stream(output(&vec![b'y'; 1_000_000])),
        _ => Reply::json(200, task("running", None, json!({}))),
    });
    let mut child = start(fake.chitin(&["run", "--", "yes"]));
    drop(child.stdout.take());
    let (code, _, err) = ended(child.wait_with_output().unwrap());
    assert_eq!(code, 141);
    assert_eq!(
        err,
        format!(
            "chitin: standard output was closed; task {ID} goes on\nchitin: to end it: chitin cancel {ID}\n"
        )
    );
}

#[test]
fn ps_pages_until_it_is_enough() {
    let fake = Fake::serve(|request, _| {
        let next = if request.line.contains("cursor=") { json!(null) } else { json!("c/1") };
        let tasks = vec![task("dead", Some("poison"), json!({})); 2];
        Reply::json(200, json!({"tasks": tasks, "next_cursor": next}))
    });
    let (code, out, err) = finish(fake.chitin(&["ps", "--tag", "a&b"]));
    assert_eq!((code, err.as_str(), out.lines().count()), (0, "", 5));
    assert!(out.starts_with("ID        STATE          ATTEMPT  QUEUE    AGE"), "{out}");
    let lines: Vec<String> = fake.received().into_iter().map(|request| request.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/tasks?limit=100&state=open&tag=a%26b",
            "GET /v1/tasks?limit=98&state=open&tag=a%26b&cursor=c%2F1"
        ]
    );
    let (_, out, _) = finish(fake.chitin(&["ps", "-a", "--limit", "2", "--json"]));
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((list["tasks"].as_array().unwrap().len(), &list["next_cursor"]), (2, &json!("c/1")));
}

#[test]
fn several_ids_are_all_tried() {
    let fake = Fake::serve(|request, _| {
        if request.line.contains("/dead") {
            Reply::problem(404, "no task has the id dead", "")
        } else {
            Reply::json(200, task("cancelled", None, json!({})))
        }
    });
    let (code, out, err) = finish(fake.chitin(&["cancel", "dead", ID]));
    assert_eq!(code, 1);
    assert_eq!(out, format!("cancelled {ID}\n"));
    assert_eq!(err, "chitin: dead: no task has the id dead\n");
}

#[test]
fn down_returns_when_the_gateway_is_gone() {
    let fake = Fake::serve(|request, _| match request.line.as_str() {
        "POST /v1/shutdown" => Reply::json(200, json!({"mode": "leave", "running": 3})),
        _ => Reply::json(200, json!({})),
    });
    assert_eq!(
        finish(fake.chitin(&["down"])),
        (0, "stopped; 3 tasks go on running\n".to_owned(), String::new())
    );
    let shutdown = fake.received().into_iter().find(|request| request.line.contains("shutdown")).unwrap();
    assert_eq!(shutdown.body, json!({"mode": "leave"}));
    let lock = std::fs::File::open(fake.path("gateway.lock")).unwrap();
    lock.try_lock().unwrap();
}

#[test]
fn results_are_raw_and_json_is_the_gateways() {
    let fake = Fake::serve(|request, _| {
        if request.line.ends_with("/result") {
            Reply::Whole(200, "", vec![0, 255, 10])
        } else {
            Reply::json(200, json!({"id": ID, "new": "\u{9b}x"}))
        }
    });
    let output = start(fake.chitin(&["result", ID])).wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), vec![0, 255, 10]));
    let (code, out, _) = finish(fake.chitin(&["show", "--json", "0198"]));
    assert_eq!((code, out), (0, format!("{{\"id\":\"{ID}\",\"new\":\"\\u009bx\"}}\n")));
}
