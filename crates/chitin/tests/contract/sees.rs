//! What a command sees: its input, environment and directory.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::json;

use crate::common::{Ended, Gateway, ended, finish, until};

#[test]
fn input_is_sent_from_a_pipe_or_a_file_unless_it_is_not_wanted() {
    let gateway = Gateway::start();
    let cat = |args: &[&str]| gateway.command(&[&["run"], args, &["--", "cat"]].concat());
    assert_eq!(finish(cat(&[]), Some(b"by pipe\n")).with(0).out(), "by pipe\n");
    assert_eq!(finish(cat(&["-n"]), Some(b"by pipe\n")).with(0).out(), "");
    assert_eq!(finish(cat(&[]), None).with(0).out(), "");
    fs::write(gateway.path("input"), "by file\n").unwrap();
    let mut from_file = cat(&[]);
    from_file.stdin(fs::File::open(gateway.path("input")).unwrap());
    assert_eq!(ended(from_file.spawn().unwrap()).with(0).out(), "by file\n");
    // Large input, all of it, in order.
    let large: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    assert!(finish(cat(&[]), Some(&large)).with(0).bytes == large);
}

#[test]
fn a_silent_pipe_is_mentioned() {
    let gateway = Gateway::start();
    let mut run = gateway.command(&["run", "--", "cat"]);
    let mut run = run.stdin(Stdio::piped()).spawn().unwrap();
    let mut err = BufReader::new(run.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    assert_eq!(line, "chitin: waiting for standard input, which goes to the command; -n sends none\n");
    run.stdin.take().unwrap().write_all(b"at last").unwrap();
    assert_eq!(ended(run).with(0).out(), "at last");
}

fn variables(ended: &Ended) -> BTreeMap<String, String> {
    let split = |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    ended.out().lines().filter_map(split).collect()
}

#[test]
fn the_environment_is_the_callers_and_only_what_is_meant() {
    let gateway = Gateway::start();
    let env = |options: &[&str]| {
        let mut command = gateway.command(&[&["run"], options, &["--", "env"]].concat());
        for name in ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_TIME", "TZ", "TMPDIR", "OTHER", "MORE"] {
            command.env(name, format!("the caller's {name}"));
        }
        // Those of a task that this may run in are not the new task's.
        command.env("CHITIN_TASK_ID", "x").env("CHITIN_RESULT_FILE", "x");
        let mut seen = variables(&finish(command, None).with(0));
        let id = seen.remove("CHITIN_TASK_ID").unwrap();
        let folder = gateway.data.join("spool").join(&id).join("1");
        assert_eq!(gateway.task(&id)["state"], "succeeded");
        assert_eq!(seen.remove("CHITIN_ATTEMPT").as_deref(), Some("1"));
        for name in ["CHITIN_SOCKET", "CHITIN_RESULT_FILE"] {
            let path = seen.remove(name).unwrap();
            assert!(path.starts_with(folder.to_str().unwrap()), "{name}: {path}");
        }
        seen.remove("PWD");
        seen
    };
    let mut inherited: BTreeMap<String, String> =
        ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_TIME", "TZ", "TMPDIR"]
            .iter()
            .map(|name| ((*name).to_owned(), format!("the caller's {name}")))
            .collect();
    inherited.insert("PATH".to_owned(), std::env::var("PATH").unwrap());
    assert_eq!(env(&[]), inherited);

    let mut named = inherited.clone();
    named.insert("OTHER".to_owned(), "the caller's OTHER".to_owned());
    named.insert("NEW".to_owned(), "a=b c".to_owned());
    named.insert("TZ".to_owned(), String::new());
    assert_eq!(env(&["-e", "OTHER", "-e", "NEW=a=b c", "-e", "TZ="]), named);

    let all = env(&["--env-all"]);
    assert_eq!(all.get("MORE").map(String::as_str), Some("the caller's MORE"));
    assert_eq!(all.get("CHITIN_DATA_DIR"), Some(&gateway.data.to_str().unwrap().to_owned()));
}

#[test]
fn the_directory_is_the_callers_unless_another_is_named() {
    let gateway = Gateway::start();
    let home = gateway.home.path().canonicalize().unwrap();
    fs::create_dir(home.join("inner")).unwrap();
    let run = |options: &[&str]| gateway.cli(&[&["run"], options, &["--", "pwd"]].concat()).with(0);
    assert_eq!(run(&[]).out().trim_end(), home.to_str().unwrap());
    assert_eq!(run(&["--cwd", "inner"]).out().trim_end(), home.join("inner").to_str().unwrap());
    assert_eq!(run(&["--cwd", "/"]).out(), "/\n");
}

#[test]
fn a_task_over_http_sees_the_gateways_environment_and_a_directory_of_its_own() {
    let gateway = Gateway::start();
    let body = json!({"command": ["sh", "-c", "pwd; cat; echo left > behind; ls; env"], "env": {"A": "1"}});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    let result = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
    let text = String::from_utf8(result.body).unwrap();
    let (place, rest) = text.split_once('\n').unwrap();
    let spool = gateway.data.join("spool").join(&id);
    assert!(place.starts_with(spool.to_str().unwrap()), "{place}");
    let seen = variables(&Ended { code: 0, bytes: rest.as_bytes().to_vec(), err: String::new() });
    assert!(rest.starts_with("behind\n"), "no input, nothing but its own file: {rest}");
    assert_eq!(seen.get("A").map(String::as_str), Some("1"));
    assert_eq!(seen.get("HOME").map(String::as_str), gateway.home.path().to_str());
    assert_eq!(seen.get("CHITIN_DATA_DIR"), None);
    until("the directory is removed", || (!spool.exists()).then_some(()));
}

#[test]
fn input_over_http_is_text_or_bytes() {
    let gateway = Gateway::start();
    for (stdin, expected) in
        [(json!("t\u{e9}xt\n"), "t\u{e9}xt\n".as_bytes()), (json!({"base64": "/wAK"}), b"\xff\0\n")]
    {
        let body = json!({"command": ["cat"], "stdin": stdin});
        let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
        gateway.ended(&id);
        assert_eq!(gateway.get(&format!("/v1/tasks/{id}/result")).with(200).body, expected);
    }
}

#[test]
fn limits_on_processors_and_processes_are_kept_where_the_status_says_so() {
    let gateway = Gateway::start();
    let status = gateway.get("/v1/status").with(200).json();
    let loose = status["layers"]["workers"]["not_enforced"].as_array().unwrap().clone();
    if loose.contains(&json!("pids")) {
        println!("skipped: the number of processes is not enforced here");
        return;
    }
    let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; echo all";
    let run = gateway.cli(&["run", "--pids", "5", "--", "sh", "-c", script]);
    assert_ne!((run.code, run.out()), (0, "all\n"), "nine processes where five are allowed");
}
