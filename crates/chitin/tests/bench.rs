//! `chitin bench`, whole but short: each measurement gives its figures, none of its requests fails, and nothing of it is
//! left. How fast it was is not for a test to say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what fails here, fails the test"
)]

mod common;

use std::path::Path;

use serde_json::Value;

/// Runs one with two clients for a moment; its JSON and its remarks. A disk that stands still for a second is refused
/// by the gateway's own rule, and no failure of the measurement: then once more.
fn bench(dir: &Path, what: &str, more: &[&str]) -> (Value, String) {
    for again in [true, true, false] {
        let mut command = common::program(env!("CARGO_BIN_EXE_chitin"));
        command.args(["bench", what, "--seconds", "0.3", "--json", "--dir"]).arg(dir).args(more);
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {err}"));
        let late = report["first_error"].as_str().is_some_and(|error| error.contains("submit-timeout"));
        // Nothing at all in its third of a second: the machine stood still as well.
        let idle = report["rate"] == 0.0 && report["errors"] == 0;
        if (late || idle) && again {
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{report} {err}");
        assert_eq!(report["errors"], 0, "{report}");
        assert_eq!(report["bench"], what);
        let left: Vec<_> = std::fs::read_dir(dir).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        return (report, err);
    }
    unreachable!("the last try is final")
}

fn positive(report: &Value, pointer: &str) {
    let value = report.pointer(pointer).and_then(Value::as_f64);
    assert!(value.is_some_and(|value| value > 0.0), "{pointer} in {report}");
}

#[test]
fn submissions_are_compared_with_the_bare_stack() {
    let dir = tempfile::tempdir().unwrap();
    let (report, err) = bench(dir.path(), "submit", &["--clients", "2"]);
    assert!(err.contains("queue's bound raised: waiting_tasks = "), "{err}");
    assert_eq!((&report["clients"], &report["seconds"]), (&Value::from(2), &Value::from(0.3)));
    for pointer in ["/rate", "/ratios/echo", "/memory/gateway_after_bytes"] {
        positive(&report, pointer);
    }
    for percentile in ["p50", "p90", "p99", "p999", "max"] {
        positive(&report, &format!("/latency_ms/{percentile}"));
    }
    for reference in ["echo", "fdatasync", "sqlite"] {
        positive(&report, &format!("/references/{reference}/rate"));
        positive(&report, &format!("/references/{reference}/before/rate"));
        positive(&report, &format!("/references/{reference}/after/rate"));
    }
    assert!(report["ratios"].get("p50").is_none());
}

#[test]
fn one_client_is_compared_by_its_median_and_keys_are_all_new() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "submit", &["--clients", "1", "--keys"]);
    positive(&report, "/ratios/p50");
    assert_eq!(report.pointer("/targets/1/goal/at_most"), Some(&Value::from(1.5)));
}

#[test]
fn bulk_is_compared_with_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "bulk", &["--clients", "2"]);
    positive(&report, "/rate");
    positive(&report, "/ratios/sqlite");
}

#[test]
fn commands_are_compared_with_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "commands", &[]);
    positive(&report, "/ratios/spawn");
    positive(&report, "/references/spawn/rate");
}

#[test]
fn round_trips_end_with_the_right_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "roundtrip", &["--clients", "2"]);
    positive(&report, "/latency_ms/p50");
}

#[test]
fn memory_is_the_gateways_and_the_shims() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "memory", &[]);
    for whose in ["idle_bytes", "queued_10000_bytes", "shim_bytes"] {
        positive(&report, &format!("/memory/{whose}"));
    }
}

#[test]
fn at_a_rate_of_their_own_requests_are_timed_from_when_they_fall_due() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "submit", &["--clients", "20", "--rate", "100"]);
    // So many fall due, however fast the machine is: what is late is waited for.
    let rate = report["rate"].as_f64().unwrap();
    assert!((90.0..=110.0).contains(&rate), "{report}");
    assert_eq!(report.pointer("/targets/0/goal/at_most"), Some(&Value::from(50.0)));
    assert_eq!(report.pointer("/targets/1/goal/at_most"), Some(&Value::from(1_000.0)));
    let (report, _) = bench(dir.path(), "submit", &["--clients", "4", "--pace", "0.1"]);
    let most = report.pointer("/targets/0/value").and_then(Value::as_f64).unwrap();
    assert!(most > report["rate"].as_f64().unwrap(), "{report}");
}

#[test]
fn overload_is_ten_times_the_clients_and_is_compared_with_the_peak() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "overload", &["--clients", "2"]);
    assert_eq!(report["clients"], 20);
    for pointer in ["/references/peak/before/rate", "/ratios/peak", "/memory/gateway_most_bytes"] {
        positive(&report, pointer);
    }
}

#[test]
fn with_a_full_queue_refusals_are_counted_apart_and_are_no_errors() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "full-queue", &[]);
    // How many are run in a moment is the machine's affair, and whether anything is refused in it.
    positive(&report, "/memory/gateway_most_bytes");
    assert!(report["refused"]["rate"].is_number() && report["references"]["peak"].is_object(), "{report}");
}

#[test]
fn a_client_alone_and_beside_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    let (report, _) = bench(dir.path(), "fairness", &["--clients", "8"]);
    for pointer in ["/rate", "/latency_ms/p99", "/ratios/quiet", "/references/quiet/before/p50_ms"] {
        positive(&report, pointer);
    }
}

#[test]
fn an_interrupt_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = common::program(env!("CARGO_BIN_EXE_chitin"));
    command.args(["bench", "submit", "--seconds", "600", "--dir"]).arg(dir.path());
    let mut child = command.spawn().unwrap();
    let folder = || {
        let name = std::fs::read_dir(dir.path()).ok()?.flatten().next()?.file_name();
        Some(name).filter(|name| !name.is_empty())
    };
    common::until("a folder of the measurement", folder);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_cannot_be_measured_is_refused_with_what_can() {
    for (args, allowed) in [
        (["--seconds", "0"], "allowed: a number of seconds from 0.1 to 3600"),
        (["--clients", "0"], "0 is not in 1..=1000"),
        (["--pace", "3"], "allowed: a number from 0.01 to 2"),
        (["--rate", "0"], "allowed: a number from 1 to 1000000"),
    ] {
        let mut command = common::program(env!("CARGO_BIN_EXE_chitin"));
        let output = command.args(["bench", "submit"]).args(args).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{err}");
        assert!(err.contains(allowed), "{err}");
    }
}
