//! A gateway's life: up, down in its three ways, and what becomes of tasks meanwhile.

use std::fs;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::common::{Gateway, ended, log, traces, until};

/// Starts gateways by themselves, on whatever port is free.
const LISTEN: &str = "listen = \"127.0.0.1:0\"\n";

fn configured() -> Gateway {
    let gateway = Gateway::prepare();
    fs::create_dir(&gateway.data).unwrap();
    fs::write(gateway.data.join("chitin.toml"), LISTEN).unwrap();
    gateway
}

/// Runs until the file `go` is there, and says so on both streams.
const WAITS: &str = "echo began; echo $CHITIN_ATTEMPT >> starts; \
    while [ ! -e go ]; do sleep 0.02; done; echo went; echo gone >&2; exit 5";

fn starts(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.path("starts")).unwrap_or_default()
}

#[test]
fn up_twice_is_one_gateway() {
    let gateway = Gateway::start();
    let pid = gateway.pid();
    for args in [&["up"][..], &["up", "--detach"], &["up", "--listen", "none"]] {
        let again = gateway.cli(args).with(0);
        assert_eq!(
            (again.out(), again.err.as_str()),
            ("", format!("chitin: already running (pid {pid})\n").as_str())
        );
    }
    assert_eq!(gateway.pid(), pid);
    gateway.get("/v1/status").with(200);
}

#[test]
fn detached_it_serves_and_says_where() {
    let gateway = configured();
    let up = gateway.cli(&["up", "--detach"]).with(0);
    let line = up.out().trim_end();
    let (address, socket) =
        line.strip_prefix("ready http://127.0.0.1:").unwrap().split_once(" unix:").unwrap();
    assert!(address.parse::<u16>().unwrap() > 0, "{line}");
    assert_eq!(socket, gateway.data.join("chitin.sock").to_str().unwrap());
    assert_eq!(up.err, "");
    gateway.cli(&["status"]).with(0);
    assert_eq!(gateway.cli(&["down"]).with(0).out(), "stopped\n");
    assert_eq!(gateway.cli(&["down"]).with(0).out(), "not running\n");

    let up = gateway.cli(&["up", "--detach", "--listen", "none"]).with(0);
    assert_eq!(up.out(), format!("ready unix:{socket}\n"));
    gateway.cli(&["run", "--", "true"]).with(0);
}

#[test]
fn run_starts_a_gateway_once_and_says_so() {
    let gateway = configured();
    let run = gateway.cli(&["run", "--", "echo", "hi"]).with(0);
    let said = format!("chitin: started a gateway (pid {}); it stays until `chitin down`\n", gateway.pid());
    assert_eq!((run.out(), run.err.as_str()), ("hi\n", said.as_str()));
    let run = gateway.cli(&["run", "--", "echo", "hi"]).with(0);
    assert_eq!((run.out(), run.err.as_str()), ("hi\n", ""));
}

#[test]
fn many_first_runs_at_once_share_one_gateway() {
    let gateway = configured();
    let runs: Vec<_> = (0..8)
        .map(|number| gateway.command(&["run", "--", "echo", &number.to_string()]).spawn().unwrap())
        .collect();
    let mut started = 0;
    for (number, run) in runs.into_iter().enumerate() {
        let run = ended(run).with(0);
        assert_eq!(run.out(), format!("{number}\n"));
        started += run.err.matches("started a gateway").count();
    }
    assert_eq!(started, 1, "whoever lost the race connects, and says nothing");
}

