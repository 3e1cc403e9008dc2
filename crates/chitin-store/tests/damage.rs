//! What a torn log, a damaged page, a full disk and a busy database do: an error, never garbage, and never a stop.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod rows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chitin_core::{Limits, NewTask, Payload, Seq, TaskRow, TaskState, Tx};
use chitin_store::{Commit, NoReason, StoreError, StoreOptions, Verdict, Writer};
use rows::*;

const FRAME: u64 = 4_096 + 24;
const HEADER: u64 = 32;

fn options() -> StoreOptions {
    StoreOptions { busy_timeout_ms: 0, ..StoreOptions::new([1; 16], &Limits::default()) }
}

fn path(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("chitin.db")
}

fn commit(writer: &mut Writer, rows: impl IntoIterator<Item = TaskRow>, payload: &Payload) {
    let mut tx = writer.begin().unwrap();
    rows.into_iter().for_each(|row| tx.insert_task(NewTask { row: &row, payload }).unwrap());
    assert!(matches!(tx.commit(), Commit::Ok));
}

fn seqs(writer: &mut Writer) -> Vec<i64> {
    writer.begin().unwrap().open_tasks(Seq(0), 10_000).unwrap().into_iter().map(|row| row.seq.0).collect()
}

/// What a killed gateway leaves: the two files as they are, without a clean close.
struct Left {
    database: Vec<u8>,
    log: Vec<u8>,
    /// How long the log was after each commit.
    ends: Vec<u64>,
}

fn left(commits: i64) -> Left {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    let mut ends = Vec::new();
    for seq in 1..=commits {
        commit(&mut writer, [queued(seq)], &full_payload());
        ends.push(writer.wal_state().unwrap().bytes);
    }
    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let left = Left { database: read("chitin.db"), log: read("chitin.db-wal"), ends };
    assert_eq!(left.log.len() as u64, *left.ends.last().unwrap(), "one frame after another");
    left
}

/// Opens what was left with another log, and says which tasks it has.
fn recovered(left: &Left, log: &[u8]) -> Vec<i64> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(path(&folder), &left.database).unwrap();
    fs::write(folder.path().join("chitin.db-wal"), log).unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    writer.quick_check().unwrap();
    let found = seqs(&mut writer);
    commit(&mut writer, [queued(1_000)], &payload());
    drop(writer);
    let mut again = found.clone();
    again.push(1_000);
    assert_eq!(seqs(&mut Writer::open(&path(&folder), &options()).unwrap()), again, "and it goes on");
    found
}

/// Numbers that look random and are the same each time.
fn dice(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}

#[test]
fn a_log_torn_anywhere_keeps_exactly_the_whole_commits() {
    let left = left(12);
    let whole = left.log.len() as u64;
    let mut roll = dice(0x1234_5678);
    let boundaries = (0..).map(|frame| HEADER + frame * FRAME).take_while(|at| *at <= whole);
    let around = boundaries.flat_map(|at| [at - 1, at, at + 1]).filter(|at| *at <= whole);
    let cuts: Vec<u64> = [0, 1].into_iter().chain(around).chain((0..40).map(|_| roll(whole))).collect();
    for cut in cuts {
        let expected: Vec<i64> =
            (1_i64..).zip(&left.ends).filter(|(_, end)| **end <= cut).map(|(seq, _)| seq).collect();
        assert_eq!(recovered(&left, &left.log[..usize::try_from(cut).unwrap()]), expected, "cut at {cut}");
    }
}

#[test]
fn a_log_with_a_flipped_bit_keeps_the_commits_before_it() {
    let left = left(8);
    let mut roll = dice(0x9876_5432);
    for _ in 0..40 {
        let at = roll(left.log.len() as u64);
        let mut log = left.log.clone();
        log[usize::try_from(at).unwrap()] ^= 1 << roll(8);
        let expected: Vec<i64> =
            (1_i64..).zip(&left.ends).filter(|(_, end)| **end <= at).map(|(seq, _)| seq).collect();
        let found = recovered(&left, &log);
        // A flip in the log's header voids all of it, but for a field that only numbers checkpoints.
        let header = at < HEADER && (found.is_empty() || found.len() == 8);
        assert!(header || found == expected, "flipped at {at}: {found:?}, not {expected:?}");
    }
}

fn closed(tasks: i64) -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    commit(&mut writer, (1..=tasks).map(full), &full_payload());
    commit(&mut writer, (1_001..=1_000 + tasks).map(|seq| ended(seq, TaskState::Cancelled, seq)), &payload());
    drop(writer);
    let bytes = fs::read(path(&folder)).unwrap();
    (folder, bytes)
}

#[test]
fn a_damaged_page_is_an_error_that_names_the_way_out() {
    let (folder, whole) = closed(300);
    let pages = whole.len() / 4_096;
    assert!(pages > 30, "{pages}");
    for page in 0..pages {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        fs::write(path(&folder), bytes).unwrap();
        let error = Writer::open(&path(&folder), &options()).expect_err(&format!("page {page} of {pages}"));
        assert_eq!(error.verdict(), Verdict::Corrupt, "page {page}: {error}");
        assert!(error.to_string().contains("a copy from before"), "page {page}: {error}");
    }
}

