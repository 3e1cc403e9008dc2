//! Retention: by age, by bytes, and keys; never what is open, never within the hour.

use super::*;
use crate::testing::*;
use crate::{Input, Limits, Outcome, Produced};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A task that has ended and keeps `bytes` of logs in files.
fn ended(bench: &mut Bench, bytes: u64) -> TaskId {
    let attempt = bench.running(spec());
    let produced = Produced { log_bytes_in_files: bytes, ..Produced::default() };
    bench.batch(&[Input::ShimReport { attempt, end: end(Outcome::Succeeded), produced }]);
    attempt.id
}

fn removed(outputs: &[Output]) -> Vec<TaskId> {
    let id = |output: &Output| if let Output::RemoveFiles { id } = output { Some(*id) } else { None };
    outputs.iter().filter_map(id).collect()
}

#[test]
fn what_ended_longer_ago_than_its_retention_goes() {
    let mut bench = Bench::default();
    let old = ended(&mut bench, 0);
    bench.pass_ms(1);
    let young = ended(&mut bench, 0);
    bench.pass_ms(7 * DAY);
    assert_eq!(removed(&bench.batch(&[])), [old], "older than seven days");
    assert!(bench.store.task(young).is_some(), "exactly seven days old");
    assert_eq!(bench.core.next_wake_ms(&bench.now), 60_000);
    bench.pass_ms(60_000);
    assert_eq!(removed(&bench.batch(&[])), [young]);
    assert_eq!(bench.core.figures().kept_bytes, 0);
}

#[test]
fn a_sweep_that_was_rolled_back_comes_again_at_once() {
    let mut bench = Bench::default();
    let old = ended(&mut bench, 0);
    bench.pass_ms(7 * DAY + 1);
    bench.batch_ending(&[], crate::CommitOutcome::RolledBack);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0);
    assert_eq!(removed(&bench.batch(&[])), [old]);
}

#[test]
fn what_is_open_stays_however_old() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.pass_ms(1_000 * DAY);
    assert_eq!(removed(&bench.batch(&[])), []);
    assert!(bench.store.task(attempt.id).is_some());
}

#[test]
fn above_the_bound_of_bytes_the_earliest_end_goes_first_but_never_within_the_hour() {
    let limits = Limits { retention_bytes: 250, ..Limits::default() };
    let mut bench = Bench::new(limits);
    let first = ended(&mut bench, 100);
    bench.pass_ms(1);
    let second = ended(&mut bench, 100);
    bench.pass_ms(1);
    ended(&mut bench, 100);
    bench.pass_ms(HOUR - 2);
    assert_eq!(removed(&bench.batch(&[])), [], "an hour is not over");
    assert_ne!(bench.core.next_wake_ms(&bench.now), 0, "and there is no hurry");
    bench.pass_ms(60_000);
    assert_eq!(removed(&bench.batch(&[])), [first], "one is enough");
    assert!(bench.store.task(second).is_some());
    assert!(bench.core.figures().kept_bytes <= 250);
}

#[test]
fn a_large_sweep_goes_in_pages_without_a_pause() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![spec(); PAGE + 1]);
    let cancels: Vec<_> = submission.tasks.iter().map(|(id, _)| *id).collect();
    let cancels: Vec<_> = cancels.into_iter().map(|id| bench.cancel(id)).collect();
    bench.batch(&[Input::Submit(submission)]);
    bench.core.set_dispatch(crate::Dispatch::Paused);
    let running = bench.core.figures().running;
    assert_eq!(running, 0);
    bench.batch(&cancels);
    bench.pass_ms(7 * DAY + 1);
    assert_eq!(removed(&bench.batch(&[])).len(), PAGE);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0);
    assert_eq!(removed(&bench.batch(&[])).len(), 1);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 60_000);
}

#[test]
fn a_key_is_forgotten_a_day_after_its_last_tasks_end() {
    for tasks in [1, 2] {
        let mut bench = Bench::default();
        let key = crate::SubmissionKey { route: "/".into(), key: "k".into(), body_sha256: [0; 32] };
        let submission = crate::Submission { key: Some(key), ..bench.submission(vec![spec(); tasks]) };
        bench.batch(&[Input::Submit(submission)]);
        let attempts = starts(&bench.batch(&[]));
        bench.pass_ms(10 * DAY);
        bench.batch(&[]);
        assert_eq!(bench.store.remembered(), 1, "as long as they run");
        let reports: Vec<_> = attempts.iter().map(|it| report(*it, end(Outcome::Succeeded))).collect();
        bench.pass_ms(60_000);
        bench.batch(&reports);
        bench.pass_ms(DAY - 1);
        bench.batch(&[]);
        assert_eq!(bench.store.remembered(), 1, "not a moment early");
        bench.pass_ms(60_000);
        bench.batch(&[]);
        assert_eq!(bench.store.remembered(), 0, "of {tasks}");
    }
}

#[test]
fn where_room_runs_out_the_earliest_ends_go_before_their_time_but_never_within_the_hour() {
    let mut bench = Bench::default();
    let old = ended(&mut bench, 100);
    bench.pass_ms(HOUR);
    let young = ended(&mut bench, 100);
    assert_eq!(removed(&bench.batch(&[Input::Clean])), []);
    bench.pass_ms(1);
    assert_eq!(removed(&bench.batch(&[Input::Clean])), [old]);
    assert!(bench.store.task(young).is_some());
    let told = bench.store.events().last().unwrap().1.clone();
    assert_eq!((told.name, told.detail.as_deref()), (EventName::Cleaned, Some(r#"{"tasks":1}"#)));
}
