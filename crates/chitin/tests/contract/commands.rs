//! The commands that read and change: what they print, for people and as JSON, and ids cut short.

use serde_json::{Value, json};

use crate::common::Gateway;

#[test]
fn submit_prints_the_id_alone() {
    let gateway = Gateway::start();
    let submit = gateway.cli(&["submit", "--tag", "t", "--", "echo", "hi"]).with(0);
    let id = submit.out().strip_suffix('\n').unwrap();
    assert!(id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{id}");
    assert_eq!(submit.err, "");
    assert_eq!(gateway.task(id)["retry"]["max"], 3, "the policy of every task");
    assert_eq!(gateway.task(id)["tags"], json!(["t"]));
}

#[test]
fn options_arrive_as_they_were_given() {
    let gateway = Gateway::start();
    let args = [
        "submit",
        "--timeout",
        "2h",
        "--memory",
        "64MB",
        "--retries",
        "2",
        "--queue",
        "nightly",
        "--priority",
        "9",
        "--delay",
        "1h",
        "--tag",
        "a",
        "--tag",
        "b",
        "--",
        "echo",
        "a b",
    ];
    let id = gateway.cli(&args).with(0).out().trim_end().to_owned();
    let task = gateway.task(&id);
    let expected = json!({"state": "scheduled", "queue": "nightly", "priority": 9, "timeout_s": 7200.0,
        "memory_bytes": 64_000_000, "tags": ["a", "b"], "command": ["echo", "a b"]});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(task[name], *value, "{name}");
    }
    assert_eq!(task["retry"]["max"], 2);
}

#[test]
fn reading_commands_speak_to_people_and_to_programs() {
    let gateway = Gateway::start();
    let done = gateway.submit(&["echo", "done"]);
    gateway.cli(&["wait", &done]).with(0);
    let waits = gateway.submit_with(&["--delay", "1h", "--tag", "x"], &["echo", "a b"]);

    let ps = gateway.cli(&["ps"]).with(0);
    let lines: Vec<&str> = ps.out().lines().collect();
    assert_eq!(lines.len(), 2, "{}", ps.out());
    let heading: Vec<&str> = lines[0].split_whitespace().collect();
    assert_eq!(heading, ["ID", "STATE", "ATTEMPT", "QUEUE", "AGE", "TIME", "COMMAND"]);
    assert!(lines[1].contains("scheduled") && lines[1].ends_with("echo 'a b'"), "{}", lines[1]);
    let short = lines[1].split(' ').next().unwrap();
    assert!(waits.starts_with(short), "{short} begins {waits}");
    assert_eq!(gateway.cli(&["show", "--json", short]).with(0).json()["id"], json!(waits));

    assert_eq!(gateway.cli(&["ps", "-a"]).with(0).out().lines().count(), 3);
    let found = |args: &[&str]| {
        let list = gateway.cli(&[&["ps", "--json"], args].concat()).with(0).json();
        assert_eq!(list["next_cursor"], Value::Null);
        let tasks = list["tasks"].as_array().unwrap().clone();
        tasks.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(&[]), [waits.as_str()]);
    assert_eq!(found(&["-a"]), [waits.as_str(), done.as_str()]);
    assert_eq!(found(&["--state", "succeeded"]), [done.as_str()]);
    assert_eq!(found(&["--tag", "x"]), [waits.as_str()]);
    assert_eq!(found(&["-a", "--queue", "none"]), Vec::<String>::new());

    let show = gateway.cli(&["show", &done]).with(0);
    assert!(show.out().starts_with(&format!("task       {done}\nstate      succeeded\n")), "{}", show.out());
    assert_eq!(gateway.cli(&["show", "--json", &done]).with(0).json(), gateway.task(&done));
    assert_eq!(gateway.cli(&["wait", "--json", &done]).with(0).json(), gateway.task(&done));
    assert_eq!(gateway.cli(&["result", &done]).with(0).out(), "done\n");

    let status = gateway.cli(&["status"]).with(0);
    let pids = format!("pid {}, supervisor {}, up ", gateway.pid(), gateway.supervisor_pid());
    assert!(status.out().contains(&pids), "{}", status.out());
    let status = gateway.cli(&["status", "--json"]).with(0).json();
    for layer in ["gateway", "queue", "workers", "store", "cache", "monitor"] {
        assert!(status["layers"][layer]["state"].is_string(), "{layer}: {status}");
    }
    for name in ["pid", "uptime_s", "isolation", "shedding"] {
        assert!(!status[name].is_null(), "{name}: {status}");
    }
    assert_eq!(status["supervisor_pid"], gateway.supervisor_pid());
    let queue = &status["layers"]["queue"];
    assert_eq!(
        (&queue["queued"], &queue["running"], &queue["limit"]),
        (&json!(1), &json!(0), &json!(10_000))
    );

    let token = std::fs::read_to_string(gateway.data.join("admin.token")).unwrap();
    assert_eq!(gateway.cli(&["token"]).with(0).out(), token);

    let queues = gateway.cli(&["queues"]).with(0);
    let rows: Vec<Vec<&str>> = queues.out().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["QUEUE", "STATE", "WAITING", "RUNNING"], ["default", "open", "1", "0"]]);
    let queues = gateway.cli(&["queues", "--json"]).with(0).json();
    assert_eq!(queues, json!({"queues": [{"name": "default", "paused": false, "waiting": 1, "running": 0}]}));
    assert_eq!(gateway.cli(&["queues", "pause", "default"]).with(0).out(), "paused default\n");
    assert_eq!(gateway.cli(&["queues", "resume", "default"]).with(0).out(), "resumed default\n");

    assert_eq!(gateway.cli(&["cancel", &waits]).with(0).out(), format!("cancelled {waits}\n"));
    assert_eq!(found(&[]), Vec::<String>::new());
}

