//! One task over HTTP: accepted, awaited, read, cancelled, retried, expired.

use std::fs;

use serde_json::{Value, json};

use crate::common::http::Request;
use crate::common::{Gateway, now};

fn submit(gateway: &Gateway, body: Value) -> String {
    gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_submission_is_accepted_with_its_place() {
    let gateway = Gateway::start();
    let answer = gateway.post("/v1/tasks", &json!({"command": ["echo", "hi"]})).with(202);
    let accepted = answer.json();
    let id = accepted["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/v1/tasks/{id}").as_str()));
    assert_eq!(accepted["state"], "queued");
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUIDv7: {id}");

    let task = gateway.ended(id);
    let names = [
        "id",
        "state",
        "reason",
        "handler",
        "command",
        "queue",
        "priority",
        "submitted_at",
        "run_at",
        "started_at",
        "ended_at",
        "expires_at",
        "round",
        "attempt",
        "attempts",
        "progress",
        "tags",
        "timeout_s",
        "memory_bytes",
        "retry",
        "cancel_requested",
        "result_truncated",
    ];
    for name in names {
        assert!(task.get(name).is_some(), "`{name}` is missing: {task}");
    }
    assert_eq!(task["state"], "succeeded");
    assert_eq!(task["command"], json!(["echo", "hi"]));
    assert_eq!(
        (&task["queue"], &task["priority"], &task["round"]),
        (&json!("default"), &json!(5), &json!(1))
    );
    assert_eq!(task["retry"], json!({"max": 3, "backoff_s": [60.0, 300.0, 900.0], "jitter": 0.1}));
    let attempt = &task["attempts"][0];
    for name in [
        "attempt",
        "outcome",
        "exit_code",
        "signal",
        "error",
        "started_at",
        "ended_at",
        "peak_memory_bytes",
        "cpu_s",
    ] {
        assert!(attempt.get(name).is_some(), "`{name}` is missing: {attempt}");
    }
    assert_eq!((&attempt["outcome"], &attempt["exit_code"]), (&json!("succeeded"), &json!(0)));
}

#[test]
fn a_long_poll_ends_with_the_task_or_its_time() {
    let gateway = Gateway::start();
    let id = submit(
        &gateway,
        json!({"command": ["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done"],
        "cwd": gateway.home.path()}),
    );
    let begin = now();
    let task = gateway.get(&format!("/v1/tasks/{id}?wait_s=0.3")).with(200).json();
    assert!(begin.elapsed().as_secs_f64() >= 0.3);
    assert!(task["ended_at"].is_null(), "{task}");
    std::thread::scope(|scope| {
        let poll = scope.spawn(|| gateway.get(&format!("/v1/tasks/{id}?wait_s=60")).with(200).json());
        fs::write(gateway.path("go"), "").unwrap();
        assert_eq!(poll.join().unwrap()["state"], "succeeded");
    });
    assert!(begin.elapsed().as_secs_f64() < 30.0, "it ends early");
}

#[test]
fn there_is_no_result_before_the_end_and_none_of_a_failure() {
    let gateway = Gateway::start_with("grace_ms = 200");
    let open = submit(&gateway, json!({"command": ["sleep", "600"]}));
    gateway.until_state(&open, "running");
    let result = |id: &str| gateway.get(&format!("/v1/tasks/{id}/result")).problem();
    let problem = result(&open);
    assert_eq!((problem.status, problem.code.as_str()), (409, "not-finished"));
    assert_eq!(problem.detail, "the task is running; wait for its end with ?wait_s= on the task");
    assert_eq!(
        gateway.cli(&["result", &open]).with(1).err,
        "chitin: the task is running; wait for its end with ?wait_s= on the task\n"
    );
    gateway.cli(&["cancel", &open]).with(0);
    gateway.ended(&open);
    let problem = result(&open);
    assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"));
    assert_eq!(problem.detail, "the task has ended without a result: it is cancelled");

    let failed = submit(&gateway, json!({"command": ["sh", "-c", "echo x; exit 1"], "retry": {"max": 0}}));
    gateway.ended(&failed);
    let problem = result(&failed);
    assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"));
    assert_eq!(problem.detail, "the task has ended without a result: it is dead (retries_exhausted)");
}

#[test]
fn cancelling_is_idempotent_and_needs_an_open_task() {
    let gateway = Gateway::start();
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
    let id = submit(&gateway, json!({"command": ["true"]}));
    let cancel = |id: &str| gateway.tcp(&Request::new("POST", &format!("/v1/tasks/{id}/cancel")));
    for _ in 0..2 {
        let task = cancel(&id).with(200).json();
        assert_eq!((&task["id"], &task["state"]), (&json!(id), &json!("cancelled")));
        assert_eq!(task["attempts"], json!([]), "it was never started");
    }
    gateway.post("/v1/queues/default/resume", &Value::Null).with(200);
    let done = submit(&gateway, json!({"command": ["true"]}));
    gateway.ended(&done);
    let problem = cancel(&done).problem();
    assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"));
    assert_eq!(problem.detail, "the task is succeeded: it cannot be cancelled");
}

#[test]
fn a_command_that_succeeds_at_last_keeps_its_attempts() {
    let gateway = Gateway::start();
    let script = "echo $CHITIN_ATTEMPT; [ $CHITIN_ATTEMPT = 3 ] || exit $((10 + CHITIN_ATTEMPT))";
    let id = submit(
        &gateway,
        json!({"command": ["sh", "-c", script], "retry": {"max": 2, "backoff_s": [0.1], "jitter": 0}}),
    );
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], &task["attempt"]), (&json!("succeeded"), &json!(3)));
    let ends: Vec<(&Value, &Value)> = task["attempts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|attempt| (&attempt["outcome"], &attempt["exit_code"]))
        .collect();
    let (failed, succeeded) = (json!("failed"), json!("succeeded"));
    assert_eq!(ends, [(&failed, &json!(11)), (&failed, &json!(12)), (&succeeded, &json!(0))]);
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "3\n");
}

