//! How a task ends is how `run` and `wait` end.

use std::fs;
use std::io::{BufRead, BufReader, Read};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::common::{Ended, Gateway, ended, until};

#[test]
fn run_and_wait_exit_as_the_command_did() {
    let gateway = Gateway::start();
    fs::write(gateway.path("no-program"), "#!/bin/sh\n").unwrap();
    let home = gateway.home.path().canonicalize().unwrap();
    let cases: [(&[&str], &[&str], i32, &str); 12] = [
        (&[], &["true"], 0, ""),
        (&[], &["sh", "-c", "exit 7"], 7, ""),
        (&[], &["sh", "-c", "exit 255"], 255, ""),
        (&["--timeout", "200ms"], &["sleep", "600"], 124, "chitin: timed out after 200ms\n"),
        (&["--cwd", "nowhere"], &["true"], 125, "chitin: cannot run in `HOME/nowhere`: no such directory\n"),
        (
            &["--cwd", "no-program"],
            &["true"],
            125,
            "chitin: cannot run in `HOME/no-program`: not a directory\n",
        ),
        (&[], &["./no-program"], 126, "chitin: cannot execute `./no-program`: permission denied\n"),
        (&[], &["/"], 126, "chitin: cannot execute `/`: permission denied\n"),
        (&[], &["no-such-program", "-x"], 127, "chitin: command not found: `no-such-program`\n"),
        (&[], &["./no/such/program"], 127, "chitin: command not found: `./no/such/program`\n"),
        (&[], &["sh", "-c", "kill -TERM $$"], 143, "chitin: ended by signal 15 (SIGTERM)\n"),
        (&[], &["sh", "-c", "kill -SEGV $$"], 139, "chitin: ended by signal 11 (SIGSEGV)\n"),
    ];
    for (options, command, code, said) in cases {
        let said = said.replace("HOME", home.to_str().unwrap());
        let run = gateway.cli(&[&["run"], options, &["--"], command].concat());
        assert_eq!((run.code, run.err.as_str()), (code, said.as_str()), "run {command:?}");
        let id = gateway.submit_with(options, command);
        let wait = gateway.cli(&["wait", &id]);
        assert_eq!((wait.code, wait.err.as_str()), (code, said.as_str()), "wait {command:?}");
    }
}

#[test]
fn what_cannot_be_started_is_not_retried() {
    let gateway = Gateway::start();
    let cases: [(&[&str], i64); 3] = [
        (&["submit", "--retries", "5", "--", "no-such-program"], 127),
        (&["submit", "--", "/"], 126),
        (&["submit", "--cwd", "nowhere", "--", "true"], 125),
    ];
    for (args, code) in cases {
        let id = gateway.cli(args).with(0).out().trim_end().to_owned();
        let task = gateway.ended(&id);
        assert_eq!((&task["state"], &task["reason"]), (&json!("dead"), &json!("non_retryable")), "{task}");
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1);
        assert_eq!(task["attempts"][0]["exit_code"], code);
        gateway.cli(&["wait", &id]).with(i32::try_from(code).unwrap());
    }
}

#[test]
fn out_of_memory_is_137() {
    let gateway = Gateway::start();
    let isolation = gateway.get("/v1/status").with(200).json()["isolation"].clone();
    if isolation == "rlimit" {
        println!("skipped: without control groups memory is only looked at now and then");
        return;
    }
    let eater = "x = bytearray(400_000_000)";
    let run = gateway.cli(&["run", "--memory", "64MB", "--", "python3", "-c", eater]).with(137);
    assert!(run.err.contains("chitin: out of memory: limit 64MB, peak 6"), "{}", run.err);
    let list = gateway.get("/v1/tasks").with(200).json();
    let task = gateway.task(list["tasks"][0]["id"].as_str().unwrap());
    assert_eq!(task["attempts"][0]["outcome"], "oom_killed");
    assert_eq!(task["memory_bytes"], 64_000_000);
    gateway.cli(&["wait", task["id"].as_str().unwrap()]).with(137);
}

#[test]
fn a_task_that_runs_out_of_memory_three_times_is_poison() {
    let gateway = Gateway::start();
    if gateway.get("/v1/status").with(200).json()["isolation"] == "rlimit" {
        println!("skipped: without control groups memory is only looked at now and then");
        return;
    }
    let task = json!({"command": ["python3", "-c", "x = bytearray(400_000_000)"], "memory_bytes": 64_000_000,
        "retry": {"max": 9, "backoff_s": [0.05]}});
    let id = gateway.post("/v1/tasks", &task).with(202).json()["id"].as_str().unwrap().to_owned();
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], &task["reason"]), (&json!("dead"), &json!("poison")));
    let outcomes: Vec<_> = task["attempts"].as_array().unwrap().iter().map(|it| &it["outcome"]).collect();
    assert_eq!(outcomes, ["oom_killed"; 3]);
    gateway.cli(&["run", "--", "true"]).with(0);
}

