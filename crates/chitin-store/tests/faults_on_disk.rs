//! A disk that fails at any call (DESIGN's *no* and *unknown*): for every n, the n-th write, sync, cut or new name of a
//! store under load fails, once or from there on, writes half, or is the last thing before a kill. What was acknowledged is there
//! afterwards, what was refused is not, and what nobody knows of is there whole or not at all. The first calls make the database,
//! so a kill at each of them is also one in the middle of a migration.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::exit,
    clippy::print_stdout,
    reason = "a test stops at the first surprise"
)]

mod faults;
mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use chitin_core::{Limits, NewTask, Payload, Seq, Tx};
use chitin_store::{Checkpointer, Commit, StoreError, StoreOptions, Verdict, Writer};
use faults::{Faults, Ran, place, say};
use rows::*;

/// Commits of one run, tasks in each, and after how many of them the log is begun anew. On a full disk so many that a
/// refused commit's frames meet, in their places, the very bytes that the log's earlier round left there.
fn size(what: &str) -> (i64, i64, i64) {
    if what == "+28" { (12, 3, 6) } else { (6, 2, 3) }
}

fn options() -> StoreOptions {
    StoreOptions::new([1; 16], &Limits::default())
}

fn large() -> Payload {
    Payload { stdin: vec![7; 9_000], ..payload() }
}

/// Not a test but what the others start: does nothing unless it is asked to.
#[test]
fn driver() {
    let Some(place) = place() else { return };
    let code = load(&place);
    std::process::exit(code);
}

/// A store under load, as the engine treats it: after an *unknown* it ends, after a *no* it goes on.
fn load(place: &Path) -> i32 {
    let path = place.join("chitin.db");
    let (commits, tasks, restart) = size(&std::env::var("FAULTS_DO").unwrap());
    let opened = Writer::open(&path, &options())
        .and_then(|writer| Checkpointer::open(&path, &options()).map(|checkpointer| (writer, checkpointer)));
    let (mut writer, mut checkpointer) = match opened {
        Ok(opened) => opened,
        Err(error) => return refused_to_open(place, &error),
    };
    for number in 0..commits {
        match commit(&mut writer, number, tasks) {
            Commit::Ok => say(place, &format!("acknowledged {number}")),
            Commit::No(error) => say(place, &format!("refused {number} {error}")),
            Commit::Unknown(error) => {
                say(place, &format!("unknown {number} {error}"));
                return 70;
            }
        }
        // A checkpoint that is refused changes nothing: the log is still there, and the next one begins anew.
        let mut worked_off = Ok(());
        if number % (restart / 2).max(2) == 1 {
            worked_off = checkpointer.passive().map(drop);
        }
        if worked_off.is_ok() && number % restart == restart - 1 {
            worked_off = writer.restart_wal_if_above(0).map(drop);
        }
        if let Err(error) = worked_off.map_err(of)
            && let Commit::Unknown(error) = error
        {
            say(place, &format!("unknown {number} {error}"));
            return 70;
        }
    }
    say(place, "done");
    0
}

fn refused_to_open(place: &Path, error: &StoreError) -> i32 {
    assert!(!matches!(error.verdict(), Verdict::Corrupt | Verdict::Foreign), "it looks damaged: {error}");
    say(place, &format!("not opened {error}"));
    1
}

fn commit(writer: &mut Writer, number: i64, tasks: i64) -> Commit {
    let mut tx = match writer.begin() {
        Ok(tx) => tx,
        Err(error) => return of(error),
    };
    for task in 0..tasks {
        let row = queued(number * tasks + task + 1);
        if let Err(error) = tx.insert_task(NewTask { row: &row, payload: &large() }) {
            return match tx.rollback() {
                Ok(()) => of(error),
                Err(error) => Commit::Unknown(error),
            };
        }
    }
    tx.commit()
}

fn of(error: StoreError) -> Commit {
    match error.verdict() {
        Verdict::No(_) => Commit::No(error),
        _ => Commit::Unknown(error),
    }
}

