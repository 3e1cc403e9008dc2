//! What is read after a kill is on disk first. The log's index, which a kill leaves, says what was synced; only what stands
//! behind that is written again, and where the index cannot be believed, all of the log is worked off.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::exit,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod faults;
mod rows;

use std::fs;
use std::path::Path;

use chitin_core::{Limits, NewTask, Seq, TaskRow, Tx};
use chitin_store::{Commit, Left, StoreError, StoreOptions, Writer};
use faults::{Faults, place, say};
use rows::*;

const LOG: &str = "chitin.db-wal";
const INDEX: &str = "chitin.db-shm";

fn options(left: Left) -> StoreOptions {
    StoreOptions { left, ..StoreOptions::new([1; 16], &Limits::default()) }
}

fn open(folder: &Path, left: Left) -> Result<Writer, StoreError> {
    Writer::open(&folder.join("chitin.db"), &options(left))
}

fn commit(writer: &mut Writer, row: &TaskRow) {
    let mut tx = writer.begin().unwrap();
    tx.insert_task(NewTask { row, payload: &payload() }).unwrap();
    assert!(matches!(tx.commit(), Commit::Ok));
}

fn seqs(writer: &mut Writer) -> Vec<i64> {
    writer.begin().unwrap().open_tasks(Seq(0), 100).unwrap().into_iter().map(|row| row.seq.0).collect()
}

/// What a gateway that was killed left after five commits: database and log as the page cache shows them, and the log's
/// index as it was after each commit, the first after none.
struct Dead {
    database: Vec<u8>,
    log: Vec<u8>,
    indexes: Vec<Vec<u8>>,
    /// How long the log was then.
    ends: Vec<u64>,
}

impl Dead {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = open(folder.path(), Left::Unknown).unwrap();
        let read = |name| fs::read(folder.path().join(name)).unwrap();
        let (mut indexes, mut ends) = (vec![read(INDEX)], vec![0]);
        for seq in 1..=5 {
            commit(&mut writer, &queued(seq));
            indexes.push(read(INDEX));
            ends.push(writer.wal_state().unwrap().bytes);
        }
        Self { database: read("chitin.db"), log: read(LOG), indexes, ends }
    }

    fn lie_in(&self, folder: &Path, index: &[u8]) {
        fs::write(folder.join("chitin.db"), &self.database).unwrap();
        fs::write(folder.join(LOG), &self.log).unwrap();
        fs::write(folder.join(INDEX), index).unwrap();
    }

    /// The index as somebody made it who recovered the log and committed nothing.
    fn rebuilt_index(&self) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        self.lie_in(folder.path(), b"");
        let conn = rusqlite::Connection::open(folder.path().join("chitin.db")).unwrap();
        let tasks: i64 = conn.query_row("SELECT count(*) FROM task", [], |row| row.get(0)).unwrap();
        assert_eq!(tasks, 5);
        fs::read(folder.path().join(INDEX)).unwrap()
    }

    /// Opened with this index: how long the log is then.
    fn opened(&self, index: &[u8]) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        self.lie_in(folder.path(), index);
        let mut writer = open(folder.path(), Left::Killed).unwrap();
        let log = writer.wal_bytes().unwrap();
        assert_eq!(seqs(&mut writer), [1, 2, 3, 4, 5]);
        commit(&mut writer, &queued(6));
        drop(writer);
        assert_eq!(
            seqs(&mut open(folder.path(), Left::Unknown).unwrap()),
            [1, 2, 3, 4, 5, 6],
            "and it goes on"
        );
        log
    }
}

/// Not a test but what the others start: opens what was left, and ends as a process that is killed does.
#[test]
fn driver() {
    let Some(place) = place() else { return };
    let opened = open(&place, Left::Killed);
    say(&place, &opened.as_ref().map_or_else(ToString::to_string, |_| "opened".to_owned()));
    std::process::exit(i32::from(opened.is_err()));
}

#[test]
fn a_log_of_which_it_is_known_what_was_synced_is_not_worked_off() {
    let dead = Dead::new();
    for (commits, index) in dead.indexes.iter().enumerate().skip(1) {
        assert_eq!(dead.opened(index), dead.log.len() as u64, "{commits} of 5 were synced");
    }
}

#[test]
fn an_index_that_says_nothing_for_sure_is_not_believed() {
    let dead = Dead::new();
    let last = dead.indexes.last().unwrap();
    assert_eq!(dead.opened(&dead.rebuilt_index()), 0, "no commit was counted since it was built");
    assert_eq!(dead.opened(b""), 0, "there is none");
    assert_eq!(dead.opened(&last[..95]), 0, "it is cut");
    for at in 0..96 {
        let mut index = last.clone();
        index[at] ^= 1;
        assert_eq!(dead.opened(&index), 0, "byte {at} of its header is another");
    }
    assert_eq!(dead.opened(Dead::new().indexes.last().unwrap()), 0, "it is another log's");

    let folder = tempfile::tempdir().unwrap();
    dead.lie_in(folder.path(), last);
    fs::write(folder.path().join(LOG), &dead.log[..usize::try_from(dead.ends[3]).unwrap()]).unwrap();
    let mut writer = open(folder.path(), Left::Killed).unwrap();
    assert_eq!(
        (writer.wal_bytes().unwrap(), seqs(&mut writer)),
        (0, vec![1, 2, 3]),
        "it counts more than there is"
    );
}

#[test]
fn what_is_in_doubt_is_written_and_synced_before_it_is_read_or_it_is_not_read() {
    let (dead, faults) = (Dead::new(), Faults::compile());
    let folder = tempfile::tempdir().unwrap();
    let run = |synced: usize, nth: u64| {
        let place = folder.path().join(format!("{synced}-{nth}"));
        fs::create_dir(&place).unwrap();
        dead.lie_in(&place, &dead.indexes[synced]);
        let ran = faults.run("driver", &place, nth, "5");
        assert_eq!(ran.said.len(), 1, "{}", ran.heard);
        (ran, place)
    };
    let (nothing, _) = run(5, 0);
    assert_eq!(nothing.said, ["opened"]);
    for synced in 1..5 {
        let (all, _) = run(synced, 0);
        assert_eq!(all.said, ["opened"]);
        assert_eq!(all.calls, nothing.calls + 2, "a write and a sync, with {synced} of 5 synced");
        for nth in 1..=u64::try_from(all.calls).unwrap() {
            let (ran, place) = run(synced, nth);
            assert!(ran.hit && ran.code == Some(1), "call {nth} failed, and it opened: {:?}", ran.said);
            assert_eq!(seqs(&mut open(&place, Left::Unknown).unwrap()), [1, 2, 3, 4, 5]);
        }
    }
}