#[test]
fn down_leaves_tasks_running_and_the_next_gateway_finds_how_they_ended() {
    let mut gateway = Gateway::start();
    let ends_alone = gateway.submit(&["sh", "-c", WAITS]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    assert_eq!(gateway.down(&[]).with(0).out(), "stopped; 1 task goes on running\n");
    let left = traces::processes(&gateway.data);
    assert!(left.iter().any(|process| process.command.contains("chitin-shim")), "{left:?}");

    fs::write(gateway.path("go"), "").unwrap();
    until("the task has ended without a gateway", || {
        traces::processes(&gateway.data).is_empty().then_some(())
    });
    gateway.up();
    let task = gateway.ended(&ends_alone);
    assert_eq!((&task["state"], &task["attempts"][0]["exit_code"]), (&json!("dead"), &json!(5)));
    let logs = gateway.cli(&["logs", &ends_alone]).with(0);
    assert_eq!((logs.out(), logs.err.as_str()), ("began\nwent\n", "gone\n"));
    gateway.cli(&["wait", &ends_alone]).with(5);
    assert_eq!(starts(&gateway), "1\n");
}

#[test]
fn a_task_that_still_runs_is_awaited_by_the_next_gateway() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", WAITS]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    let waiting = gateway.command(&["wait", &id]).spawn().unwrap();
    until("it waits", || {
        let status = gateway.get("/v1/status").with(200).json();
        (status["layers"]["gateway"]["watchers"] == 1).then_some(())
    });
    gateway.crash();
    gateway.up();
    let task = gateway.task(&id);
    assert_eq!((&task["state"], &task["attempt"]), (&json!("running"), &json!(1)));
    fs::write(gateway.path("go"), "").unwrap();
    ended(waiting).with(5);
    assert_eq!(starts(&gateway), "1\n", "never started again");
}

#[test]
fn a_task_found_again_can_be_cancelled_and_its_limit_still_holds() {
    let mut gateway = Gateway::start_with("grace_ms = 200");
    let cancelled = gateway.submit(&["sleep", "600"]);
    let limited = gateway.submit_with(&["--timeout", "2s"], &["sleep", "600"]);
    for id in [&cancelled, &limited] {
        gateway.until_state(id, "running");
    }
    gateway.crash();
    gateway.up();
    gateway.cli(&["cancel", &cancelled]).with(0);
    assert_eq!(gateway.ended(&cancelled)["state"], "cancelled");
    assert_eq!(gateway.ended(&limited)["attempts"][0]["outcome"], "timed_out");
}

#[test]
fn a_killed_shim_is_a_lost_worker_and_its_tree_is_ended() {
    let gateway = Gateway::start();
    let id = gateway.submit(&[
        "sh",
        "-c",
        "echo out; echo err >&2; setsid sleep 600 & echo $$ > began; sleep 601",
    ]);
    until("it runs and was heard", || {
        let said = gateway.get(&format!("/v1/tasks/{id}/logs")).with(200).body;
        (gateway.path("began").exists() && said.len() == 8).then_some(())
    });
    let shims = traces::processes(&gateway.data);
    for shim in shims.iter().filter(|process| process.command.contains("chitin-shim")) {
        traces::kill(shim);
    }
    let task = gateway.ended(&id);
    assert_eq!(task["attempts"][0]["outcome"], "worker_lost", "{task}");
    until("nothing of the tree is left", || {
        let left = traces::processes(&gateway.data);
        (!left.iter().any(|process| process.command.contains("sleep"))).then_some(())
    });
    gateway.cli(&["wait", &id]).with(125);
    // What it had said is kept.
    for (stream, said) in [("stdout", "out\n"), ("stderr", "err\n")] {
        let logs = gateway.get(&format!("/v1/tasks/{id}/logs?stream={stream}")).with(200);
        assert_eq!(logs.body, said.as_bytes());
    }
}

