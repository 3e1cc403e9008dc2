//! settle: the retry policy over every combination of what it looks at, and what a report may and may not change.

use super::*;
use crate::testing::*;
use crate::{Input, TaskState, Token};

/// A running task of the given history.
fn row(cancel_requested: bool, retries: u32, poison: u32) -> TaskRow {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    TaskRow { cancel_requested, retries, poison, ..bench.row(attempt.id) }
}

/// The policy in words, written apart from the code it is compared with.
fn expected(row: &TaskRow, end: &AttemptEnd, limits: &Limits) -> Event {
    let ours = end.put_back;
    let last_poison = end.outcome.is_poisonous() && u64::from(row.poison) + 1 == limits.poison_attempts;
    match end.outcome {
        Outcome::Succeeded => Event::Succeeded,
        _ if row.cancel_requested => Event::Cancelled,
        _ if ours => Event::PutBack,
        Outcome::Cancelled => Event::PutBack,
        _ if last_poison => Event::GaveUp(DeadReason::Poison),
        _ if end.non_retryable => Event::GaveUp(DeadReason::NonRetryable),
        _ if row.retries == row.policy.retry.max => Event::GaveUp(DeadReason::RetriesExhausted),
        _ => Event::Backoff,
    }
}

fn letter(event: Event) -> char {
    match event {
        Event::Succeeded => 'S',
        Event::Cancelled => 'C',
        Event::PutBack => 'Q',
        Event::Backoff => 'B',
        Event::GaveUp(DeadReason::Poison) => 'P',
        Event::GaveUp(DeadReason::NonRetryable) => 'N',
        Event::GaveUp(DeadReason::RetriesExhausted) => 'R',
        other => panic!("{other:?} is no verdict"),
    }
}

/// A cell holds the verdicts for 2, 1 and 0 retries left, each for 0, 1 and 2 poisoned attempts before.
#[test]
fn the_policy_over_the_whole_cross_product() {
    let limits = Limits::default();
    let base = row(false, 0, 0);
    let enough = u32::try_from(limits.poison_attempts).unwrap();
    let flags = |column: u32| (column & 1 > 0, column & 2 > 0, column & 4 > 0);
    let mut table = format!("{:12}", "");
    for column in 0..8 {
        let (cancel, put_back, fatal) = flags(column);
        let names = [(cancel, "cancel"), (put_back, "back"), (fatal, "fatal")];
        let names: Vec<_> = names.into_iter().filter(|(on, _)| *on).map(|(_, name)| name).collect();
        table.push_str(&format!("{:18}", names.join("+")));
    }
    for outcome in Outcome::ALL {
        table.push_str(&format!("\n{:12}", outcome.as_str()));
        for column in 0..8 {
            let (cancel_requested, put_back, non_retryable) = flags(column);
            let end = AttemptEnd { put_back, non_retryable, ..end(outcome) };
            let mut cell = String::new();
            for retries in 0..=base.policy.retry.max {
                for poison in 0..enough {
                    let row = TaskRow { cancel_requested, retries, poison, ..base.clone() };
                    let verdict = decide(&row, &end, &limits, 0);
                    let case = format!("{outcome} {column:03b} retries {retries} poison {poison}");
                    assert_eq!(verdict.event, expected(&row, &end, &limits), "{case}");
                    assert!(crate::next(TaskState::Running, verdict.event).is_ok(), "{case}");
                    let wait = if retries == 0 { 1_000 } else { 5_000 };
                    assert_eq!(verdict.wait_ms, (verdict.event == Event::Backoff).then_some(wait), "{case}");
                    let poisons =
                        [Outcome::OomKilled, Outcome::Signalled, Outcome::WorkerLost].contains(&outcome);
                    assert_eq!(verdict.poisoned, poisons && !put_back, "{case}");
                    cell.push(letter(verdict.event));
                }
                cell.push(' ');
            }
            table.push_str(&format!("{:18}", cell.trim_end()));
        }
    }
    let lines: Vec<_> = table.lines().map(str::trim_end).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_result_and_the_end_are_one_commit_and_belong_to_the_attempt_that_won() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let output = crate::StoredOutput { stdout: None, stderr: b"warned".to_vec(), interleave: b"12".to_vec() };
    let produced =
        Produced { result: Some(result(b"forty-two")), output: Some(output), log_bytes_in_files: 0 };
    let outputs = bench.batch(&[Input::ShimReport { attempt, end: end(Outcome::Succeeded), produced }]);

    let row = bench.row(attempt.id);
    assert_eq!(row.state, TaskState::Succeeded);
    assert_eq!(row.kept_bytes, 9 + 6 + 2, "result, error stream and their order");
    assert_eq!(bench.core.figures().kept_bytes, 17 + u64::try_from(row.payload_bytes).unwrap());
    let results: Vec<_> =
        bench.store.results().map(|(seq, round, by, it)| (seq, round, by, &it.body[..])).collect();
    assert_eq!(results, [(attempt.seq, 1, attempt.attempt, &b"forty-two"[..])]);
    assert_eq!(bench.attempt(attempt).outcome, Some(Outcome::Succeeded));
    assert_eq!(bench.attempt(attempt).logs, KeptLogs::Stored);
    assert!(outputs.contains(&Output::Settled { attempt, keep_logs: false }));
    assert!(outputs.contains(&Output::Changed { id: attempt.id, state: TaskState::Succeeded }));
}

