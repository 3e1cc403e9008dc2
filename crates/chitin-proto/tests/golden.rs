//! What shims and gateways of every version have said to each other, on sockets and on disk, byte for byte: a shim outlives
//! upgrades of the gateway, so what an old one says must be understood for as long as one may run.
//!
//! There is a folder for each protocol version. Today's must be written exactly so; the others must still be read. A change
//! that alters a file here needs a new version, and a new folder beside it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};

use chitin_proto::shim::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Every version there was, and today's.
const VERSIONS: [u16; 3] = [1, 2, PROTOCOL_VERSION];

fn file(version: u16, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}")).join(name)
}

fn isolations() -> Vec<Isolation> {
    let path = |path: &str| Some(PathBuf::from(path));
    vec![
        Isolation::Cgroup2 { group: PathBuf::from("/sys/fs/cgroup/chitin-ab/t.1") },
        Isolation::Cgroup1 {
            memory: path("/m/t.1"),
            pids: None,
            cpu: path("/c/t.1"),
            unified: path("/u/t.1"),
        },
        Isolation::Rlimit,
    ]
}

fn reports(v: u16) -> Vec<ExitReport> {
    let segment = |start, len| SegmentReport { start, len, crc32: 3_405_691_582 };
    let full = ExitReport {
        v,
        task: "01a20ca3-1de5-72a2-b220-d2ca14c2cf52".to_owned(),
        attempt: 2,
        token: "6c54fa32c00fe204f08aa33092b70c55".to_owned(),
        cause: Cause::Exited,
        exit_code: Some(3),
        signal: None,
        started_at_ms: Some(1_700_000_000_000),
        ended_at_ms: 1_700_000_001_500,
        running_ms: 1_500,
        peak_memory_bytes: Some(1_000_000),
        cpu_ms: 12,
        pids_refused: (v >= 3).then_some(PidsRefused { limit: 50, times: 7 }),
        stdout: StreamReport {
            total_bytes: 30_000_000,
            segments: vec![segment(0, 10_000_000), segment(20_000_000, 7)],
        },
        stderr: StreamReport::default(),
        interleave_bytes: 24,
        result: Some(ResultReport { len: 5, crc32: 907_060_870, truncated: false }),
    };
    let bare = ExitReport {
        exit_code: None,
        started_at_ms: None,
        peak_memory_bytes: None,
        pids_refused: None,
        stdout: StreamReport::default(),
        interleave_bytes: 0,
        result: None,
        ..full.clone()
    };
    let not_started =
        |step| Cause::NotStarted(NotStarted { step, errno: 2, message: "command not found: `x`".to_owned() });
    let causes = [
        Cause::Signalled,
        Cause::TimedOut,
        Cause::Cancelled,
        Cause::OomKilled { limit_bytes: 64_000_000 },
        not_started(StartStep::Directory),
        not_started(StartStep::NotFound),
        not_started(StartStep::NotExecutable),
        not_started(StartStep::Machinery),
    ];
    let others = causes.map(|cause| ExitReport { signal: Some(9), cause, ..bare.clone() });
    [full].into_iter().chain(others).collect()
}

/// Each value is a line of the version's file, and each line is that value.
fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(version: u16, name: &str, values: &[T]) {
    let golden = fs::read_to_string(file(version, name)).unwrap();
    assert_eq!(golden.lines().count(), values.len(), "v{version} {name}");
    for (line, value) in golden.lines().zip(values) {
        assert_eq!(&decode_frame::<T>(line.as_bytes()).unwrap(), value, "v{version} {name} is read");
        let written = String::from_utf8(encode_frame(value).unwrap()).unwrap();
        if version == PROTOCOL_VERSION {
            assert_eq!(written.trim_end(), line, "v{version} {name} is written");
        }
    }
}

