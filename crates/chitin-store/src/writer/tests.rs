//! What the writer's connection is set to, and the small things it keeps.

use chitin_core::{Limits, Tx};

use super::*;
use crate::Verdict;

fn options() -> StoreOptions {
    StoreOptions::new([1; 16], &Limits::default())
}

fn store() -> (tempfile::TempDir, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::open(&folder.path().join("chitin.db"), &options()).unwrap();
    (folder, writer)
}

fn pragma(conn: &Connection, name: &str) -> i64 {
    conn.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

#[test]
fn what_durability_hangs_on_is_set() {
    let (_folder, writer) = store();
    let mode: String = writer.conn.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    for (name, value) in [
        ("synchronous", 2),
        ("wal_autocheckpoint", 0),
        ("foreign_keys", 0),
        ("page_size", 4_096),
        ("mmap_size", 0),
        ("temp_store", 2),
        ("cell_size_check", 1),
        ("trusted_schema", 0),
        ("busy_timeout", 5_000),
        ("cache_size", -5_859),
        ("journal_size_limit", 16_000_000),
        ("application_id", i64::from(open::APPLICATION_ID)),
        ("user_version", i64::try_from(migrate::MIGRATIONS.len()).unwrap()),
    ] {
        assert_eq!(pragma(&writer.conn, name), value, "{name}");
    }
}

#[test]
fn a_weakened_setting_is_noticed() {
    let (_folder, writer) = store();
    writer.conn.pragma_update(None, "synchronous", 1).unwrap();
    let error = open::assert_durable(&writer.conn, &writer.path).unwrap_err();
    assert_eq!(error.verdict(), Verdict::Broken);
    assert!(error.to_string().contains("synchronous"), "{error}");
}

#[test]
fn opening_works_the_log_off() {
    let (folder, mut writer) = store();
    let path = folder.path().join("chitin.db");
    assert!(matches!(writer.probe(), Commit::Ok));
    assert!(writer.wal_state().unwrap().log_frames > 0);
    assert!(writer.wal_bytes().unwrap() > 0);
    let next = Writer::open(&path, &options()).unwrap();
    assert_eq!(next.wal_bytes().unwrap(), 0);
    assert_eq!(next.wal_state().unwrap(), WalState::default());
}

#[test]
fn a_store_keeps_its_name() {
    let (folder, writer) = store();
    assert_eq!(writer.store_id(), [1; 16]);
    drop(writer);
    let other = StoreOptions { store_id: [2; 16], ..options() };
    let writer = Writer::open(&folder.path().join("chitin.db"), &other).unwrap();
    assert_eq!(writer.store_id(), [1; 16]);
}

#[test]
fn small_values_and_tokens_are_kept() {
    let (folder, mut writer) = store();
    let token = |name: &str, byte| TokenRow {
        name: name.into(),
        sha256: [byte; 32],
        scopes: "admin".into(),
        created_at_ms: 1_700_000_000_000,
    };
    assert!(matches!(writer.set_meta("suspect", b"one"), Commit::Ok));
    assert!(matches!(writer.set_meta("suspect", b"two"), Commit::Ok));
    for (name, byte) in [("b", 1), ("a", 2), ("b", 3), ("c", 4)] {
        assert!(matches!(writer.insert_token(&token(name, byte)), Commit::Ok));
    }
    assert!(matches!(writer.delete_token("c"), Commit::Ok));
    drop(writer);
    let writer = Writer::open(&folder.path().join("chitin.db"), &options()).unwrap();
    assert_eq!(writer.get_meta("suspect").unwrap().as_deref(), Some(b"two".as_slice()));
    assert_eq!(writer.get_meta("nothing").unwrap(), None);
    assert_eq!(writer.tokens().unwrap(), [token("a", 2), token("b", 3)]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test measures how long the writer stood still")]
fn the_log_is_begun_anew_once_nobody_reads_it() {
    let (folder, mut writer) = store();
    let path = folder.path().join("chitin.db");
    let mut checkpointer = crate::Checkpointer::open(&path, &options()).unwrap();
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM task").unwrap();
    for _ in 0..50 {
        assert!(matches!(writer.probe(), Commit::Ok));
    }
    assert!(matches!(writer.restart_wal_if_above(1_000_000).unwrap(), Restart::Below(_)));
    let held = checkpointer.passive().unwrap();
    assert!(held.log_frames >= 50 && held.checkpointed_frames < held.log_frames, "{held:?}");
    let begun = std::time::Instant::now();
    assert!(matches!(writer.restart_wal_if_above(100_000).unwrap(), Restart::Busy(_)));
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "the writer waits for no reader, whatever the busy timeout"
    );
    assert_eq!(pragma(&writer.conn, "busy_timeout"), 5_000, "which is as before");

    reader.execute_batch("COMMIT").unwrap();
    let free = checkpointer.passive().unwrap();
    assert_eq!(free.checkpointed_frames, free.log_frames);
    assert_eq!(writer.restart_wal_if_above(100_000).unwrap(), Restart::Done);
    let before = writer.wal_bytes().unwrap();
    assert!(matches!(writer.probe(), Commit::Ok));
    assert!(writer.wal_state().unwrap().log_frames < 5, "the log begins anew");
    assert_eq!(writer.wal_bytes().unwrap(), before, "in the same file");
}

#[test]
fn a_log_that_is_far_behind_is_left_to_the_checkpointer_up_to_a_bound() {
    let (_folder, mut writer) = store();
    let filler = vec![0; 9_000_000];
    assert!(matches!(writer.set_meta("filler", &filler), Commit::Ok));
    assert!(matches!(writer.restart_wal_if_above(8_000_000).unwrap(), Restart::Behind(_)));
    assert_eq!(writer.restart_wal_if_above(1_000_000).unwrap(), Restart::Done);
}

#[test]
fn a_writer_whose_epoch_is_over_begins_nothing_more() {
    let (folder, mut old) = store();
    let begin = |writer: &mut Writer| {
        let mut tx = writer.begin().unwrap();
        let epoch = tx.begin_epoch("boot a").unwrap().0;
        assert!(matches!(tx.commit(), Commit::Ok));
        epoch
    };
    assert_eq!(begin(&mut old), Epoch(1));
    assert!(matches!(old.probe(), Commit::Ok));
    let mut new = Writer::open(&folder.path().join("chitin.db"), &options()).unwrap();
    assert!(matches!(old.probe(), Commit::Ok), "to open it takes nothing away");
    assert_eq!(begin(&mut new), Epoch(2));
    assert_eq!(old.begin().unwrap_err().verdict(), Verdict::Broken);
    assert!(matches!(old.probe(), Commit::Unknown(_)), "nor does it write anything else");
    assert!(matches!(new.probe(), Commit::Ok), "and it stands in nobody's way");
}

#[test]
fn an_epoch_that_was_not_committed_is_not_begun() {
    let (_folder, mut writer) = store();
    let mut tx = writer.begin().unwrap();
    assert_eq!(tx.begin_epoch("boot a").unwrap().0, Epoch(1));
    tx.rollback().unwrap();
    assert!(matches!(writer.probe(), Commit::Ok));
}