#[test]
fn a_large_database_that_is_not_checked_at_its_start_still_reads_no_garbage() {
    let (folder, whole) = closed(300);
    let unchecked = StoreOptions { check_up_to_bytes: 0, ..options() };
    let read = |writer: &mut Writer| {
        let mut tx = writer.begin()?;
        let mut rows = tx.open_tasks(Seq(0), 10_000)?;
        rows.truncate(0);
        let mut found = Vec::new();
        for seq in (1..=300).chain(1_001..=1_300) {
            found.push(tx.load_task(Seq(seq))?);
        }
        Ok::<_, StoreError>(found)
    };
    let expected = read(&mut Writer::open(&path(&folder), &unchecked).unwrap()).unwrap();
    for page in 0..whole.len() / 4_096 {
        let mut bytes = whole.clone();
        bytes[page * 4_096..(page + 1) * 4_096].fill(0xa5);
        fs::write(path(&folder), bytes).unwrap();
        match Writer::open(&path(&folder), &unchecked).and_then(|mut writer| read(&mut writer)) {
            Ok(found) => assert!(found == expected, "page {page}: other rows than were stored"),
            Err(error) => assert_eq!(error.verdict(), Verdict::Corrupt, "page {page}: {error}"),
        }
    }
}

#[test]
fn what_is_not_a_database_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = b"This is somebody's diary. ".repeat(400);
    fs::write(path(&folder), &text).unwrap();
    assert_eq!(Writer::open(&path(&folder), &options()).unwrap_err().verdict(), Verdict::Corrupt);
    assert_eq!(fs::read(path(&folder)).unwrap(), text);

    let theirs = folder.path().join("theirs.db");
    rusqlite::Connection::open(&theirs).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let error = Writer::open(&theirs, &options()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::Foreign, "{error}");
}

#[test]
fn a_newer_schema_is_refused() {
    let (folder, _) = closed(1);
    rusqlite::Connection::open(path(&folder)).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let error = Writer::open(&path(&folder), &options()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::Foreign);
    assert!(error.to_string().contains("newer chitin"), "{error}");
}

#[test]
fn a_full_database_says_no_and_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    commit(&mut writer, [queued(1)], &payload());
    let pages = writer.set_max_pages(1).unwrap();
    writer.set_max_pages(pages + 10).unwrap();

    let big = Payload { stdin: vec![7; 1_000_000], ..payload() };
    let mut tx = writer.begin().unwrap();
    tx.insert_task(NewTask { row: &queued(2), payload: &payload() }).unwrap();
    let error = tx.insert_task(NewTask { row: &queued(3), payload: &big }).unwrap_err();
    assert_eq!(error.verdict(), Verdict::No(NoReason::Full));
    let after = tx.insert_task(NewTask { row: &queued(4), payload: &payload() }).unwrap_err();
    assert!(matches!(after, StoreError::Spoiled), "nothing may slip out of the transaction: {after}");
    assert!(matches!(tx.commit(), Commit::No(StoreError::Spoiled)));
    assert_eq!(seqs(&mut writer), [1]);

    commit(&mut writer, [queued(5)], &payload());
    writer.set_max_pages(1_000_000).unwrap();
    commit(&mut writer, [queued(6)], &big);
    assert_eq!(seqs(&mut writer), [1, 5, 6]);
}

#[test]
fn a_busy_database_says_no_and_goes_on_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    let other = rusqlite::Connection::open(path(&folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(writer.begin().unwrap_err().verdict(), Verdict::No(NoReason::Busy));
    assert!(matches!(writer.probe(), Commit::No(_)));
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(writer.probe(), Commit::Ok));
}

#[test]
fn a_busy_database_is_waited_for_as_long_as_it_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let options = StoreOptions::new([1; 16], &Limits::default());
    assert_eq!(options.busy_timeout_ms, 5_000);
    let mut writer = Writer::open(&path(&folder), &options).unwrap();
    let other = rusqlite::Connection::open(path(&folder)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begin = now();
    assert_eq!(writer.begin().unwrap_err().verdict(), Verdict::No(NoReason::Busy));
    // SQLite counts its naps, which a busy machine lengthens.
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(4_500) && waited < Duration::from_secs(60), "{waited:?}");

    let begin = now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            other.execute_batch("ROLLBACK").unwrap();
        });
        assert!(matches!(writer.probe(), Commit::Ok), "after {:?}", begin.elapsed());
    });
}

#[expect(clippy::disallowed_methods, reason = "what is measured here is a wait")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_dropped_transaction_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&path(&folder), &options()).unwrap();
    let mut tx = writer.begin().unwrap();
    tx.insert_task(NewTask { row: &queued(1), payload: &payload() }).unwrap();
    drop(tx);
    let mut tx = writer.begin().unwrap();
    tx.insert_task(NewTask { row: &queued(2), payload: &payload() }).unwrap();
    tx.rollback().unwrap();
    assert_eq!(seqs(&mut writer), [0; 0]);
}

#[test]
fn a_database_nobody_may_write_to_is_said_to_be_so() {
    let folder = tempfile::tempdir().unwrap();
    let error = Writer::open(Path::new("/proc/chitin.db"), &options()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::No(NoReason::Unwritable), "{error}");
    let error = Writer::open(&folder.path().join("gone/chitin.db"), &options()).unwrap_err();
    assert_eq!(error.verdict(), Verdict::No(NoReason::Unwritable), "{error}");
}
