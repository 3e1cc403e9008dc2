//! The cache, end to end: results are the same bytes with it, without it, and whatever happens to it. The chaos suite's row 26
//! does more to a Redis server, and counts it.
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test's helpers: what fails, fails the test")]

mod common;

use std::fs;

use rustix::process::Signal;
use serde_json::{Value, json};

use common::redis::{ENCODED, PASSWORD, Redis};
use common::{Gateway, log, until};

/// Patient with a busy machine: what is slow here is not under test.
const PATIENT: &str = "cache_read_ms = 1000\ncache_timeout_ms = 60000\n";

fn with_redis(limits: &str, url: &str) -> Gateway {
    Gateway::start_with(&format!("{limits}\n[cache]\nredis = \"{url}\""))
}

fn cache(gateway: &Gateway) -> Value {
    gateway.get("/v1/status").with(200).json()["layers"]["cache"].clone()
}

/// A task that has ended with these bytes.
fn said(gateway: &Gateway, text: &str) -> String {
    let id = gateway.submit(&["printf", "%s", text]);
    assert_eq!(gateway.ended(&id)["state"], "succeeded");
    id
}

fn result(gateway: &Gateway, id: &str) -> Vec<u8> {
    gateway.get(&format!("/v1/tasks/{id}/result")).with(200).body
}

/// The name of a task's result in Redis, once it is there.
fn name_of(redis: &Redis, database: u32, id: &str) -> String {
    until(&format!("{id} is in Redis"), || {
        let name = redis.ask(database, &["EVAL", &format!("return redis.call('KEYS', '*:{id}:1')[1]"), "0"]);
        name.contains(id).then_some(name)
    })
}

#[test]
fn without_redis_results_come_from_memory() {
    let gateway = Gateway::start();
    let id = said(&gateway, "hello");
    until("it was put there", || (cache(&gateway)["fills"] == 1).then_some(()));
    for _ in 0..3 {
        assert_eq!(result(&gateway, &id), b"hello");
    }
    let layer = cache(&gateway);
    assert_eq!(
        (&layer["kind"], &layer["state"], &layer["hits"]),
        (&json!("memory"), &json!("ok"), &json!(3))
    );
    assert_eq!(layer["entries"], 1);
    // Of nothing there is nothing to save.
    assert_eq!(result(&gateway, &said(&gateway, "")), b"");
    // A new life begins with nothing, and is filled by who reads.
    gateway.kill_gateway();
    until("it serves again", || (cache(&gateway)["fills"] == 0).then_some(()));
    assert_eq!(result(&gateway, &id), b"hello");
    until("it was put there", || (cache(&gateway)["fills"] == 1).then_some(()));
    assert_eq!(result(&gateway, &id), b"hello");
    assert_eq!((&cache(&gateway)["misses"], &cache(&gateway)["hits"]), (&json!(1), &json!(1)));
    let shown = gateway.cli(&["status"]).with(0);
    assert!(shown.out().contains("kind memory"), "{}", shown.out());
}

#[test]
fn large_results_come_whole_from_memory_or_piece_by_piece_from_the_store() {
    let gateway = Gateway::start_with("cache_value_bytes = 600000\ncache_loan_bytes = 400000");
    let script = "i=0; while [ $i -lt $0 ]; do echo \"line $i\"; i=$((i+1)); done";
    let lines = |count: u32| (0..count).map(|at| format!("line {at}\n")).collect::<String>();
    // Cached and lent; cached and too much to be lent; too large to be cached.
    for (count, hits) in [(30_000, 2), (45_000, 0), (60_000, 0)] {
        let before = cache(&gateway)["hits"].as_u64().unwrap();
        let id = gateway.submit(&["sh", "-c", script, &count.to_string()]);
        assert_eq!(gateway.ended(&id)["state"], "succeeded");
        for _ in 0..3 {
            assert_eq!(result(&gateway, &id), lines(count).into_bytes(), "{count}");
        }
        let hits_now = cache(&gateway)["hits"].as_u64().unwrap() - before;
        assert!(hits_now >= hits && (hits > 0 || hits_now == 0), "{count}: {hits_now} hits");
    }
}