#[test]
fn retries_end_and_a_person_may_begin_another_round() {
    let gateway = Gateway::start();
    let id = submit(
        &gateway,
        json!({"command": ["sh", "-c", "[ -e good ]"], "cwd": gateway.home.path(), "retry": {"max": 1, "backoff_s": [0]}}),
    );
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], &task["reason"]), (&json!("dead"), &json!("retries_exhausted")));
    assert_eq!(task["attempts"].as_array().unwrap().len(), 2);
    fs::write(gateway.path("good"), "").unwrap();
    gateway.cli(&["retry", &id]).with(0);
    let task = gateway.ended(&id);
    assert_eq!(
        (&task["state"], &task["round"], &task["attempt"]),
        (&json!("succeeded"), &json!(2), &json!(3)),
        "attempt numbers go on"
    );
    let again = gateway.cli(&["retry", &id]).with(1);
    assert!(again.err.contains("the task is succeeded: it cannot be run again"), "{}", again.err);
}

#[test]
fn a_backoff_is_a_scheduled_task_with_its_reason() {
    let gateway = Gateway::start();
    let id = submit(
        &gateway,
        json!({"command": ["false"], "retry": {"max": 1, "backoff_s": [3600], "jitter": 0}}),
    );
    let task = gateway.until_state(&id, "scheduled");
    assert_eq!(task["reason"], "backoff");
    assert_eq!(task["attempts"][0]["outcome"], "failed");
    assert!(task["run_at"].is_string(), "{task}");
}

#[test]
fn a_task_that_never_starts_expires() {
    let gateway = Gateway::start();
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
    let id = submit(&gateway, json!({"command": ["true"], "ttl_s": 1}));
    let task = gateway.ended(&id);
    assert_eq!(task["state"], "expired");
    assert_eq!(task["attempts"], json!([]));
    assert_eq!(gateway.counts(), (0, 0));
    // One that has started does not.
    gateway.post("/v1/queues/default/resume", &Value::Null).with(200);
    let id = submit(&gateway, json!({"command": ["sleep", "1.2"], "ttl_s": 1}));
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
}

#[test]
fn a_task_starts_no_sooner_than_it_may() {
    let gateway = Gateway::start();
    let begin = now();
    let delayed = submit(&gateway, json!({"command": ["true"], "delay_s": 0.7}));
    let task = gateway.task(&delayed);
    assert_eq!((&task["state"], &task["reason"]), (&json!("scheduled"), &json!("delay")));
    assert_eq!(gateway.ended(&delayed)["state"], "succeeded");
    assert!(begin.elapsed().as_secs_f64() >= 0.7);

    let at = "2100-01-01T00:00:00Z";
    let far = submit(&gateway, json!({"command": ["true"], "run_at": at}));
    let task = gateway.task(&far);
    assert_eq!((&task["state"], &task["run_at"]), (&json!("scheduled"), &json!("2100-01-01T00:00:00.000Z")));
    let past = submit(&gateway, json!({"command": ["true"], "run_at": "2001-01-01T00:00:00+02:00"}));
    assert_eq!(gateway.ended(&past)["state"], "succeeded");
}

#[test]
fn what_goes_first_has_the_higher_priority() {
    let gateway = Gateway::start_with("running_tasks = 1");
    gateway.post("/v1/queues/default/pause", &Value::Null).with(200);
    let ids: Vec<String> = [1, 9, 5]
        .map(|priority| {
            let command = json!(["sh", "-c", format!("echo {priority} >> order")]);
            submit(&gateway, json!({"command": command, "priority": priority, "cwd": gateway.home.path()}))
        })
        .into();
    gateway.post("/v1/queues/default/resume", &Value::Null).with(200);
    for id in &ids {
        gateway.ended(id);
    }
    assert_eq!(fs::read_to_string(gateway.path("order")).unwrap(), "9\n5\n1\n");
}

#[test]
fn no_more_run_at_once_than_allowed() {
    let gateway = Gateway::start_with("running_tasks = 2");
    let script = "mkdir slot.$$; ls -d slot.* | wc -l >> seen; sleep 0.05; rmdir slot.$$";
    let task = json!({"command": ["sh", "-c", script], "cwd": gateway.home.path()});
    gateway.post("/v1/tasks/bulk", &json!({"tasks": vec![task; 12]})).with(202);
    crate::common::until("all have ended", || (gateway.counts() == (0, 0)).then_some(()));
    let seen = fs::read_to_string(gateway.path("seen")).unwrap();
    let seen: Vec<u32> = seen.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!((seen.len(), seen.iter().max()), (12, Some(&2)), "{seen:?}");
}

#[test]
fn an_ended_task_can_be_deleted() {
    let gateway = Gateway::start();
    let id = submit(&gateway, json!({"command": ["echo", "x"]}));
    gateway.ended(&id);
    let delete = |id: &str| gateway.tcp(&Request::new("DELETE", &format!("/v1/tasks/{id}")));
    delete(&id).with(204);
    for path in ["", "/result", "/logs"] {
        let problem = gateway.get(&format!("/v1/tasks/{id}{path}")).problem();
        assert_eq!((problem.status, problem.detail), (404, format!("there is no task `{id}`")));
    }
    let open = submit(&gateway, json!({"command": ["true"], "delay_s": 600}));
    let problem = delete(&open).problem();
    assert_eq!((problem.status, problem.code.as_str()), (409, "conflict"));
}
