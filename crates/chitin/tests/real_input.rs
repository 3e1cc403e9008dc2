//! Real work through the whole path: archives, scripts, a thousand checksums, and time limits, each compared with what
//! the same command gives without us.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test's helpers: what fails, fails the test"
)]

mod common;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Gateway, finish, program, traces, until};
use serde_json::{Value, json};

/// Every file and folder below a folder: its mode, and the content of a file.
fn tree(folder: &Path) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            let content = meta.is_file().then(|| fs::read(entry.path()).unwrap());
            if meta.is_dir() {
                folders.push(entry.path());
            }
            let name = entry.path().strip_prefix(folder).unwrap().to_owned();
            found.insert(name, (meta.permissions().mode(), content));
        }
    }
    found
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn tar_packs_the_sources_and_its_exit_code_is_ours() {
    let gateway = Gateway::start();
    // A copy, because the sources may be edited while they are packed.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut copy = program("cp");
    copy.args(["-r", text(sources), "crates"]).current_dir(gateway.home.path());
    finish(copy, None).with(0);

    gateway.cli(&["run", "--", "tar", "czf", "crates.tgz", "crates"]).with(0);

    fs::create_dir(gateway.path("unpacked")).unwrap();
    let mut unpack = program("tar");
    unpack.args(["xzf", "crates.tgz", "-C", "unpacked"]).current_dir(gateway.home.path());
    finish(unpack, None).with(0);
    let packed = tree(&gateway.path("crates"));
    assert!(packed.len() > 100 && packed.contains_key(Path::new("chitin/tests/real_input.rs")));
    assert!(tree(&gateway.path("unpacked/crates")) == packed, "the archive is not the tree");

    let failed = gateway.cli(&["run", "--", "tar", "czf", "none.tgz", "no-such-folder"]).with(2);
    assert!(failed.err.contains("no-such-folder: Cannot stat"), "{}", failed.err);
}

/// Reads JSON, works on it, prints JSON of its own layout: whatever re-encodes it would change it.
const SCRIPT: &str = r#"
import json, sys
order = json.load(sys.stdin)
words = sorted({word for line in order["lines"] for word in line.split()})
json.dump({"words": words, "total": sum(order["numbers"]), "ü": "\x7f\u2028"}, sys.stdout, indent=3)
sys.stdout.write("\n\n")
"#;

#[test]
fn a_script_from_json_to_json_comes_back_byte_for_byte() {
    let gateway = Gateway::start();
    fs::write(gateway.path("work.py"), SCRIPT).unwrap();
    let input = json!({"lines": ["the quick", "brown the"], "numbers": [1, 2.5, 1e3]}).to_string();
    let mut direct = program("python3");
    direct.arg(gateway.path("work.py"));
    let expected = finish(direct, Some(input.as_bytes())).with(0).bytes;

    let submit = gateway.command(&["submit", "--", "python3", "work.py"]);
    let id = finish(submit, Some(input.as_bytes())).with(0).out().trim_end().to_owned();
    gateway.cli(&["wait", &id]).with(0);
    assert_eq!(gateway.cli(&["result", &id]).with(0).bytes, expected);
    let answer = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
    assert_eq!(answer.body, expected);
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let run = gateway.command(&["run", "--", "python3", "work.py"]);
    assert_eq!(finish(run, Some(input.as_bytes())).with(0).bytes, expected);
}

#[test]
fn results_are_what_was_written_and_are_called_what_they_are() {
    let gateway = Gateway::start();
    let all: Vec<u8> = (0..=255).collect();
    let binary = "import sys; sys.stdout.buffer.write(bytes(range(256)))";
    let by_file = r#"echo noise; printf '{"a": 1}' > "$CHITIN_RESULT_FILE"; echo more"#;
    let bytes_by_file = r#"printf '\377\000\n' > "$CHITIN_RESULT_FILE""#;
    let cases: [(&[&str], &[u8], &str); 6] = [
        (&["python3", "-c", binary], &all, "application/octet-stream"),
        (&["printf", "caf\u{e9}\n"], "caf\u{e9}\n".as_bytes(), "text/plain; charset=utf-8"),
        (&["true"], b"", "text/plain; charset=utf-8"),
        (&["echo", "[1, 2]"], b"[1, 2]\n", "application/json"),
        (&["sh", "-c", by_file], b"{\"a\": 1}", "application/json"),
        (&["sh", "-c", bytes_by_file], b"\xff\0\n", "application/octet-stream"),
    ];
    for (command, expected, kind) in cases {
        let id = gateway.submit(command);
        assert_eq!(gateway.ended(&id)["result_truncated"], false);
        let answer = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
        assert_eq!(answer.body, expected, "{command:?}");
        assert_eq!(answer.header("content-type"), Some(kind), "{command:?}");
        assert_eq!(gateway.cli(&["result", &id]).with(0).bytes, expected, "{command:?}");
    }
    // Binary input comes in as it is, too.
    let mut cat = gateway.command(&["run", "--", "cat"]);
    cat.env("CHITIN_DATA_DIR", &gateway.data);
    assert_eq!(finish(cat, Some(&all)).with(0).bytes, all);
}

