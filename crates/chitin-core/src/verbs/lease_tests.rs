//! lease: never more than there are slots, only what is committed, and an attempt that never started costs nothing.

use super::*;
use crate::TaskState;
use crate::testing::*;
use crate::{AttemptNo, CommitOutcome, Dispatch, Input, Limits, Outcome};

fn slots(running_tasks: u64) -> Bench {
    Bench::new(Limits { running_tasks, ..Limits::default() })
}

#[test]
fn no_more_run_than_there_are_slots_and_each_ended_one_makes_room() {
    let mut bench = slots(2);
    for _ in 0..4 {
        bench.submit(spec());
    }
    assert_eq!(bench.core.figures().running, 2, "the first two went while the others came");
    assert_eq!(bench.batch(&[]), [], "no free slot");
    assert_ne!(bench.core.next_wake_ms(&bench.now), 0, "so there is nothing to do");
    let first = bench.store.attempts().next().cloned().unwrap();
    let id = bench.store.tasks().find(|row| row.seq == first.seq).unwrap().id;
    let key = AttemptKey { seq: first.seq, id, attempt: first.attempt, token: first.token };
    let outputs = bench.batch(&[report(key, end(Outcome::Succeeded))]);
    assert_eq!(starts(&outputs).len(), 1, "its slot is used in the same commit");
    assert_eq!(bench.core.figures().running, 2);
}

#[test]
fn an_attempt_is_stored_with_token_epoch_and_boot_before_it_is_started() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    let attempt = starts(&bench.batch(&[]))[0];
    let (row, lease) = (bench.row(id), bench.attempt(attempt));
    assert_eq!((row.state, row.attempt, row.expires), (TaskState::Running, AttemptNo(1), None));
    assert_eq!(
        (lease.token, lease.epoch, lease.boot),
        (attempt.token, bench.core.epoch(), bench.core.boot_no())
    );
    assert_eq!((lease.outcome, lease.round), (None, 1));
}

#[test]
fn nothing_is_given_out_before_it_is_committed() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![spec()]);
    assert_eq!(starts(&bench.batch(&[Input::Submit(submission)])), []);
    assert_eq!(bench.core.next_wake_ms(&bench.now), 0, "but at once after");
    assert_eq!(starts(&bench.batch_ending(&[], CommitOutcome::RolledBack)), []);
    assert_eq!(starts(&bench.batch(&[])).len(), 1);
}

#[test]
fn while_dispatch_is_paused_nothing_starts_and_nothing_spins() {
    let mut bench = Bench::default();
    bench.core.set_dispatch(Dispatch::Paused);
    bench.submit(spec());
    assert_eq!(bench.batch(&[]), []);
    assert_ne!(bench.core.next_wake_ms(&bench.now), 0);
    bench.core.set_dispatch(Dispatch::On);
    assert_eq!(starts(&bench.batch(&[])).len(), 1);
}

#[test]
fn an_attempt_that_never_started_is_the_same_attempt_under_a_new_token() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    bench.boot("boot-b");
    let outputs = bench.batch(&[Input::Voided { attempt: first }]);
    let second = starts(&outputs)[0];
    assert_eq!((second.id, second.attempt), (first.id, first.attempt));
    assert_ne!(second.token, first.token);
    let (row, lease) = (bench.row(first.id), bench.attempt(second));
    assert_eq!((row.retries, row.poison, row.attempt), (0, 0, AttemptNo(1)));
    assert_eq!(
        (lease.token, lease.epoch, lease.boot),
        (second.token, bench.core.epoch(), bench.core.boot_no())
    );
    assert_eq!(bench.store.attempts().count(), 1);

    let stored = bench.store.clone();
    for late in [Input::Voided { attempt: first }, report(first, end(Outcome::Succeeded))] {
        assert_eq!(bench.batch(&[late]), [], "the old token is worth nothing any more");
        assert_eq!(bench.store, stored);
    }
}

#[test]
fn a_void_after_the_end_changes_nothing() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    let stored = bench.store.clone();
    assert_eq!(bench.batch(&[Input::Voided { attempt }]), []);
    assert_eq!(bench.store, stored);
}

#[test]
fn a_gateway_that_was_succeeded_can_void_nothing() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let mut stale = Core::new(Limits::default());
    std::mem::swap(&mut stale, &mut bench.core);
    bench.boot(BOOT);
    let stored = bench.store.clone();
    let mut dice = Counter::default();
    for input in
        [Input::Voided { attempt }, report(attempt, end(Outcome::Succeeded)), bench.cancel(attempt.id)]
    {
        let mut tx = bench.store.begin();
        let fenced = stale.step(&bench.now, &mut dice, &input, &mut tx);
        assert!(matches!(fenced, Err(crate::model::ModelError::Fenced { .. })), "{input:?}: {fenced:?}");
        drop(tx);
        assert_eq!(stale.finish(CommitOutcome::RolledBack), []);
    }
    assert_eq!(bench.store, stored);
}

#[test]
fn an_attempt_that_never_started_and_is_not_wanted_any_more_ends() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let cancel = bench.cancel(attempt.id);
    bench.batch(&[cancel]);
    let outputs = bench.batch(&[Input::Voided { attempt }]);
    assert_eq!(starts(&outputs), []);
    assert!(outputs.contains(&Output::Settled { attempt, keep_logs: false }));
    assert_eq!(bench.state(attempt.id), TaskState::Cancelled);
    assert_eq!(bench.attempt(attempt).outcome, Some(Outcome::Cancelled));
}