#[test]
fn of_several_tasks_the_first_that_failed_decides() {
    let gateway = Gateway::start();
    let [good, three, four] =
        ["exit 0", "exit 3", "exit 4"].map(|script| gateway.submit(&["sh", "-c", script]));
    gateway.cli(&["wait", &good, &three, &four]).with(3);
    gateway.cli(&["wait", &four, &good, &three]).with(4);
    gateway.cli(&["wait", &good, &good]).with(0);
}

#[test]
fn cancelled_is_130_for_whoever_waits() {
    let gateway = Gateway::start_with("grace_ms = 200");
    let run = gateway.command(&["run", "--tag", "seen", "--", "sh", "-c", "sleep 600"]).spawn().unwrap();
    let id = until("the task runs", || {
        let list = gateway.get("/v1/tasks?tag=seen&state=running").with(200).json();
        Some(list["tasks"].get(0)?["id"].as_str()?.to_owned())
    });
    let wait = gateway.command(&["wait", &id]).spawn().unwrap();
    let cancelled = gateway.cli(&["cancel", &id]).with(0);
    assert_eq!(cancelled.out(), format!("cancelling {id}\n"));
    for child in [run, wait] {
        let end = ended(child).with(130);
        assert_eq!(end.err, "chitin: cancelled\n");
    }
    let task = gateway.task(&id);
    assert_eq!((&task["state"], &task["attempts"][0]["outcome"]), (&json!("cancelled"), &json!("cancelled")));
    // Whoever cancels again is told the same.
    assert_eq!(gateway.cli(&["cancel", &id]).with(0).out(), format!("cancelled {id}\n"));
}

/// Runs a command that waits, interrupts it so often, and gives its end and the task's id.
fn interrupted(gateway: &Gateway, times: u32) -> (Ended, String) {
    let mut run = gateway.command(&["run", "--", "sh", "-c", "echo began; sleep 600"]).spawn().unwrap();
    let mut out = BufReader::new(run.stdout.take().unwrap());
    let mut err = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "began\n");
    let mut said = String::new();
    for _ in 0..times {
        kill_process(Pid::from_child(&run), Signal::INT).unwrap();
        err.read_line(&mut said).unwrap();
    }
    err.read_to_string(&mut said).unwrap();
    let id = said.split("task ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    (Ended { err: said, ..ended(run) }, id)
}

#[test]
fn ctrl_c_leaves_the_task_running() {
    let gateway = Gateway::start();
    let (run, id) = interrupted(&gateway, 1);
    assert_eq!(run.code, 130, "{}", run.err);
    let expected = format!(
        "chitin: detached; task {id} goes on (Ctrl-C again now cancels it)\nchitin: to end it: chitin cancel {id}\n"
    );
    assert_eq!(run.err, expected);
    assert_eq!(gateway.task(&id)["state"], "running");
}

#[test]
fn a_second_ctrl_c_cancels_it() {
    let gateway = Gateway::start_with("grace_ms = 200");
    let (run, id) = interrupted(&gateway, 2);
    assert_eq!(run.code, 130, "{}", run.err);
    assert_eq!(gateway.ended(&id)["state"], "cancelled");
}

#[test]
fn expired_and_poisoned_tasks_are_125() {
    let gateway = Gateway::start();
    gateway.cli(&["queues", "pause", "default"]).with(0);
    let late = gateway.post("/v1/tasks", &json!({"command": ["true"], "ttl_s": 0.5})).with(202).json();
    let late = late["id"].as_str().unwrap();
    let wait = gateway.cli(&["wait", late]).with(125);
    assert_eq!(wait.err, "chitin: expired before it was started\n");
    assert_eq!(gateway.task(late)["state"], "expired");
    gateway.cli(&["queues", "resume", "default"]).with(0);

    let body = json!({"command": ["sh", "-c", "kill -KILL $$"], "retry": {"max": 9, "backoff_s": [0]}});
    let poison = gateway.post("/v1/tasks", &body).with(202).json();
    let wait = gateway.cli(&["wait", poison["id"].as_str().unwrap()]).with(125);
    assert_eq!(
        wait.err,
        "chitin: set aside, because it took its workers down; at last: ended by signal 9 (SIGKILL)\n"
    );
    let task = gateway.task(poison["id"].as_str().unwrap());
    assert_eq!(
        (&task["state"], &task["reason"], &task["attempt"]),
        (&json!("dead"), &json!("poison"), &json!(3))
    );
}
