//! By hand: cancel, retry, delete and a queue's rest, in every state, and repeated.

use super::*;
use crate::testing::*;
use crate::{AttemptKey, DeadReason, Dispatch, Input, Limits, Outcome, Policy, Refusal, Start, TaskSpec};

fn answer(bench: &mut Bench, input: Input) -> Answer {
    answers(&bench.batch(&[input]))[0].clone()
}

fn conflict(state: TaskState) -> Answer {
    Answer::Conflict(Conflict::State(state))
}

fn ends(outputs: &[Output]) -> Vec<AttemptKey> {
    let end =
        |output: &Output| if let Output::EndAttempt { attempt } = output { Some(*attempt) } else { None };
    outputs.iter().filter_map(end).collect()
}

fn succeeded(bench: &mut Bench) -> TaskId {
    let attempt = bench.running(spec());
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    attempt.id
}

fn expired(bench: &mut Bench) -> TaskId {
    let delayed = TaskSpec { start: Start::After(1), ..spec() };
    let id = bench.submit(TaskSpec { policy: Policy { ttl_ms: 0, ..spec().policy }, ..delayed });
    bench.pass_ms(1);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Expired);
    id
}

#[test]
fn what_waits_ends_at_once_and_a_repeated_cancel_is_harmless() {
    let mut bench = Bench::default();
    bench.core.set_dispatch(Dispatch::Paused);
    let waiting = [Start::Now, Start::After(1_000), Start::At(i64::MAX)];
    for start in waiting {
        let id = bench.submit(TaskSpec { start, ..spec() });
        for _ in 0..2 {
            let cancel = bench.cancel(id);
            assert_eq!(answer(&mut bench, cancel), Answer::Done);
            assert_eq!(bench.state(id), TaskState::Cancelled);
        }
    }
    assert_eq!(bench.core.figures().waiting, 0);
}

#[test]
fn a_task_cancelled_in_a_batch_is_not_given_out_by_it() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    let cancel = bench.cancel(id);
    assert_eq!(starts(&bench.batch(&[cancel])), []);
    assert_eq!(bench.state(id), TaskState::Cancelled);
}

#[test]
fn a_task_given_out_earlier_in_the_transaction_is_asked_to_end_after_it_was_started() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    let cancel = bench.cancel(id);
    let outputs = bench.batch(&[Input::Tick, cancel]);
    assert_eq!(ends(&outputs), starts(&outputs));
    let at = |wanted: fn(&Output) -> bool| outputs.iter().position(wanted);
    assert!(at(|it| matches!(it, Output::Start(_))) < at(|it| matches!(it, Output::EndAttempt { .. })));
    assert!(bench.row(id).cancel_requested);
}

#[test]
fn what_runs_is_asked_once_and_ends_when_its_attempt_does() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let cancel = bench.cancel(attempt.id);
    let outputs = bench.batch(&[cancel.clone(), cancel.clone()]);
    assert_eq!(ends(&outputs), [attempt]);
    assert_eq!(answers(&outputs), [&Answer::Done, &Answer::Done]);
    assert_eq!(ends(&bench.batch(&[cancel])), [], "nor in a later batch");
    assert_eq!(bench.state(attempt.id), TaskState::Running);
    bench.batch(&[report(attempt, end(Outcome::Signalled))]);
    assert_eq!(bench.state(attempt.id), TaskState::Cancelled);
    assert_eq!(bench.core.figures().running, 0);
}

#[test]
fn a_cancel_of_what_has_ended_otherwise_is_a_conflict() {
    let mut bench = Bench::default();
    for id in [succeeded(&mut bench), expired(&mut bench), bench.dead()] {
        let (state, cancel) = (bench.state(id), bench.cancel(id));
        assert_eq!(answer(&mut bench, cancel), conflict(state));
        assert_eq!(bench.state(id), state);
    }
    let nobody = bench.id();
    let cancel = bench.cancel(nobody);
    assert_eq!(answer(&mut bench, cancel), Answer::Conflict(Conflict::NoSuchTask));
}

#[test]
fn a_retry_by_hand_is_a_new_round_with_new_counts_and_attempt_numbers_that_go_on() {
    let mut bench = Bench::default();
    let mut attempt = bench.running(spec());
    for wait_ms in [1_000, 5_000, 0] {
        bench.batch(&[report(attempt, end(Outcome::OomKilled))]);
        bench.pass_ms(wait_ms);
        bench.batch(&[]);
        attempt = starts(&bench.batch(&[])).first().copied().unwrap_or(attempt);
    }
    assert_eq!(bench.state(attempt.id), TaskState::Dead(DeadReason::Poison));
    let retry = bench.retry(attempt.id);
    let outputs = bench.batch(&[retry.clone(), retry]);
    assert_eq!(answers(&outputs), [&Answer::Done, &Answer::Done]);
    let row = bench.row(attempt.id);
    assert_eq!((row.round, row.retries, row.poison, row.attempt.0), (2, 0, 0, 3), "one new round, not two");
    assert_eq!((row.cancel_requested, row.ended_at_ms, row.due), (false, None, None));
    assert_eq!(row.expires, Some(Deadline::after(&bench.now, row.policy.ttl_ms)));

    let next = starts(&bench.batch(&[]))[0];
    assert_eq!((next.attempt.0, bench.attempt(next).round), (4, 2));
    bench.batch(&[report(next, end(Outcome::Failed))]);
    assert_eq!(bench.row(attempt.id).retries, 1, "the first retry of this round");
}

