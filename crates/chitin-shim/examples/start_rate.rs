//! How many attempts of `/bin/true` a second, from start to settled end: `start_rate SHIM TIER COUNT PARALLEL`, where
//! TIER is `best` or `rlimit`. Also says what a shim holds resident while its command sleeps.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement, not a part of anything"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::Instant;

use chitin_proto::shim::{
    FromShim, Order, PROTOCOL_VERSION, ResourceLimits, ToShim, decode_frame, encode_frame,
};
use chitin_shim::groups::{Tier, detect};
use chitin_shim::start;

fn order(tier: &Tier, instance: &str, number: usize, command: &[&str]) -> Order {
    let task = format!("rate-{number}");
    let limits = ResourceLimits::default();
    Order {
        v: PROTOCOL_VERSION,
        attempt: 1,
        token: "t".into(),
        epoch: 1,
        boot_id: "b".into(),
        command: command.iter().map(|s| (*s).to_owned()).collect(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        cwd: Some("/".into()),
        merge: false,
        timeout_ms: Some(60_000),
        grace_ms: 1_000,
        isolation: tier.isolation(instance, &task, 1, &limits),
        limits,
        segment_bytes: 10_000_000,
        result_max_bytes: 10_000_000,
        task,
    }
}

/// One attempt; `during` is called with the shim's process id once the command runs.
fn attempt(shim: &Path, order: &Order, cancel: bool, during: impl FnOnce(u32)) {
    let dir = tempfile::tempdir().unwrap();
    let spawned = start::spawn(shim, dir.path(), order, None).unwrap();
    spawned.socket.set_nonblocking(false).unwrap();
    let mut socket = BufReader::new(spawned.socket);
    let next = |socket: &mut BufReader<_>| {
        let mut line = Vec::new();
        socket.read_until(b'\n', &mut line).unwrap();
        decode_frame::<FromShim>(&line).unwrap()
    };
    assert!(matches!(next(&mut socket), FromShim::Started { .. }));
    during(spawned.pid.unwrap());
    if cancel {
        socket.get_mut().write_all(&encode_frame(&ToShim::Cancel).unwrap()).unwrap();
    }
    assert!(matches!(next(&mut socket), FromShim::Ended(_)));
    socket.get_mut().write_all(&encode_frame(&ToShim::Settled).unwrap()).unwrap();
    assert_eq!(socket.read_until(b'\n', &mut Vec::new()).unwrap(), 0);
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, shim, tier, count, parallel] = args.as_slice() else {
        panic!("start_rate SHIM best|rlimit COUNT PARALLEL");
    };
    let (count, parallel): (usize, usize) = (count.parse().unwrap(), parallel.parse().unwrap());
    let tier = if tier == "best" { detect() } else { Tier::Rlimit };
    let instance = format!("rate-{}", std::process::id());
    tier.prepare(&instance, 50).unwrap();
    let shim = Path::new(shim);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..parallel {
            let (tier, instance) = (&tier, &instance);
            scope.spawn(move || {
                for number in (worker..count).step_by(parallel) {
                    attempt(shim, &order(tier, instance, number, &["/bin/true"]), false, |_| {});
                    start::reap_children();
                }
            });
        }
    });
    let took = began.elapsed();
    println!("{}: {count} attempts, {parallel} at once: {took:?}", tier.name());
    println!("{:.0} a second", f64::from(u32::try_from(count).unwrap()) / took.as_secs_f64());
    attempt(shim, &order(&tier, &instance, count, &["sleep", "1000"]), true, |pid| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
        let wanted = rollup.lines().filter(|l| l.starts_with("Private_") || l.starts_with("Rss"));
        println!("{}", wanted.collect::<Vec<_>>().join("\n"));
    });
    start::reap_children();
    tier.remove(&instance);
}
