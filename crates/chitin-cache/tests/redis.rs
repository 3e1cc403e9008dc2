//! The cache against a server that behaves as it is told: hangs, refuses, lies, goes away and comes back. A real Redis server
//! is met in `crates/chitin/tests/cache.rs` and in the chaos suite.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test helpers, which clippy does not know as such"
)]

mod server;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use chitin_cache::{BreakerChange, Cache, CacheStatus, Counts, Filler, Key, Server, Setup, Wanted};
use chitin_core::{BreakerView, Limits, TaskId};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use server::{Fake, Manner};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

fn clock() -> i64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    i64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_millis()).unwrap()
}

fn key(number: u8) -> Key {
    Key { task: TaskId([number; 16]), round: 1 }
}

fn wanted(body: &[u8]) -> Wanted {
    Wanted { sha256: Sha256::digest(body).into(), bytes: u64::try_from(body.len()).unwrap() }
}

/// A cache on this server, with what fills it.
fn cache(server: &Fake, store_id: u8, limits: &Limits) -> (Cache, Filler) {
    noting(server, store_id, limits, &Arc::default())
}

/// The same; counts the changes of the breaker, an opening as 1 and a closing as 100.
fn noting(server: &Fake, store_id: u8, limits: &Limits, changes: &Arc<AtomicU32>) -> (Cache, Filler) {
    let changes = Arc::clone(changes);
    let on_change = Box::new(move |change: &BreakerChange| {
        let worth = match change {
            BreakerChange::Opened { .. } => 1,
            BreakerChange::Probed => 0,
            BreakerChange::Closed => 100,
        };
        changes.fetch_add(worth, Ordering::Relaxed);
    });
    let server = Some(Server::parse(&server.url()).unwrap());
    Cache::new(Setup { store_id: [store_id; 16], server, limits, clock, on_change })
}

/// Patient with a busy machine: what is slow here is not under test.
fn patient() -> Limits {
    Limits { cache_read_ms: 10_000, cache_timeout_ms: 10_000, ..Limits::default() }
}

fn impatient() -> Limits {
    Limits { cache_read_ms: 20, cache_timeout_ms: 20, breaker_probe_s: 1, ..Limits::default() }
}

async fn get(cache: &Cache, key: Key, wanted: &Wanted) -> Option<Bytes> {
    cache.fetch(cache.may_ask(wanted.bytes)?, key, wanted).await
}

fn counts(cache: &Cache) -> Counts {
    match cache.status() {
        CacheStatus::Memory { counts, .. } | CacheStatus::Redis { counts, .. } => counts,
    }
}

fn breaker(cache: &Cache) -> (BreakerView, Option<String>) {
    let CacheStatus::Redis { breaker, reason, .. } = cache.status() else { panic!("not Redis") };
    (breaker, reason)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < PATIENCE, "{what}: never");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Runs a test beside the filler, which must outlast it.
fn with<F: Future<Output = ()>>(filler: Filler, test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::select! {
            () = test => {}
            () = filler.run() => panic!("the filler ended while the cache was in use"),
        }
    });
}

#[test]
fn what_was_offered_is_found_under_its_store_its_task_and_its_round_alone() {
    let server = Fake::start(Manner::Good);
    let (cache, filler) = cache(&server, 1, &patient());
    let (other_store, _filler) = self::cache(&server, 2, &patient());
    with(filler, async {
        let body = Bytes::from_static(b"\0a result\r\n");
        let wanted = wanted(&body);
        assert_eq!(get(&cache, key(1), &wanted).await, None);
        cache.offer(key(1), wanted.sha256, body.clone());
        until("it is there", || counts(&cache).fills == 1).await;
        assert_eq!(get(&cache, key(1), &wanted).await, Some(body.clone()));
        assert_eq!(get(&cache, Key { round: 2, ..key(1) }, &wanted).await, None);
        assert_eq!(
            get(&other_store, key(1), &wanted).await,
            None,
            "a store that was restored has another id"
        );
        let name = format!("{}:{}:1", "01".repeat(16), TaskId([1; 16]));
        assert_eq!(server.value(&name), Some((body.to_vec(), 86_400)));
        assert_eq!(
            counts(&cache),
            Counts { hits: 1, misses: 2, rejected: 0, fills: 1, fills_dropped: 0, fills_failed: 0 }
        );
    });
}