/// Opens what a run left, without faults, and compares it with what was said.
fn judge(place: &Path, ran: &Ran, (commits, each): (i64, i64), what: &str) {
    let said = |word: &str| -> BTreeSet<i64> {
        let lines = ran.said.iter().filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        lines.map(|rest| rest.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    let (acknowledged, refused) = (said("acknowledged"), said("refused"));
    let mut writer =
        Writer::open(&place.join("chitin.db"), &options()).unwrap_or_else(|error| panic!("{what}: {error}"));
    writer.quick_check().unwrap();
    let open = writer.begin().unwrap().open_tasks(Seq(0), 10_000).unwrap();
    let seqs: BTreeSet<i64> = open.iter().map(|row| row.seq.0).collect();
    for number in 0..commits {
        let tasks = (0..each).filter(|task| seqs.contains(&(number * each + task + 1))).count();
        assert!(
            tasks == 0 || i64::try_from(tasks).unwrap() == each,
            "{what}: {tasks} of commit {number} are there"
        );
        let is_there = tasks > 0;
        assert!(
            is_there || !acknowledged.contains(&number),
            "{what}: acknowledged {number} is lost: {:?}",
            ran.said
        );
        assert!(!is_there || !refused.contains(&number), "{what}: refused {number} is there: {:?}", ran.said);
    }
    assert!(seqs.iter().all(|seq| *seq <= commits * each), "{what}: {seqs:?}");
    let conn = rusqlite::Connection::open(place.join("chitin.db")).unwrap();
    let whole: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok", "{what}");
    let payloads: i64 = conn
        .query_row("SELECT count(*) FROM payload WHERE length(stdin) = 9000", [], |row| row.get(0))
        .unwrap();
    assert_eq!(usize::try_from(payloads).unwrap(), seqs.len(), "{what}: every task has its payload");
}

/// Every n, until a run ends without having met its fault.
fn every_call(what: &str) {
    let faults = Faults::compile();
    let folder = tempfile::tempdir().unwrap();
    let (mut trials, mut ends) = (0_u64, [0_u64; 4]);
    for nth in 1.. {
        let place = folder.path().join(format!("{nth}"));
        fs::create_dir(&place).unwrap();
        let ran = faults.run("driver", &place, nth, what);
        let at = format!("`{what}` at call {nth}");
        let end = match ran.code {
            Some(0) => 0,
            Some(1) => 1,
            Some(70) => 2,
            None => 3,
            Some(code) => panic!("{at}: exit code {code}: {}", ran.heard),
        };
        let is_done = ran.said.last().is_some_and(|line| line == "done");
        // Killed while it closes the database, it had done everything.
        assert!(end == 3 || is_done == (end == 0), "{at}: {:?}", ran.said);
        let (commits, tasks, _) = size(what);
        judge(&place, &ran, (commits, tasks), &at);
        fs::remove_dir_all(&place).unwrap();
        if !ran.hit {
            assert_eq!(end, 0, "{at}: without a fault it goes through");
            assert!(trials > 30, "only {trials} calls: is the library in force?");
            let [through, not_opened, unknown, killed] = ends;
            println!(
                "`{what}`: {trials} trials, one for each call; {through} went on, {not_opened} did not open, \
                 {unknown} ended as unknown, {killed} were killed; none lost, none half, none damaged"
            );
            return;
        }
        trials += 1;
        if let Some(count) = ends.get_mut(end) {
            *count += 1;
        }
    }
}

#[test]
fn an_error_at_any_call_loses_nothing_that_was_acknowledged() {
    every_call("5");
}

#[test]
fn errors_from_any_call_on_lose_nothing_that_was_acknowledged() {
    every_call("+5");
}

#[test]
fn a_disk_that_is_full_at_any_call_and_has_room_again_loses_nothing() {
    every_call("28");
}

#[test]
fn a_disk_that_is_full_from_any_call_on_loses_nothing() {
    every_call("+28");
}

#[test]
fn a_file_system_that_is_read_only_from_any_call_on_loses_nothing() {
    every_call("+30");
}

#[test]
fn a_write_that_stops_half_way_at_any_call_loses_nothing() {
    every_call("short");
}

#[test]
fn a_kill_at_any_call_loses_nothing_that_was_acknowledged() {
    every_call("kill");
}