#[test]
fn a_cache_of_no_bytes_is_none() {
    let gateway = Gateway::start_with("cache_memory_bytes = 0");
    let id = said(&gateway, "hello");
    assert_eq!(result(&gateway, &id), b"hello");
    let layer = cache(&gateway);
    assert_eq!(
        (&layer["state"], &layer["misses"], &layer["fills_dropped"]),
        (&json!("off"), &json!(0), &json!(0))
    );
}

#[test]
fn with_redis_results_are_there_under_their_names_and_trusted_by_their_digest_alone() {
    let Some(redis) = Redis::start() else { return };
    let gateway = with_redis(PATIENT, &redis.tcp_url(3));
    let id = said(&gateway, "hello");
    let name = name_of(&redis, 3, &id);
    let store = name.split(':').next().unwrap();
    assert!(store.len() == 32 && store.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}");
    assert_eq!(redis.ask(3, &["GET", &name]), "hello");
    let ttl: u32 = redis.ask(3, &["TTL", &name]).trim_start_matches(':').parse().unwrap();
    assert!((86_000..=86_400).contains(&ttl), "{ttl}");
    assert_eq!(result(&gateway, &id), b"hello");
    let layer = cache(&gateway);
    assert_eq!(
        (&layer["kind"], &layer["breaker"], &layer["hits"]),
        (&json!("redis"), &json!("closed"), &json!(1))
    );

    // Other bytes under our name: of the same length, of another, of another kind, none.
    let list = ["RPUSH", &name, "hello"];
    let poisons: [&[&[&str]]; 4] = [
        &[&["SET", &name, "HELLO"]],
        &[&["SET", &name, "hell"]],
        &[&["DEL", &name], &list],
        &[&["FLUSHALL"]],
    ];
    for (at, poison) in poisons.iter().enumerate() {
        for words in *poison {
            redis.ask(3, words);
        }
        assert_eq!(result(&gateway, &id), b"hello", "{poison:?}");
        // What was read from the store takes the place of what was wrong.
        until("it is right again", || (redis.ask(3, &["GET", &name]) == "hello").then_some(()));
        assert_eq!(cache(&gateway)["rejected"], json!((at + 1).min(3)));
    }
    assert_eq!(result(&gateway, &id), b"hello");
    assert_eq!(cache(&gateway)["hits"], 2);
    assert_eq!(cache(&gateway)["failures"], 0);
}