#[test]
fn a_result_of_an_attempt_that_did_not_win_is_not_stored() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let produced = Produced { result: Some(result(b"half")), output: None, log_bytes_in_files: 12 };
    let outputs = bench.batch(&[Input::ShimReport { attempt, end: end(Outcome::Failed), produced }]);
    assert_eq!(bench.store.results().count(), 0);
    assert_eq!(bench.row(attempt.id).kept_bytes, 12, "only the logs");
    assert!(outputs.contains(&Output::Settled { attempt, keep_logs: true }), "whose files stay");
}

#[test]
fn a_report_that_comes_again_changes_nothing_but_lets_the_shim_go() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let produced = Produced { log_bytes_in_files: 1, ..Produced::default() };
    let first = Input::ShimReport { attempt, end: end(Outcome::Failed), produced };
    let again = Input::ShimReport { attempt, end: end(Outcome::Succeeded), produced: Produced::default() };
    let outputs = bench.batch(&[first, again.clone()]);
    let settled = Output::Settled { attempt, keep_logs: true };
    assert_eq!(outputs.iter().filter(|output| **output == settled).count(), 2, "in the same batch");
    let stored = bench.store.clone();
    assert_eq!(bench.batch(&[again]), [settled], "in a later one");
    assert_eq!(bench.store, stored);
}

#[test]
fn a_foreign_token_changes_nothing_and_is_not_answered() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let stored = bench.store.clone();
    let foreign = AttemptKey { token: Token([0xFF; 16]), ..attempt };
    let other_task = AttemptKey { id: bench.id(), ..attempt };
    let later = AttemptKey { attempt: attempt.attempt.next(), ..attempt };
    for key in [foreign, other_task, later] {
        assert_eq!(bench.batch(&[report(key, end(Outcome::Succeeded))]), []);
        assert_eq!(bench.store, stored, "{key:?}");
    }
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    assert_eq!(bench.batch(&[report(foreign, end(Outcome::Succeeded))]), [], "nor after the end");
}

#[test]
fn an_earlier_attempts_report_cannot_end_a_later_attempt() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    bench.batch(&[report(first, end(Outcome::Failed))]);
    bench.pass_ms(1_000);
    bench.batch(&[]);
    let second = starts(&bench.batch(&[]))[0];
    assert_eq!(second.attempt.0, 2);
    let stored = bench.store.clone();
    bench.batch(&[report(first, end(Outcome::Succeeded))]);
    assert_eq!(bench.store, stored);
    assert_eq!(bench.state(first.id), TaskState::Running);
}

#[test]
fn what_we_took_away_ourselves_runs_again_at_once_and_costs_nothing() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    bench.batch(&[report(first, AttemptEnd { put_back: true, ..end(Outcome::WorkerLost) })]);
    let row = bench.row(first.id);
    assert_eq!((row.state, row.retries, row.poison), (TaskState::Queued, 0, 0));
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0);
    let second = starts(&bench.batch(&[]))[0];
    assert_eq!(second.attempt.0, 2, "it was started, so its number is used up");
}

#[test]
fn an_end_that_nobody_asked_for_was_ours_whichever_life_hears_of_it() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    bench.batch(&[report(first, end(Outcome::Cancelled))]);
    let row = bench.row(first.id);
    assert_eq!((row.state, row.retries, row.poison), (TaskState::Queued, 0, 0));
    let attempt = bench.attempt(first);
    assert_eq!(attempt.outcome, Some(Outcome::WorkerLost));
    assert_eq!(attempt.error.as_deref(), Some("ended with the gateway; it will run again"));
    assert_eq!(starts(&bench.batch(&[]))[0].attempt.0, 2);
}