#[test]
fn each_end_but_success_can_be_retried_also_in_another_life() {
    for other_life in [false, true] {
        let mut bench = Bench::default();
        let cancelled = bench.submit(spec());
        let cancel = bench.cancel(cancelled);
        bench.batch(&[cancel]);
        let ended = [cancelled, expired(&mut bench), bench.dead()];
        let won = succeeded(&mut bench);
        if other_life {
            bench.boot("boot-b");
        }
        for id in ended {
            let retry = bench.retry(id);
            assert_eq!(answer(&mut bench, retry), Answer::Done);
            assert_eq!(bench.row(id).owner_epoch, bench.core.epoch());
            assert_eq!(bench.state(id), TaskState::Queued);
            assert!(!bench.row(id).cancel_requested, "an old wish does not end the new round");
        }
        let retry = bench.retry(won);
        assert_eq!(answer(&mut bench, retry), conflict(TaskState::Succeeded));
    }
}

#[test]
fn a_retry_by_hand_is_an_admission_like_any_other() {
    let mut bench = Bench::new(Limits { waiting_tasks: 1, ..Limits::default() });
    let id = bench.dead();
    bench.core.set_dispatch(Dispatch::Paused);
    bench.submit(spec());
    let kept = bench.core.figures().kept_bytes;
    let retry = bench.retry(id);
    let full = Answer::Refused(Refusal::QueueFull { waiting: 1, limit: 1 });
    assert_eq!(answer(&mut bench, retry), full);
    assert_eq!(bench.core.figures().kept_bytes, kept);
}

#[test]
fn a_retried_tasks_key_is_remembered_until_its_new_end() {
    let mut bench = Bench::default();
    let key = crate::SubmissionKey { route: "/".into(), key: "k".into(), body_sha256: [0; 32] };
    let submission = crate::Submission { key: Some(key), ..bench.submission(vec![spec()]) };
    let id = submission.tasks[0].0;
    bench.batch(&[Input::Submit(submission)]);
    let (cancel, retry) = (bench.cancel(id), bench.retry(id));
    bench.batch(&[cancel]);
    bench.batch(&[retry]);
    bench.batch(&[]);
    bench.pass_ms(2 * 86_400_000);
    bench.batch(&[]);
    assert_eq!(bench.store.remembered(), 1, "it runs, though its first end was two days ago");
}

#[test]
fn only_what_has_ended_can_be_deleted_and_its_bytes_and_files_go() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let delete = bench.delete(attempt.id);
    assert_eq!(answer(&mut bench, delete.clone()), conflict(TaskState::Running));
    let produced = crate::Produced { result: Some(result(b"42")), ..crate::Produced::default() };
    bench.batch(&[Input::ShimReport { attempt, end: end(Outcome::Succeeded), produced }]);
    assert_ne!(bench.core.figures().kept_bytes, 0);
    let outputs = bench.batch(std::slice::from_ref(&delete));
    assert!(outputs.contains(&Output::RemoveFiles { id: attempt.id }));
    assert_eq!(answers(&outputs), [&Answer::Done]);
    assert_eq!(bench.core.figures().kept_bytes, 0);
    assert_eq!(
        (bench.store.tasks().count(), bench.store.attempts().count(), bench.store.results().count()),
        (0, 0, 0)
    );
    assert_eq!(answer(&mut bench, delete), Answer::Conflict(Conflict::NoSuchTask));
}

#[test]
fn ended_and_deleted_in_one_batch_keeps_nothing() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    let (cancel, delete) = (bench.cancel(id), bench.delete(id));
    assert_eq!(answers(&bench.batch(&[cancel, delete])), [&Answer::Done, &Answer::Done]);
    assert_eq!(bench.core.figures().kept_bytes, 0);
    assert_eq!(bench.core.figures().waiting, 0);
}

#[test]
fn a_paused_queue_gives_nothing_out_but_counts_and_does_not_spin() {
    let mut bench = Bench::default();
    let pause = bench.pause_queue("default", true);
    assert_eq!(answer(&mut bench, pause.clone()), Answer::Done);
    let id = bench.submit(spec());
    let other = TaskSpec { queue: QueueName::new("other").unwrap(), ..spec() };
    let other = bench.submit(other);
    assert_eq!(starts(&bench.batch(&[pause])).iter().map(|it| it.id).collect::<Vec<_>>(), [other]);
    assert_eq!(bench.state(id), TaskState::Queued);
    assert_eq!(bench.core.figures().queues[0], ("default".to_owned(), true, 1, 0));
    assert_ne!(bench.core.next_wake_ms(&bench.now), 0);

    bench.boot("boot-b");
    assert_eq!(starts(&bench.batch(&[])), [], "in the next life too");
    let resume = bench.pause_queue("default", false);
    assert_eq!(starts(&bench.batch(&[resume])).len(), 1, "and goes on in the very batch that lets it");
    let nowhere = bench.pause_queue("nowhere", true);
    assert_eq!(answer(&mut bench, nowhere), Answer::Conflict(Conflict::NoSuchQueue));
}
