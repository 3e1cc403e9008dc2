//! A restore that is killed in front of any of its calls that change the data directory, or whose call fails: what is found
//! there by whoever comes next is the old store or the new one, whole, with the large logs of what both of them know, and one
//! that fails says which.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and says what it counted"
)]

mod common;
#[path = "../../chitin-store/tests/faults/mod.rs"]
mod faults;

use std::path::Path;

use common::{Gateway, finish, program};
use faults::Faults;

/// More than any restore makes.
const MOST_CALLS: u64 = 1_000;

/// How many tasks the store of a folder has, whatever state it is in; the database is opened and checked on the way.
fn tasks(data: &Path, out: &Path) -> u64 {
    let mut backup = program(env!("CARGO_BIN_EXE_chitin"));
    backup.args(["backup", "--force", "--data-dir"]).args([data, out]);
    let said = finish(backup, None).with(0);
    let count = said.out().strip_prefix("backed up ").and_then(|rest| rest.split(' ').next());
    count.unwrap_or_else(|| panic!("{said:?}")).parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    let mut copy = program("cp");
    copy.arg("-a").args([from, to]);
    finish(copy, None).with(0);
}

#[test]
fn a_restore_that_is_killed_anywhere_leaves_the_old_store_or_the_new_one() {
    at_every_call("kill");
}

#[test]
fn a_restore_that_fails_anywhere_leaves_the_old_store_or_says_that_it_has_happened() {
    at_every_call("5");
}

fn at_every_call(what: &str) {
    let mut gateway = Gateway::start_with("inline_log_bytes = 1000");
    let large = gateway.submit(&["seq", "1", "2000"]);
    gateway.ended(&large);
    let backup = gateway.path("backup");
    gateway.cli(&["backup", backup.to_str().unwrap()]).with(0);
    let after = gateway.submit(&["seq", "1", "2000"]);
    gateway.ended(&after);
    gateway.down(&[]).with(0);

    let faults = Faults::compile();
    let (mut kept, mut restored, mut unfinished) = (0, 0, 0);
    for nth in 1..MOST_CALLS {
        let data = gateway.path("tried");
        copy(&gateway.data, &data);
        let mut restore = program(env!("CARGO_BIN_EXE_chitin"));
        restore.args(["restore", "--data-dir"]).args([&data, &backup]);
        faults.arm(&mut restore, &data, nth, what);
        let ended = finish(restore, None);
        let (calls, hit) = faults.reported();
        let has_happened = if what == "kill" {
            assert_eq!(ended.code, if hit { -1 } else { 0 }, "call {nth}: {ended:?}");
            restored > 0
        } else {
            let is_unfinished = ended.err.contains("the restore has happened; `chitin up` completes it");
            unfinished += u64::from(is_unfinished);
            // What is tidied up afterwards may fail and be left.
            assert!(ended.code == 0 || (hit && ended.code == 1), "call {nth}: {ended:?}");
            ended.code == 0 || is_unfinished
        };
        match tasks(&data, &gateway.path("looked")) {
            2 if !has_happened => kept += 1,
            1 if has_happened || what == "kill" => restored += 1,
            tasks => panic!("call {nth}: {tasks} tasks, after {restored} times the new store"),
        }
        let log = data.join(format!("spool/{large}/1/stdout.0"));
        assert!(log.exists(), "call {nth}: what both stores know has its log");
        // It is not only readable: it serves.
        if !hit || nth % 10 == 0 {
            let mut up = program(env!("CARGO_BIN_EXE_chitin"));
            up.args(["up", "--detach", "--listen", "none", "--data-dir"]).arg(&data);
            finish(up, None).with(0);
            for (command, id) in [("logs", Some(&large)), ("down", None)] {
                let mut cli = program(env!("CARGO_BIN_EXE_chitin"));
                cli.args([command, "--data-dir"]).arg(&data).args(id);
                finish(cli, None).with(0);
            }
        }
        std::fs::remove_dir_all(&data).unwrap();
        if !hit {
            println!(
                "`{what}` at each of {calls} calls: {kept} times the old store, {restored} times the new one, \
                 {unfinished} times it was said that the restore has happened"
            );
            assert!(kept > 0 && restored > 1, "{kept}, {restored}");
            assert!(what == "kill" || unfinished > 1, "{unfinished}");
            return;
        }
    }
    panic!("it makes calls without end");
}