#[test]
fn a_failure_waits_its_backoff_and_the_last_one_is_the_end() {
    let mut bench = Bench::default();
    let mut attempt = bench.running(spec());
    for wait_ms in [1_000, 5_000] {
        bench.batch(&[report(attempt, end(Outcome::HostLost))]);
        assert_eq!(bench.state(attempt.id), TaskState::Scheduled(crate::ScheduledReason::Backoff));
        assert_eq!(bench.core.next_wake_ms(&bench.now), wait_ms);
        bench.pass_ms(wait_ms - 1);
        assert_eq!(bench.batch(&[]), []);
        bench.pass_ms(1);
        bench.batch(&[]);
        attempt = starts(&bench.batch(&[]))[0];
    }
    bench.batch(&[report(attempt, end(Outcome::HostLost))]);
    assert_eq!(bench.state(attempt.id), TaskState::Dead(DeadReason::RetriesExhausted));
    assert_eq!(bench.row(attempt.id).poison, 0, "a lost machine is nobody's poison");
}

#[test]
fn poison_is_counted_per_round_and_goes_before_patience() {
    let mut bench = Bench::default();
    let patient = crate::RetryPolicy { max: 9, backoff_ms: vec![], jitter: crate::Jitter::NONE };
    let spec = crate::TaskSpec { policy: crate::Policy { retry: patient, ..spec().policy }, ..spec() };
    let mut attempt = bench.running(spec);
    for outcome in [Outcome::OomKilled, Outcome::Failed, Outcome::WorkerLost] {
        bench.batch(&[report(attempt, end(outcome))]);
        bench.batch(&[]);
        attempt = starts(&bench.batch(&[]))[0];
    }
    bench.batch(&[report(attempt, end(Outcome::Signalled))]);
    assert_eq!(bench.state(attempt.id), TaskState::Dead(DeadReason::Poison));
    let retry = bench.retry(attempt.id);
    bench.batch(&[retry]);
    assert_eq!(bench.row(attempt.id).poison, 0);
}

fn evict(attempt: AttemptKey) -> Input {
    Input::Evict { attempt, why: "evicted: too much".into(), detail: r#"{"memory_bytes":1}"#.into() }
}

#[test]
fn an_evicted_attempt_costs_nothing_however_it_ends() {
    for outcome in Outcome::ALL.into_iter().filter(|outcome| *outcome != Outcome::Succeeded) {
        for non_retryable in [false, true] {
            let mut bench = Bench::default();
            let attempt = bench.running(spec());
            let outputs = bench.batch(&[evict(attempt)]);
            assert!(outputs.contains(&Output::Evict { attempt }), "told after its intent is committed");
            let end = AttemptEnd { non_retryable, ..end(outcome) };
            bench.batch(&[report(attempt, end)]);
            let row = bench.row(attempt.id);
            assert_eq!((row.state, row.retries, row.poison), (TaskState::Queued, 0, 0), "{outcome}");
            let lease = bench.attempt(attempt);
            assert_eq!(lease.outcome, Some(Outcome::WorkerLost));
            assert_eq!(lease.error.as_deref(), Some("evicted: too much"));
            assert_eq!(starts(&bench.batch(&[])).len(), 1, "it runs again at once");
        }
    }
}

#[test]
fn an_eviction_takes_neither_a_result_nor_a_wish() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[evict(attempt)]);
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    assert_eq!(bench.state(attempt.id), TaskState::Succeeded, "it was quicker");
    assert_eq!(bench.attempt(attempt).outcome, Some(Outcome::Succeeded));

    let attempt = bench.running(spec());
    let cancel = bench.cancel(attempt.id);
    bench.batch(&[evict(attempt), cancel]);
    bench.batch(&[report(attempt, end(Outcome::Cancelled))]);
    assert_eq!(bench.state(attempt.id), TaskState::Cancelled);

    let attempt = bench.running(spec());
    let cancel = bench.cancel(attempt.id);
    bench.batch(&[cancel]);
    assert!(!bench.batch(&[evict(attempt)]).contains(&Output::Evict { attempt }), "it is ending already");
    bench.batch(&[report(attempt, end(Outcome::Cancelled))]);
    let gone = bench.batch(&[evict(attempt)]);
    assert!(!gone.contains(&Output::Evict { attempt }), "it has ended");
}

#[test]
fn an_eviction_that_was_not_carried_out_is_found_again() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[evict(attempt)]);
    let outputs = bench.boot(BOOT);
    let asked = Output::Recover { attempt, cancel_requested: true, paused: false, same_boot: true };
    assert!(outputs.contains(&asked), "{outputs:?}");
    bench.batch(&[Input::Voided { attempt }]);
    let lease = bench.attempt(attempt);
    assert_eq!((lease.evicted, lease.error), (false, None), "it never started");
}
