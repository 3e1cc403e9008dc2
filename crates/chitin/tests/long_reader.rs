//! A reader that holds a transaction open keeps the write-ahead log from being worked off. Its size stays at its cap: above it
//! new work is refused, and when the reader has gone all is well again by itself.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use common::{Gateway, ended, program, until};
use serde_json::json;

/// Reads, says so, and holds on until it is told to go.
const READER: &str = "import sqlite3, sys\ndb = sqlite3.connect(sys.argv[1], isolation_level=None)\n\
    db.execute('BEGIN')\ndb.execute('SELECT count(*) FROM task').fetchone()\n\
    open(sys.argv[2], 'w').close()\nsys.stdin.readline()";
/// The smallest cap there is.
const CAP_BYTES: u64 = 4_000_000;

#[test]
fn a_reader_that_stays_makes_the_log_no_longer_than_its_cap() {
    let gateway = Gateway::start_with(&format!("wal_cap_bytes = {CAP_BYTES}\nwal_restart_bytes = 1000000"));
    let runs = gateway.submit(&["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; echo went"]);
    gateway.until_state(&runs, "running");
    let mut reader = program("python3");
    reader.args(["-c", READER]).args([gateway.data.join("chitin.db"), gateway.path("reads")]);
    let mut reader = reader.stdin(Stdio::piped()).spawn().unwrap();
    until("it reads", || gateway.path("reads").exists().then_some(()));

    let task = json!({"command": ["true"], "stdin": "x".repeat(100_000), "delay_s": 3_600});
    let refused = until("new work is refused", || {
        let answer = gateway.post("/v1/tasks", &task);
        (answer.status != 202).then(|| answer.problem())
    });
    assert_eq!((refused.status, refused.code.as_str()), (503, "overloaded"), "{refused:?}");
    for _ in 0..20 {
        assert_eq!(gateway.post("/v1/tasks", &task).status, 503);
    }
    let log_bytes = || fs::metadata(gateway.data.join("chitin.db-wal")).unwrap().len();
    // What was under way when the cap was met still goes in, and so does what has begun.
    fs::write(gateway.path("go"), "").unwrap();
    assert_eq!(gateway.ended(&runs)["state"], "succeeded");
    assert!(log_bytes() < 2 * CAP_BYTES, "{}", log_bytes());
    let store = gateway.get("/v1/status").with(200).json()["layers"]["store"].clone();
    assert!(store["log_bytes"].as_u64().unwrap() > CAP_BYTES, "{store}");
    gateway.get("/healthz").with(200);

    reader.stdin.take().unwrap().write_all(b"go\n").unwrap();
    ended(reader).with(0);
    for _ in 0..100 {
        until("new work is taken again", || (gateway.post("/v1/tasks", &task).status == 202).then_some(()));
    }
    assert!(log_bytes() < 2 * CAP_BYTES, "{}", log_bytes());
}
