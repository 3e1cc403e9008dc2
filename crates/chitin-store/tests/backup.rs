//! A copy of a store that is written to, and a store made of a copy.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod rows;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use chitin_core::{BootNo, Limits, NewTask, Payload, Seq, TaskRow, TaskState, Tx};
use chitin_store::{Commit, Copied, StoreError, StoreOptions, Verdict, Writer, adopt, copy};
use rows::*;

fn options(id: u8) -> StoreOptions {
    StoreOptions::new([id; 16], &Limits::default())
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The names in it, but for the database's own.
    fn others(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("chitin.db"));
        names.sort();
        names
    }
}

/// So large that some hundred are more than a copy takes in one step.
fn large() -> Payload {
    Payload { stdin: vec![7; 5_000], ..payload() }
}

fn commit(writer: &mut Writer, rows: impl IntoIterator<Item = TaskRow>, payload: &Payload) {
    let mut tx = writer.begin().unwrap();
    rows.into_iter().for_each(|row| tx.insert_task(NewTask { row: &row, payload }).unwrap());
    assert!(matches!(tx.commit(), Commit::Ok));
}

fn seqs(writer: &mut Writer) -> Vec<i64> {
    writer.begin().unwrap().open_tasks(Seq(0), 100_000).unwrap().into_iter().map(|row| row.seq.0).collect()
}

fn taken(database: &Path, draft: &Path) -> Result<Option<Copied>, StoreError> {
    File::create(draft).unwrap();
    copy(database, draft, &options(9), &mut || true)
}

#[test]
fn a_copy_taken_under_load_is_one_moment_and_the_writer_goes_on() {
    let place = Place::new();
    let (database, draft) = (place.path("chitin.db"), place.path("draft"));
    let mut writer = Writer::open(&database, &options(1)).unwrap();
    commit(&mut writer, (1..=500).map(queued), &large());

    let (stop, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    let (copied, last) = thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut seq = 500;
            while !stop.load(Ordering::Relaxed) {
                // In pairs: half of one would show.
                commit(&mut writer, [queued(seq + 1), queued(seq + 2)], &large());
                commits.fetch_add(1, Ordering::SeqCst);
                seq += 2;
            }
            seq
        });
        File::create(&draft).unwrap();
        let mut steps = 0;
        let copied = copy(&database, &draft, &options(9), &mut || {
            steps += 1;
            let before = commits.load(Ordering::SeqCst);
            while commits.load(Ordering::SeqCst) == before {
                thread::yield_now();
            }
            true
        });
        stop.store(true, Ordering::Relaxed);
        assert!(steps > 0, "the store is larger than a step");
        (copied.unwrap().unwrap(), writing.join().unwrap())
    });
    assert!(last > 500, "a commit got through between any two steps");
    assert_eq!(copied.bytes, fs::metadata(&draft).unwrap().len());
    assert_eq!(place.others(), ["draft"], "one file");

    adopt(&draft, &draft, &options(2)).unwrap();
    let mut restored = Writer::open(&draft, &options(3)).unwrap();
    let found = seqs(&mut restored);
    assert_eq!(u64::try_from(found.len()).unwrap(), copied.tasks);
    assert_eq!(found, (1..).take(found.len()).collect::<Vec<i64>>(), "without a gap");
    assert_eq!(found.len() % 2, 0, "whole commits");
    assert_eq!(seqs(&mut writer).last(), Some(&last));
}

#[test]
fn whoever_is_asked_to_stop_stops() {
    let place = Place::new();
    let (database, draft) = (place.path("chitin.db"), place.path("draft"));
    let mut writer = Writer::open(&database, &options(1)).unwrap();
    commit(&mut writer, (1..=600).map(queued), &large());
    File::create(&draft).unwrap();
    assert_eq!(copy(&database, &draft, &options(9), &mut || false).unwrap(), None);
}