#[test]
fn bytes_that_are_not_the_results_never_come_out_and_are_no_failure() {
    let server = Fake::start(Manner::Good);
    let (cache, filler) = cache(&server, 1, &patient());
    with(filler, async {
        let body = vec![b'a'; 200_000];
        let wanted = wanted(&body);
        let name = format!("{}:{}:1", "01".repeat(16), TaskId([1; 16]));
        let mut flipped = body.clone();
        flipped[150_000] ^= 1;
        let poisons = [flipped, vec![], vec![b'a'; 199_999], vec![b'a'; 200_001], vec![b'x'; 5_000_000]];
        for poison in &poisons {
            server.put(&name, poison);
            assert_eq!(get(&cache, key(1), &wanted).await, None, "{} bytes", poison.len());
        }
        assert_eq!(counts(&cache).rejected, 5);
        assert_eq!(breaker(&cache).0.state, "closed");
        assert_eq!(breaker(&cache).0.failures, 0, "it answers: that it lies is not what a breaker is for");
        server.put(&name, &body);
        assert_eq!(get(&cache, key(1), &wanted).await.unwrap(), body);
    });
}

#[test]
fn a_server_that_hangs_is_asked_five_times_and_then_no_more_until_its_probe() {
    let server = Fake::start(Manner::Hangs);
    let changes = Arc::new(AtomicU32::new(0));
    let (cache, filler) = noting(&server, 1, &impatient(), &changes);
    let wanted = wanted(b"x");
    with(filler, async {
        // The filler's own first question counts as well.
        until("it opens", || breaker(&cache).0.failures > 0).await;
        while breaker(&cache).0.state == "closed" {
            assert_eq!(get(&cache, key(1), &wanted).await, None);
        }
        let (view, reason) = breaker(&cache);
        assert_eq!((view.failures, view.opened), (5, 1));
        let reason = reason.unwrap();
        assert!(reason.ends_with("no answer within 20 ms"), "{reason}");
        assert!(view.next_probe_ms.unwrap() <= 1_000);
        assert_eq!(changes.load(Ordering::Relaxed), 1);
        let asked = server.connections();
        for _ in 0..100 {
            assert_eq!(get(&cache, key(1), &wanted).await, None);
        }
        // But for a probe, if the machine was that slow.
        assert!(server.connections() <= asked + 1, "{} connections more", server.connections() - asked);
        until("a probe fails", || breaker(&cache).0.failures > 5).await;
        assert_eq!(breaker(&cache).0.opened, 1);
        server.set(Manner::Good);
        until("a probe succeeds", || breaker(&cache).0.state == "closed").await;
        assert_eq!(breaker(&cache), (BreakerView { failures: 0, ..breaker(&cache).0 }, None));
        assert_eq!(changes.load(Ordering::Relaxed), 101);
    });
}

#[test]
fn a_server_that_was_started_anew_costs_no_failure() {
    let server = Fake::start(Manner::Good);
    let (cache, filler) = cache(&server, 1, &patient());
    with(filler, async {
        let wanted = wanted(b"x");
        cache.offer(key(1), wanted.sha256, Bytes::from_static(b"x"));
        until("it is there", || counts(&cache).fills == 1).await;
        // Several connections, idle.
        _ = tokio::join!(
            get(&cache, key(1), &wanted),
            get(&cache, key(1), &wanted),
            get(&cache, key(1), &wanted)
        );
        assert_eq!(counts(&cache).hits, 3);
        server.restart();
        for _ in 0..10 {
            assert_eq!(get(&cache, key(1), &wanted).await, None, "it has forgotten everything");
        }
        cache.offer(key(1), wanted.sha256, Bytes::from_static(b"x"));
        until("it is there again", || counts(&cache).fills == 2).await;
        assert!(get(&cache, key(1), &wanted).await.is_some());
        assert_eq!((breaker(&cache).0.failures, breaker(&cache).1), (0, None));
    });
}