#[test]
fn a_password_is_sent_to_redis_and_shown_to_nobody() {
    let Some(redis) = Redis::start() else { return };
    let gateway = with_redis(PATIENT, &redis.unix_url());
    let id = said(&gateway, "hello");
    name_of(&redis, 0, &id);
    let status = gateway.cli(&["status"]).with(0);
    let check = gateway.cli(&["config", "check"]).with(0);
    assert!(status.out().contains("unix://default:***@"), "{}", status.out());
    assert!(check.out().contains("redis = \"unix://default:***@"), "{}", check.out());
    let doctor = gateway.cli(&["doctor"]);
    assert!(doctor.out().contains("answers after"), "{}", doctor.out());

    // A wrong one is told as what it is.
    let wrong = redis.unix_url().replace(ENCODED, "wr0ng");
    fs::write(gateway.data.join("chitin.toml"), format!("[cache]\nredis = \"{wrong}\"")).unwrap();
    let refused = gateway.cli(&["doctor"]);
    assert!(refused.out().contains("it refuses to log in: WRONGPASS"), "{}", refused.out());
    let log = log(&gateway.data);
    for text in [status.out(), check.out(), doctor.out(), refused.out(), &log, &status.err, &refused.err] {
        for secret in [PASSWORD, ENCODED, "wr0ng"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn a_server_that_freezes_costs_no_answer_and_is_asked_again_when_it_thaws() {
    let Some(redis) = Redis::start() else { return };
    let gateway = with_redis("breaker_probe_s = 1\ncache_timeout_ms = 100", &redis.tcp_url(0));
    let id = said(&gateway, "hello");
    redis.signal(Signal::STOP);
    until("the breaker opens", || {
        assert_eq!(result(&gateway, &id), b"hello");
        (cache(&gateway)["breaker"] != "closed").then_some(())
    });
    // New results are as good as old ones, and nobody waits for their place in the cache.
    let during = said(&gateway, "during");
    assert_eq!(result(&gateway, &during), b"during");
    let layer = until("it is open", || {
        let layer = cache(&gateway);
        (layer["breaker"] == "open").then_some(layer)
    });
    assert_eq!((&layer["state"], &layer["opened"]), (&json!("degraded"), &json!(1)));
    assert!(layer["reason"].as_str().unwrap().contains("no answer within"), "{layer}");
    assert!(layer["failures"].as_u64().unwrap() >= 5 && layer["next_probe_s"].is_number(), "{layer}");
    redis.signal(Signal::CONT);
    until("the breaker closes", || (cache(&gateway)["breaker"] == "closed").then_some(()));
    assert_eq!(cache(&gateway)["reason"], Value::Null);
    assert_eq!(result(&gateway, &during), b"during");
    name_of(&redis, 0, &during);
    let told = until("it is told", || {
        let told = gateway.cli(&["events", "--json"]).with(0).out().to_owned();
        told.contains("breaker.closed").then_some(told)
    });
    let of = |name: &str| told.find(name).unwrap_or_else(|| panic!("no {name}: {told}"));
    assert!(of("breaker.opened") < of("breaker.half_open"), "{told}");
    assert!(of("breaker.half_open") < of("breaker.closed"), "{told}");
}

#[test]
fn a_gateway_starts_and_serves_without_the_server_it_was_told_of() {
    let Some(mut redis) = Redis::start() else { return };
    let url = redis.tcp_url(0);
    redis.down();
    let gateway = with_redis("breaker_probe_s = 1", &url);
    let id = said(&gateway, "hello");
    assert_eq!(result(&gateway, &id), b"hello");
    until("it says why", || cache(&gateway)["reason"].as_str()?.contains("cannot connect").then_some(()));
    let doctor = gateway.cli(&["doctor"]);
    assert!(doctor.out().contains("cannot connect: Connection refused"), "{}", doctor.out());
    redis.up();
    until("it is asked again", || {
        assert_eq!(result(&gateway, &id), b"hello");
        (cache(&gateway)["hits"].as_u64()? > 0).then_some(())
    });
}

#[test]
fn a_store_that_was_restored_finds_nothing_of_the_one_before() {
    let Some(redis) = Redis::start() else { return };
    let mut gateway = with_redis(PATIENT, &redis.tcp_url(0));
    let flag = gateway.path("flag");
    let script = format!("until [ -e {0} ]; do sleep 0.02; done; cat {0}", flag.display());
    // In the backup it has not begun: it will run for the first time twice.
    gateway.cli(&["queues", "pause", "default"]).with(0);
    let id = gateway.submit(&["sh", "-c", &script]);
    let backup = gateway.path("backup");
    gateway.cli(&["backup", backup.to_str().unwrap()]).with(0);
    gateway.cli(&["queues", "resume", "default"]).with(0);
    fs::write(gateway.path("draft"), "before").unwrap();
    fs::rename(gateway.path("draft"), &flag).unwrap();
    gateway.ended(&id);
    let name = name_of(&redis, 0, &id);
    assert_eq!(redis.ask(0, &["GET", &name]), "before");

    gateway.down(&[]).with(0);
    gateway.cli(&["restore", backup.to_str().unwrap()]).with(0);
    // The same task, the same round, another result.
    fs::write(&flag, "after!").unwrap();
    gateway.up();
    gateway.cli(&["queues", "resume", "default"]).with(0);
    gateway.ended(&id);
    assert_eq!(result(&gateway, &id), b"after!");
    assert_eq!(redis.ask(0, &["GET", &name]), "before", "it is another store's");
    until("both are there", || (redis.ask(0, &["DBSIZE"]) == ":2").then_some(()));
    assert_eq!(result(&gateway, &id), b"after!");
}