#[test]
fn frames_are_as_they_were() {
    for v in VERSIONS {
        let to_shim = [ToShim::Attach { v, epoch: 7 }, ToShim::Cancel, ToShim::Settled, ToShim::Rest];
        let since_2 = [ToShim::Pause, ToShim::Resume];
        let to_shim = to_shim.into_iter().chain(since_2.into_iter().filter(|_| v >= PAUSE_SINCE));
        same(v, "to-shim.jsonl", &to_shim.collect::<Vec<_>>());
        let started = FromShim::Started { v, shim_pid: 100, pid: 101, started_at_ms: 1_700_000_000_000 };
        let ended = reports(v).into_iter().map(|report| FromShim::Ended(Box::new(report)));
        let resting = FromShim::Resting { v };
        let frames: Vec<FromShim> =
            [FromShim::Void { v }, started].into_iter().chain(ended).chain([resting]).collect();
        same(v, "from-shim.jsonl", &frames);
    }
}

#[test]
fn claims_are_as_they_were() {
    for v in VERSIONS {
        let claim = |shim| Claim {
            v,
            token: "6c54fa32c00fe204f08aa33092b70c55".to_owned(),
            boot_id: "3f2f8f3e-6f0c-4c1e-9a57-0c7f6f9f3a11".to_owned(),
            shim,
        };
        let real = |isolation| claim(Some(ClaimedBy { pid: 100, start_ticks: 12_345, isolation }));
        let claims: Vec<Claim> = isolations().into_iter().map(real).chain([claim(None)]).collect();
        same(v, "claims.jsonl", &claims);
    }
}

#[test]
fn exit_records_are_as_they_were() {
    for v in VERSIONS {
        let golden = fs::read(file(v, "exit-record")).unwrap();
        let report = &reports(v)[0];
        assert_eq!(&decode_exit_record(&golden).unwrap(), report);
        if v == PROTOCOL_VERSION {
            assert_eq!(encode_exit_record(report).unwrap(), golden);
        }
    }
}

#[test]
fn orders_are_as_they_were() {
    for v in VERSIONS {
        let since_3 = v >= 3;
        let order = |isolation| Order {
            v,
            task: "01a20ca3-1de5-72a2-b220-d2ca14c2cf52".to_owned(),
            attempt: 2,
            token: "6c54fa32c00fe204f08aa33092b70c55".to_owned(),
            epoch: 7,
            boot_id: "3f2f8f3e-6f0c-4c1e-9a57-0c7f6f9f3a11".to_owned(),
            command: vec!["echo".to_owned(), "é".to_owned()],
            env: vec![("PATH".to_owned(), "/bin".to_owned())],
            cwd: Some(PathBuf::from("/tmp")),
            merge: true,
            timeout_ms: Some(1_000),
            grace_ms: 10_000,
            limits: ResourceLimits {
                memory_bytes: Some(500_000_000),
                pids: Some(50),
                cpu_millis: Some(500),
                file_bytes: since_3.then_some(1_000_000_000),
                open_files: since_3.then_some(1_024),
                nice: if since_3 { 3 } else { 0 },
            },
            isolation,
            segment_bytes: 10_000_000,
            result_max_bytes: 10_000_000,
        };
        let orders: Vec<Order> = isolations().into_iter().map(order).collect();
        same(v, "orders.jsonl", &orders);
        for order in &orders {
            assert_eq!(&Order::decode(&order.encode().unwrap()).unwrap(), order, "and taken");
        }
    }
}

#[test]
fn an_order_of_another_age_is_not_taken() {
    let golden = fs::read_to_string(file(PROTOCOL_VERSION, "orders.jsonl")).unwrap();
    for v in [OLDEST_VERSION - 1, PROTOCOL_VERSION + 1] {
        let mut order: Order = decode_frame(golden.lines().next().unwrap().as_bytes()).unwrap();
        order.v = v;
        assert!(Order::decode(&order.encode().unwrap()).is_err(), "version {v}");
    }
}

#[test]
fn what_a_later_version_adds_is_passed_over() {
    let line = br#"{"type":"attach","v":9,"epoch":7,"of_the_future":[1,2]}"#;
    assert_eq!(decode_frame::<ToShim>(line).unwrap(), ToShim::Attach { v: 9, epoch: 7 });
    assert!(decode_frame::<ToShim>(br#"{"type":"of_the_future"}"#).is_err(), "and a new word is no frame");
}