#[test]
fn a_fill_is_tried_three_times_and_then_given_up() {
    let server = Fake::start(Manner::RefusesWrites);
    let (cache, filler) = cache(&server, 1, &patient());
    with(filler, async {
        let wanted = wanted(b"x");
        cache.offer(key(1), wanted.sha256, Bytes::from_static(b"x"));
        until("it is given up", || counts(&cache).fills_failed == 1).await;
        assert_eq!(server.writes(), 3);
        let (view, reason) = breaker(&cache);
        assert_eq!((view.state, view.failures), ("closed", 3));
        let reason = reason.unwrap();
        assert_eq!(
            reason,
            "it refuses to keep a value: READONLY You can't write against a read only replica."
        );
        // It can still be read, which begins the count anew.
        assert_eq!(get(&cache, key(1), &wanted).await, None);
        assert_eq!(breaker(&cache).0.failures, 0);
    });
}

#[test]
fn nobody_waits_for_a_server_that_is_slow_to_be_filled_and_too_much_is_dropped() {
    let server = Fake::start(Manner::Hangs);
    let limits = Limits { cache_fill_bytes: 10_240, cache_timeout_ms: 60_000, ..Limits::default() };
    let (cache, filler) = cache(&server, 1, &limits);
    with(filler, async {
        // The filler waits for an answer that never comes.
        until("it is asked", || server.connections() == 1).await;
        let body = Bytes::from(vec![7; 1_024]);
        for number in 0..30 {
            cache.offer(key(number), wanted(&body).sha256, body.clone());
        }
        assert_eq!(counts(&cache).fills_dropped, 20);
    });
}

#[test]
fn what_is_empty_or_too_large_is_not_cached() {
    let server = Fake::start(Manner::Good);
    let limits = Limits { cache_value_bytes: 1_000, ..patient() };
    let (cache, _filler) = cache(&server, 1, &limits);
    for (bytes, takes) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
        assert_eq!(cache.takes(bytes), takes, "{bytes}");
        assert_eq!(cache.may_ask(bytes).is_some(), takes, "{bytes}");
    }
    let (in_memory, _filler) = Cache::new(Setup {
        store_id: [1; 16],
        server: None,
        limits: &limits,
        clock,
        on_change: Box::new(|_| {}),
    });
    assert!(in_memory.takes(1_000) && !in_memory.takes(1_001));
    assert!(in_memory.may_ask(1_000).is_none(), "there is nobody to ask");
}

#[test]
fn without_a_server_memory_serves_and_is_given_back() {
    let limits = Limits { cache_loan_bytes: 4_096, ..Limits::default() };
    let (cache, filler) = Cache::new(Setup {
        store_id: [1; 16],
        server: None,
        limits: &limits,
        clock,
        on_change: Box::new(|_| {}),
    });
    with(filler, async {
        let body = Bytes::from_static(b"a result");
        let wanted = wanted(&body);
        assert_eq!(cache.recall(key(1), &wanted), None);
        cache.offer(key(1), wanted.sha256, body.clone());
        until("it is there", || counts(&cache).fills == 1).await;
        assert_eq!(cache.recall(key(1), &wanted), Some(body));
        cache.shed();
        assert_eq!(cache.recall(key(1), &wanted), None);
        assert_eq!((counts(&cache).hits, counts(&cache).misses), (1, 2));
    });
    let (first, second) = (cache.lend(3_000), cache.lend(3_000));
    assert!(first.is_some() && second.is_none(), "more than may be lent");
    drop(first);
    assert!(cache.lend(3_000).is_some());
}