#[test]
fn an_id_may_be_cut_as_long_as_it_is_one_tasks() {
    let gateway = Gateway::start();
    let tasks = json!({"tasks": vec![json!({"command": ["true"], "delay_s": 600}); 2]});
    let ids = gateway.post("/v1/tasks/bulk", &tasks).with(202).json();
    let ids = [ids["ids"][0].as_str().unwrap(), ids["ids"][1].as_str().unwrap()];
    let common = ids[0].bytes().zip(ids[1].bytes()).take_while(|(a, b)| a == b).count();

    let unique = &ids[0][..=common];
    for id in [unique.to_owned(), unique.to_uppercase(), ids[0].replace('-', "")[..30].to_owned()] {
        assert_eq!(gateway.cli(&["show", "--json", &id]).with(0).json()["id"], ids[0], "{id}");
    }
    assert_eq!(gateway.get(&format!("/v1/tasks/{unique}")).with(200).json()["id"], ids[0]);

    let ambiguous = &ids[0][..8];
    for args in [&["show"][..], &["result"], &["logs"], &["wait"]] {
        let end = gateway.cli(&[args, &[ambiguous]].concat()).with(64);
        assert!(end.err.contains(&format!("`{ambiguous}` begins the ids of several tasks: ")), "{}", end.err);
        assert!(ids.iter().all(|id| end.err.contains(id)), "it names the candidates: {}", end.err);
        assert_eq!(end.out(), "");
    }
    gateway.cli(&["cancel", ambiguous]).with(64);
    assert_eq!(gateway.counts(), (2, 0), "nothing was cancelled by guessing");

    let end = gateway.cli(&["show", "ffff"]).with(1);
    assert_eq!(end.err, "chitin: there is no task `ffff`\n");
    gateway.cli(&["wait", "ffff"]).with(125);
}

#[test]
fn several_are_cancelled_as_far_as_that_goes() {
    let gateway = Gateway::start();
    let open = gateway.submit_with(&["--delay", "1h"], &["true"]);
    let done = gateway.submit(&["true"]);
    gateway.ended(&done);
    let end = gateway.cli(&["cancel", &done, &open]).with(1);
    assert_eq!(end.out(), format!("cancelled {open}\n"));
    assert_eq!(end.err, format!("chitin: {done}: the task is succeeded: it cannot be cancelled\n"));
}