#[test]
fn down_wait_lets_what_runs_end_and_starts_nothing_new() {
    let mut gateway = Gateway::start_with("running_tasks = 1");
    let runs = gateway.submit(&["sh", "-c", WAITS]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    let waits = gateway.submit(&["sh", "-c", "echo too early >> starts"]);
    let down = gateway.command(&["down", "--wait"]).spawn().unwrap();
    until("it drains", || {
        let status = gateway.get("/v1/status").with(200).json();
        (status["layers"]["workers"]["state"] == "draining").then_some(())
    });
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(ended(down).with(0).out(), "stopped\n");
    assert!(traces::processes(&gateway.data).is_empty());
    assert_eq!(starts(&gateway), "1\n");
    gateway.down(&[]);
    gateway.up();
    assert_eq!(gateway.task(&runs)["attempts"][0]["exit_code"], 5);
    assert_eq!(gateway.ended(&waits)["state"], "succeeded");
}

#[test]
fn down_kill_leaves_nothing_and_the_task_runs_again() {
    let mut gateway = Gateway::start_with("grace_ms = 200");
    let id = gateway.submit(&["sh", "-c", &format!("setsid sleep 600 & {WAITS}")]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    let groups = traces::groups(&gateway.data);
    let isolation = gateway.get("/v1/status").with(200).json()["isolation"].clone();
    assert_eq!(groups.is_empty(), isolation == "rlimit", "{groups:?}");

    assert_eq!(gateway.down(&["--kill"]).with(0).out(), "stopped; 1 task was ended and is queued again\n");
    assert_eq!(traces::processes(&gateway.data), []);
    assert_eq!(traces::groups(&gateway.data), Vec::<std::path::PathBuf>::new());
    assert!(!gateway.data.join("chitin.sock").exists());

    fs::write(gateway.path("go"), "").unwrap();
    gateway.up();
    let task = gateway.ended(&id);
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 2, "{task}");
    assert_eq!((&attempts[0]["outcome"], &attempts[0]["exit_code"]), (&json!("worker_lost"), &Value::Null));
    assert_eq!(attempts[1]["exit_code"], 5);
    assert_eq!(starts(&gateway), "1\n2\n");
    gateway.cli(&["wait", &id]).with(5);
}

/// A gateway that was ending everything cannot say so any more once it was killed: its successor must not take the end
/// of an attempt for somebody's wish.
#[test]
fn a_down_kill_that_is_killed_itself_cancels_no_task() {
    let mut gateway = Gateway::start();
    let stubborn = "trap 'touch told; while [ ! -e go ]; do sleep 0.02; done; exit 3' TERM; \
        echo $CHITIN_ATTEMPT >> starts; while [ ! -e told ]; do sleep 0.02; done; echo again";
    let id = gateway.submit(&["sh", "-c", stubborn]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    let down = gateway.command(&["down", "--kill"]).spawn().unwrap();
    until("it was told to end", || gateway.path("told").exists().then_some(()));
    gateway.crash();
    ended(down);
    fs::write(gateway.path("go"), "").unwrap();
    gateway.up();
    let task = gateway.ended(&id);
    assert_eq!(task["state"], "succeeded", "{task}");
    let outcomes: Vec<_> = task["attempts"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert_eq!(outcomes, ["worker_lost", "succeeded"]);
    assert_eq!(starts(&gateway), "1\n2\n");
}

/// A result that cannot be opened just now is not lost, and an attempt that cannot be started just now has not failed.
#[test]
fn a_gateway_out_of_descriptors_loses_no_result_and_no_attempt() {
    let gateway = Gateway::start();
    let runs = gateway.submit(&["sh", "-c", WAITS.replace("exit 5", "exit 0").as_str()]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    let later = gateway.submit_with(&["--delay", "1s"], &["echo", "later"]);
    let pid = Pid::from_raw(gateway.pid().cast_signed());
    // It has ours.
    let before = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..before }).unwrap();
    fs::write(gateway.path("go"), "").unwrap();
    for sign in ["what an attempt left cannot be read yet", "an attempt cannot be started yet"] {
        until(sign, || log(&gateway.data).contains(sign).then_some(()));
    }
    prlimit(pid, Resource::Nofile, before).unwrap();
    for (id, result) in [(&runs, "began\nwent\n"), (&later, "later\n")] {
        let task = gateway.ended(id);
        assert_eq!((&task["state"], task["attempt"].as_u64()), (&json!("succeeded"), Some(1)), "{task}");
        assert_eq!(gateway.cli(&["result", id]).with(0).out(), result);
    }
}

/// Some end by themselves at that very moment, some are about to start: none may be left when `down` returns.
#[test]
fn down_kill_in_the_middle_of_much_leaves_nothing_each_time() {
    let mut gateway = Gateway::start_with("grace_ms = 200");
    for _ in 0..6 {
        let task = |number: u32| json!({"command": ["sleep", format!("0.{}", number % 4)]});
        let tasks: Vec<Value> = (0..40).map(task).collect();
        gateway.post("/v1/tasks/bulk", &json!({ "tasks": tasks })).with(202);
        until("some run", || (gateway.counts().1 >= 10).then_some(()));
        gateway.down(&["--kill"]).with(0);
        assert_eq!(traces::processes(&gateway.data), []);
        assert_eq!(traces::groups(&gateway.data), Vec::<std::path::PathBuf>::new());
        gateway.up();
    }
    until("all tasks have ended", || (gateway.counts() == (0, 0)).then_some(()));
    let list = gateway.get("/v1/tasks?limit=1000&state=succeeded").with(200).json();
    assert_eq!(list["tasks"].as_array().unwrap().len(), 240, "none is lost");
}

/// A shim that was started a moment before finds everything it needs, though its gateway is gone.
#[test]
fn a_stop_in_the_middle_of_a_start_costs_no_attempt() {
    let mut gateway = Gateway::start();
    let tasks = json!({"tasks": vec![json!({"command": ["true"], "retry": {"max": 0}}); 8]});
    for _ in 0..25 {
        gateway.post("/v1/tasks/bulk", &tasks).with(202);
        gateway.terminate();
        gateway.up();
    }
    until("all tasks have ended", || (gateway.counts() == (0, 0)).then_some(()));
    let list = gateway.get("/v1/tasks?limit=1000").with(200).json();
    let list = list["tasks"].as_array().unwrap();
    assert_eq!(list.len(), 200);
    let lost: Vec<_> =
        list.iter().filter(|task| task["state"] != "succeeded" || task["attempt"] != 1).collect();
    assert!(lost.is_empty(), "{}", gateway.task(lost[0]["id"].as_str().unwrap()));
}

#[test]
fn a_signal_to_end_is_a_down_that_leaves_tasks_running() {
    let mut gateway = Gateway::start();
    let id = gateway.submit(&["sh", "-c", WAITS]);
    until("it runs", || (!starts(&gateway).is_empty()).then_some(()));
    gateway.terminate();
    assert!(!gateway.data.join("gateway.pid").exists());
    assert_eq!(gateway.cli(&["status"]).with(69).out(), "");
    gateway.up();
    assert_eq!(gateway.task(&id)["state"], "running");
    fs::write(gateway.path("go"), "").unwrap();
    gateway.cli(&["wait", &id]).with(5);
    assert_eq!(starts(&gateway), "1\n");
}

#[test]
fn what_waits_keeps_its_place_over_a_restart() {
    let mut gateway = Gateway::start();
    gateway.cli(&["queues", "pause", "default"]).with(0);
    let ids: Vec<String> =
        (0..3).map(|number| gateway.submit(&["sh", "-c", &format!("echo {number} >> order")])).collect();
    let later = gateway.submit_with(&["--delay", "1h"], &["true"]);
    gateway.crash();
    gateway.up();
    assert_eq!(gateway.counts(), (4, 0), "the pause holds, and nothing is lost");
    gateway.cli(&["queues", "resume", "default"]).with(0);
    for id in &ids {
        assert_eq!(gateway.ended(id)["state"], "succeeded");
    }
    assert_eq!(gateway.task(&later)["state"], "scheduled");
}