#[test]
fn what_was_adopted_is_the_same_under_another_name() {
    let place = Place::new();
    let (database, draft) = (place.path("chitin.db"), place.path("draft"));
    let mut writer = Writer::open(&database, &options(1)).unwrap();
    let mut tx = writer.begin().unwrap();
    let (_, boot) = tx.begin_epoch("this machine").unwrap();
    assert!(matches!(tx.commit(), Commit::Ok));
    let running = TaskRow { state: TaskState::Running, attempt: chitin_core::AttemptNo(1), ..queued(3) };
    let frozen = TaskState::Paused(chitin_core::PausedReason::Frozen);
    let frozen = TaskRow { state: frozen, attempt: chitin_core::AttemptNo(1), ..queued(4) };
    commit(&mut writer, [queued(1), full(2), running, frozen], &full_payload());
    let mut tx = writer.begin().unwrap();
    tx.insert_attempt(&attempt(3, 1)).unwrap();
    tx.insert_attempt(&attempt(4, 1)).unwrap();
    assert!(matches!(tx.commit(), Commit::Ok));
    // The log is not worked off: what is in it alone is in the copy, too.
    assert!(writer.wal_state().unwrap().log_frames > 0);
    let copied = taken(&database, &draft).unwrap().unwrap();
    assert_eq!(copied.tasks, 4);

    let before = fs::read(&database).unwrap();
    let adopted = adopt(&draft, Path::new("/backups/one"), &options(2)).unwrap();
    assert_eq!((adopted.tasks, adopted.running), (4, 2));
    assert_eq!(place.others(), ["draft"], "no log is left beside it");
    assert_eq!(fs::read(&database).unwrap(), before);

    let mut restored = Writer::open(&draft, &options(7)).unwrap();
    assert_eq!(restored.store_id(), [2; 16]);
    assert_eq!(writer.store_id(), [1; 16]);
    let (mut old, mut new) = (writer.begin().unwrap(), restored.begin().unwrap());
    for seq in 1..=3 {
        assert_eq!(old.load_task(Seq(seq)).unwrap(), new.load_task(Seq(seq)).unwrap());
    }
    let (_, other): (_, BootNo) = new.begin_epoch("this machine").unwrap();
    assert_ne!(other, boot, "what ran here did not run in this store");
}

#[test]
fn what_is_no_whole_store_of_ours_is_not_adopted() {
    let place = Place::new();
    let (database, draft) = (place.path("chitin.db"), place.path("draft"));
    let mut writer = Writer::open(&database, &options(1)).unwrap();
    commit(&mut writer, (1..=300).map(full), &full_payload());
    taken(&database, &draft).unwrap().unwrap();
    let whole = fs::read(&draft).unwrap();
    let refused = |bytes: &[u8]| {
        for name in ["candidate", "candidate-wal", "candidate-shm"] {
            let _ = fs::remove_file(place.path(name));
        }
        fs::write(place.path("candidate"), bytes).unwrap();
        adopt(&place.path("candidate"), Path::new("/backups/one"), &options(2)).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(b"").verdict(), Verdict::Foreign);
    assert_eq!(refused(&b"This is somebody's diary. ".repeat(400)).verdict(), Verdict::Corrupt);
    let pages = whole.len() / 4_096;
    assert!(pages > 30, "{pages}");
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        let error = refused(&bytes);
        assert_eq!(error.verdict(), Verdict::Corrupt, "page {page}: {error}");
        assert!(error.to_string().contains("/backups/one"), "page {page}: {error}");
    }
    assert_eq!(refused(&whole[..whole.len() - 4_096]).verdict(), Verdict::Corrupt, "cut short");

    rusqlite::Connection::open(&draft).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = adopt(&draft, &draft, &options(2)).unwrap_err();
    assert!(error.to_string().contains("newer chitin"), "{error}");
}

#[test]
fn a_damaged_store_is_not_copied_as_if_it_were_whole() {
    let place = Place::new();
    let (database, draft) = (place.path("chitin.db"), place.path("draft"));
    let mut writer = Writer::open(&database, &options(1)).unwrap();
    commit(&mut writer, (1..=300).map(full), &full_payload());
    drop(writer);
    let whole = fs::read(&database).unwrap();
    for page in 0..whole.len() / 4_096 {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        fs::write(&database, bytes).unwrap();
        let error = taken(&database, &draft).expect_err(&format!("page {page}"));
        assert_eq!(error.verdict(), Verdict::Corrupt, "page {page}: {error}");
    }
}