#[test]
fn of_long_output_the_head_and_the_tail_are_kept() {
    let command = ["seq", "10000000", "14500000"];
    let gateway = Gateway::start();
    let id = gateway.submit(&command);
    let mut direct = program(command[0]);
    direct.args(&command[1..]);
    let whole = finish(direct, None).with(0).bytes;
    let head = 10_000_000;

    assert_eq!(gateway.ended(&id)["result_truncated"], true);
    let answer = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
    assert_eq!(answer.header("chitin-result-truncated"), Some("true"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(answer.body == whole[..head], "the result is not the head: {} bytes", answer.body.len());

    let logs = gateway.cli(&["logs", &id]).with(0).bytes;
    assert!(logs.starts_with(&whole[..head]), "no head");
    assert!(logs.ends_with(&whole[whole.len() - head..]), "no tail");
    assert!(logs.len() <= 30_000_100, "{} bytes are more than head and tail", logs.len());
}

/// A thousand files of the system, none of them large.
fn real_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = ["/usr/bin", "/usr/lib", "/usr/share", "/etc"].map(PathBuf::from).into();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            let plain = entry.path().to_str().is_some_and(|path| !path.contains(['\\', '\n']));
            if meta.is_dir() {
                folders.push(entry.path());
            } else if meta.is_file() && plain && meta.len() < 200_000 && fs::File::open(entry.path()).is_ok()
            {
                found.push(entry.path());
            }
            if found.len() == 1_000 {
                return found;
            }
        }
    }
    panic!("only {} files", found.len());
}

/// The thousand checksums by the bulk route; `meddle` does what it wants after some of them. Every result must be the
/// direct run's, and every command must have run once.
fn a_thousand_checksums(meddle: impl FnOnce(&mut Gateway)) {
    const SCRIPT: &str = r#"echo "$CHITIN_TASK_ID" >> "$0"; exec sha256sum "$1""#;
    let mut gateway = Gateway::start();
    let files = real_files();
    let mut direct = program("sha256sum");
    direct.args(&files);
    let direct = finish(direct, None).with(0);
    let expected: Vec<String> = direct.out().lines().map(|line| format!("{line}\n")).collect();

    let journal = gateway.path("journal");
    let task = |file: &PathBuf| json!({"command": ["sh", "-c", SCRIPT, text(&journal), text(file)]});
    let tasks: Vec<Value> = files.iter().map(task).collect();
    let ids = gateway.post("/v1/tasks/bulk", &json!({ "tasks": tasks })).with(202).json();
    let ids: Vec<&str> = ids["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 1_000);

    let lines = || fs::read_to_string(&journal).unwrap_or_default().lines().count();
    until("a hundred tasks have run", || (lines() >= 100).then_some(()));
    let before = lines();
    meddle(&mut gateway);
    assert!(before < 1_000, "nothing was left to do");
    until("all tasks have ended", || (gateway.counts() == (0, 0)).then_some(()));

    let list = gateway.get("/v1/tasks?limit=1000").with(200).json();
    let states: HashMap<&str, (&str, u64)> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| {
            let state = (task["state"].as_str().unwrap(), task["attempt"].as_u64().unwrap());
            (task["id"].as_str().unwrap(), state)
        })
        .collect();
    assert_eq!(states.len(), 1_000);
    for (id, expected) in ids.iter().zip(&expected) {
        assert_eq!(states.get(id), Some(&("succeeded", 1)), "{}", gateway.task(id));
        let result = gateway.get(&format!("/v1/tasks/{id}/result")).with(200);
        assert_eq!(String::from_utf8_lossy(&result.body), *expected);
    }
    let mut ran: Vec<String> = fs::read_to_string(&journal).unwrap().lines().map(str::to_owned).collect();
    ran.sort();
    let mut ids: Vec<String> = ids.into_iter().map(str::to_owned).collect();
    ids.sort();
    assert!(ran == ids, "{} runs of {} tasks", ran.len(), ids.len());
}

#[test]
fn a_thousand_checksums_are_right_and_made_once() {
    a_thousand_checksums(|_| {});
}

#[test]
fn a_thousand_checksums_with_a_gateway_that_stops_and_starts() {
    a_thousand_checksums(|gateway| {
        gateway.down(&[]).with(0);
        gateway.up();
    });
}

#[test]
fn a_thousand_checksums_with_a_gateway_that_is_killed() {
    a_thousand_checksums(|gateway| {
        gateway.crash();
        gateway.up();
    });
}

#[test]
fn no_time_limit_means_none() {
    let gateway = Gateway::start();
    let body = json!({"command": ["sh", "-c", "sleep 1.5; echo done"], "timeout_s": null});
    let id = gateway.post("/v1/tasks", &body).with(202).json()["id"].as_str().unwrap().to_owned();
    let task = gateway.ended(&id);
    assert_eq!((&task["state"], &task["timeout_s"]), (&json!("succeeded"), &Value::Null));
    assert_eq!(gateway.cli(&["result", &id]).with(0).out(), "done\n");
}

#[test]
fn a_time_limit_ends_the_whole_tree() {
    let gateway = Gateway::start_with("grace_ms = 300");
    // One that left the session, and one that heeds no signal it can ignore.
    let tree =
        "setsid sleep 600 & setsid sh -c 'trap \"\" TERM; sleep 601; sleep 602' & echo began; sleep 603";
    let run = gateway.cli(&["run", "--timeout", "500ms", "--", "sh", "-c", tree]).with(124);
    assert_eq!(run.out(), "began\n");
    // The shell may say what became of its children.
    assert!(run.err.ends_with("chitin: timed out after 500ms\n"), "{}", run.err);
    let left = traces::processes(&gateway.data);
    let left: Vec<_> = left.iter().filter(|process| process.command.contains("sleep")).collect();
    assert!(left.is_empty(), "{left:?}");

    let list = gateway.get("/v1/tasks").with(200).json();
    let task = gateway.task(list["tasks"][0]["id"].as_str().unwrap());
    assert_eq!((&task["state"], &task["reason"]), (&json!("dead"), &json!("retries_exhausted")));
    let attempts = task["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0]["outcome"], "timed_out");
    assert_eq!(gateway.cli(&["wait", task["id"].as_str().unwrap()]).code, 124);
}
