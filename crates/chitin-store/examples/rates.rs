//! How many tasks a second the store takes, beside raw SQLite doing the same inserts: what the trait costs.
//!
//! `cargo run --release -p chitin-store --example rates [SECONDS] [FOLDER]`
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, reason = "a measuring program")]

use std::path::Path;
use std::time::Duration;

use chitin_core::{
    AttemptNo, BootNo, Deadline, Epoch, Jitter, Limits, NewTask, Payload, Policy, PrincipalId, Priority,
    QueueId, RetryPolicy, Seq, TaskId, TaskRow, TaskState, Tx,
};
use chitin_store::{Checkpointer, Commit, Restart, StoreOptions, Writer};
use rusqlite::{Connection, params};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let span = Duration::from_secs_f64(arguments.next().map_or(2.0, |text| text.parse().expect("seconds")));
    let folder = match arguments.next() {
        Some(path) => tempfile::tempdir_in(path),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    println!("SQLite {}; tasks a second, commits a second", rusqlite::version());
    for batch in [1, 32, 1_000] {
        let store = through_the_store(&folder.path().join(format!("store-{batch}.db")), batch, span);
        let raw = raw(&folder.path().join(format!("raw-{batch}.db")), batch, span);
        println!(
            "{batch:>5} a commit: store {} raw {} ratio {:.2}",
            show(store, batch),
            show(raw, batch),
            store / raw
        );
    }
}

fn show(rate: f64, batch: i64) -> String {
    format!("{rate:>8.0}/s ({:>6.0} commits/s)", rate / f64::from(i32::try_from(batch).unwrap_or(1)))
}

#[expect(clippy::disallowed_methods, reason = "a measuring program reads the clock")]
fn rate(span: Duration, batch: i64, mut commit: impl FnMut(i64)) -> f64 {
    let begun = std::time::Instant::now();
    let mut next = 1;
    while begun.elapsed() < span {
        commit(next);
        next += batch;
    }
    f64::from(i32::try_from(next - 1).unwrap_or(i32::MAX)) / begun.elapsed().as_secs_f64()
}

fn through_the_store(path: &Path, batch: i64, span: Duration) -> f64 {
    let limits = Limits::default();
    let options = StoreOptions::new([1; 16], &limits);
    let mut writer = Writer::open(path, &options).expect("a store");
    let mut checkpointer = Checkpointer::open(path, &options).expect("a checkpointer");
    let payload = payload();
    rate(span, batch, |first| {
        let mut tx = writer.begin().expect("a transaction");
        for seq in first..first + batch {
            tx.insert_task(NewTask { row: &row(seq), payload: &payload }).expect("an insert");
        }
        assert!(matches!(tx.commit(), Commit::Ok));
        if let Restart::Behind(_) = writer.restart_wal_if_above(limits.wal_restart_bytes).expect("a log") {
            checkpointer.passive().expect("a checkpoint");
        }
    })
}

/// The same two rows, with the log worked off at the same size, and no layer between.
fn raw(path: &Path, batch: i64, span: Duration) -> f64 {
    let limits = Limits::default();
    drop(Writer::open(path, &StoreOptions::new([1; 16], &limits)).expect("a schema"));
    let conn = Connection::open(path).expect("a connection");
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -6000; PRAGMA foreign_keys = OFF;",
    )
    .expect("settings");
    let payload = payload();
    let waits: Vec<u8> = [60_000_u32, 300_000, 900_000].iter().flat_map(|wait| wait.to_le_bytes()).collect();
    rate(span, batch, |first| {
        conn.execute_batch("BEGIN IMMEDIATE").expect("begin");
        {
            let mut task = conn
                .prepare_cached(
                    "INSERT INTO task (seq, id, state, owner_epoch, principal, queue, priority, attempt, \
                     cancel_requested, payload_bytes, expires_wall_ms, expires_boot, expires_boottime_ms, \
                     expires_delay_ms, submitted_at_ms, round, retries, poison, kept_bytes, ttl_ms, retry_max, \
                     retry_backoff_ms, retry_jitter, merge) VALUES (?1, ?2, 3, 1, 1, 1, 5, 0, 0, ?3, ?4, 1, ?5, \
                     604800000, ?6, 1, 0, 0, 0, 604800000, 3, ?7, 100, 0)",
                )
                .expect("a statement");
            let mut bytes = conn
                .prepare_cached("INSERT INTO payload (seq, command) VALUES (?1, ?2)")
                .expect("a statement");
            for seq in first..first + batch {
                let row = row(seq);
                let wall = row.submitted_at_ms;
                task.execute(params![
                    seq,
                    row.id.0,
                    row.payload_bytes,
                    wall + 604_800_000,
                    605_000_000,
                    wall,
                    waits
                ])
                .expect("an insert");
                bytes.execute(params![seq, payload.command]).expect("an insert");
            }
        }
        conn.execute_batch("COMMIT").expect("commit");
    })
}

fn payload() -> Payload {
    Payload { command: r#"["/usr/bin/printf","hello, world"]"#.into(), ..Payload::default() }
}

/// As the gateway makes them: ids in the order of time with random ends, the usual policy.
fn row(seq: i64) -> TaskRow {
    let submitted_at_ms = 1_700_000_000_000 + seq / 100;
    let mut id = [0_u8; 16];
    let (time, chance) = id.split_at_mut(8);
    time.copy_from_slice(&(submitted_at_ms << 16 | 0x7000).to_be_bytes());
    chance.copy_from_slice(&seq.wrapping_mul(0x5DEE_CE66_D1CE_4E5B).to_be_bytes());
    TaskRow {
        seq: Seq(seq),
        id: TaskId(id),
        principal: PrincipalId(1),
        queue: QueueId(1),
        priority: Priority::DEFAULT,
        state: TaskState::Queued,
        owner_epoch: Epoch(1),
        submitted_at_ms,
        due: None,
        expires: Some(Deadline {
            boot: BootNo(1),
            boottime_ms: 605_000_000,
            wall_ms: submitted_at_ms + 604_800_000,
            delay_ms: 604_800_000,
        }),
        started_at_ms: None,
        ended_at_ms: None,
        round: 1,
        attempt: AttemptNo(0),
        retries: 0,
        poison: 0,
        cancel_requested: false,
        payload_bytes: 34,
        kept_bytes: 0,
        policy: Policy {
            timeout_ms: None,
            ttl_ms: 604_800_000,
            retry: RetryPolicy {
                max: 3,
                backoff_ms: vec![60_000, 300_000, 900_000],
                jitter: Jitter::from_permille(100).unwrap_or(Jitter::NONE),
            },
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            merge: false,
        },
        tags: Vec::new(),
    }
}
