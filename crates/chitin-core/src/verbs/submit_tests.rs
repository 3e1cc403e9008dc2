//! submit, admit, enqueue: exact bounds, all or none, and keys that find their submission again.

use super::*;
use crate::testing::*;
use crate::{DeadReason, Input, Limits, Outcome, Start, SubmissionKey};

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

fn keyed(bench: &mut Bench, key: &str, body: u8) -> Submission {
    let key = SubmissionKey { route: "/v1/tasks".into(), key: key.into(), body_sha256: [body; 32] };
    Submission { key: Some(key), ..bench.submission(vec![spec()]) }
}

fn answer(bench: &mut Bench, submission: Submission) -> Answer {
    answers(&bench.batch(&[Input::Submit(submission)]))[0].clone()
}

fn in_queue(name: &str) -> TaskSpec {
    TaskSpec { queue: QueueName::new(name).unwrap(), ..spec() }
}

#[test]
fn the_bound_of_tasks_is_exact_within_a_batch_and_over_batches() {
    let mut bench = Bench::new(limits(|limits| {
        limits.waiting_tasks = 5;
        limits.running_tasks = 1;
    }));
    let three = Input::Submit(bench.submission(vec![spec(); 3]));
    let third = Input::Submit(bench.submission(vec![spec(); 3]));
    let two = Input::Submit(bench.submission(vec![spec(); 2]));
    let one = Input::Submit(bench.submission(vec![spec()]));
    let outputs = bench.batch(&[three, third, two, one.clone()]);
    let [first, second, third, fourth] = answers(&outputs)[..] else { panic!("{outputs:?}") };
    assert!(matches!(first, Answer::Accepted { .. }));
    assert_eq!(second, &Answer::Refused(Refusal::QueueFull { waiting: 3, limit: 5 }), "three do not fit");
    assert!(matches!(third, Answer::Accepted { .. }), "but two do");
    assert_eq!(fourth, &Answer::Refused(Refusal::QueueFull { waiting: 5, limit: 5 }));
    assert_eq!(bench.store.tasks().count(), 5);

    bench.batch(&[]);
    assert_eq!((bench.core.figures().waiting, bench.core.figures().running), (4, 1));
    assert!(matches!(answers(&bench.batch(&[one]))[0], Answer::Accepted { .. }), "what runs does not wait");
}

#[test]
fn what_comes_back_from_running_always_enters_and_then_submissions_wait() {
    let mut bench = Bench::new(limits(|limits| {
        limits.waiting_tasks = 1;
        limits.running_tasks = 1;
    }));
    let first = bench.running(spec());
    bench.submit(spec());
    let second = starts(&bench.batch(&[report(first, end(Outcome::Failed))]))[0];
    assert_eq!(bench.core.figures().waiting, 1, "the first waits, the second has its slot");
    bench.batch(&[report(second, end(Outcome::Failed))]);
    assert_eq!(bench.core.figures().waiting, 2, "above the bound, and in");
    let submission = bench.submission(vec![spec()]);
    let refused = Answer::Refused(Refusal::QueueFull { waiting: 2, limit: 1 });
    assert_eq!(answer(&mut bench, submission), refused);
}

#[test]
fn the_bound_of_bytes_is_exact() {
    let own = spec().payload.bytes();
    let mut bench = Bench::new(limits(|limits| limits.waiting_bytes = 3 * own));
    bench.core.set_dispatch(crate::Dispatch::Paused);
    let two = bench.submission(vec![spec(); 2]);
    assert!(matches!(answer(&mut bench, two), Answer::Accepted { .. }));
    let two = bench.submission(vec![spec(); 2]);
    let refused = Answer::Refused(Refusal::BytesFull { waiting: 2 * own, limit: 3 * own });
    assert_eq!(answer(&mut bench, two), refused);
    let one = bench.submission(vec![spec()]);
    assert!(matches!(answer(&mut bench, one), Answer::Accepted { .. }));
}

#[test]
fn a_submission_whose_turn_came_too_late_is_dropped() {
    let mut bench = Bench::default();
    let deadline = bench.now.boottime_ms + 1_000;
    let mut submit = |passed_ms| {
        bench.pass_ms(passed_ms);
        let submission = Submission { deadline_boottime_ms: deadline, ..bench.submission(vec![spec()]) };
        answer(&mut bench, submission)
    };
    assert!(matches!(submit(1_000), Answer::Accepted { .. }), "just in time");
    assert_eq!(submit(1), Answer::Refused(Refusal::TooLate));
    assert_eq!(bench.store.tasks().count(), 1);
}

#[test]
fn the_same_key_and_body_is_the_same_submission_for_ever() {
    let mut bench = Bench::default();
    let first = keyed(&mut bench, "k", 1);
    let id = first.tasks[0].0;
    let again = keyed(&mut bench, "k", 1);
    let outputs = bench.batch(&[Input::Submit(first), Input::Submit(again)]);
    let replayed = |state| Answer::Replayed { ids: vec![id], state };
    assert_eq!(answers(&outputs)[1], &replayed(TaskState::Queued), "in the same batch");

    let attempt = starts(&bench.batch(&[]))[0];
    let again = keyed(&mut bench, "k", 1);
    assert_eq!(answer(&mut bench, again), replayed(TaskState::Running), "in a later one");

    let fatal = crate::AttemptEnd { non_retryable: true, ..end(Outcome::Failed) };
    bench.batch(&[report(attempt, fatal)]);
    let delete = bench.delete(id);
    bench.batch(&[delete]);
    let again = keyed(&mut bench, "k", 1);
    let dead = replayed(TaskState::Dead(DeadReason::NonRetryable));
    assert_eq!(answer(&mut bench, again), dead, "after its deletion");
    bench.boot("boot-b");
    let again = keyed(&mut bench, "k", 1);
    assert_eq!(answer(&mut bench, again), dead, "in another life");
    assert_eq!(bench.store.tasks().count(), 0);
}

#[test]
fn the_same_key_with_another_body_is_refused_and_stores_nothing() {
    let mut bench = Bench::default();
    let first = keyed(&mut bench, "k", 1);
    let other = keyed(&mut bench, "k", 2);
    let outputs = bench.batch(&[Input::Submit(first), Input::Submit(other)]);
    assert_eq!(answers(&outputs)[1], &Answer::Refused(Refusal::KeyMismatch));
    assert_eq!(bench.store.tasks().count(), 1);
}

#[test]
fn a_key_is_its_principals_and_its_routes_own() {
    let mut bench = Bench::default();
    let first = keyed(&mut bench, "k", 1);
    let bert = Submission { principal: "bert".into(), ..keyed(&mut bench, "k", 2) };
    let mut bulk = keyed(&mut bench, "k", 3);
    bulk.key.as_mut().unwrap().route = "/v1/tasks/bulk".into();
    for submission in [first, bert, bulk] {
        assert!(matches!(answer(&mut bench, submission), Answer::Accepted { .. }));
    }
    assert_eq!(bench.store.tasks().count(), 3);
}

#[test]
fn a_refusal_is_not_remembered() {
    let mut bench = Bench::new(limits(|limits| limits.waiting_tasks = 1));
    let waits = bench.submit(TaskSpec { start: Start::After(1_000), ..spec() });
    let refused = keyed(&mut bench, "k", 1);
    assert!(matches!(answer(&mut bench, refused.clone()), Answer::Refused(_)));
    let cancel = bench.cancel(waits);
    bench.batch(&[cancel]);
    assert!(matches!(answer(&mut bench, refused), Answer::Accepted { .. }));
}

#[test]
fn a_remembered_submission_is_answered_even_when_nothing_fits_any_more() {
    let mut bench = Bench::new(limits(|limits| limits.waiting_tasks = 1));
    let first = keyed(&mut bench, "k", 1);
    bench.batch(&[Input::Submit(first)]);
    let again = keyed(&mut bench, "k", 1);
    assert!(matches!(answer(&mut bench, again), Answer::Replayed { .. }));
}

#[test]
fn many_are_accepted_together_or_not_at_all_and_a_refusal_leaves_no_trace() {
    let mut bench = Bench::new(limits(|limits| {
        limits.queues = 2;
        limits.waiting_tasks = 3;
    }));
    let stored = bench.store.clone();
    let names = Submission {
        key: keyed(&mut bench, "k", 1).key,
        principal: "nobody-knows".into(),
        ..bench.submission(vec![in_queue("default"), in_queue("one"), in_queue("two")])
    };
    let refused = Answer::Refused(Refusal::TooManyQueues { limit: 2 });
    assert_eq!(answer(&mut bench, names), refused);
    let many = bench.submission(vec![in_queue("one"); 4]);
    assert!(matches!(answer(&mut bench, many), Answer::Refused(Refusal::QueueFull { .. })));
    assert_eq!(bench.store, stored, "no task, no queue, no principal, no key");

    let two_of_one = bench.submission(vec![in_queue("one"), in_queue("one"), spec()]);
    let ids: Vec<_> = two_of_one.tasks.iter().map(|(id, _)| *id).collect();
    assert_eq!(answer(&mut bench, two_of_one), Answer::Accepted { ids, state: TaskState::Queued });
    assert_eq!(bench.store.all_queues().count(), 2);
}

#[test]
fn a_known_queue_can_be_used_when_no_further_one_can_be_made() {
    let mut bench = Bench::new(limits(|limits| limits.queues = 1));
    bench.submit(spec());
    let other = bench.submission(vec![in_queue("other")]);
    assert_eq!(answer(&mut bench, other), Answer::Refused(Refusal::TooManyQueues { limit: 1 }));
}

#[test]
fn a_submission_of_nothing_takes_no_place_in_the_sequence() {
    let mut bench = Bench::default();
    let nothing = Submission { tasks: vec![], ..keyed(&mut bench, "empty", 1) };
    let something = keyed(&mut bench, "k", 1);
    let outputs = bench.batch(&[Input::Submit(nothing), Input::Submit(something)]);
    assert!(answers(&outputs).iter().all(|answer| matches!(answer, Answer::Accepted { .. })));
    assert_eq!(bench.store.remembered(), 1, "there is nothing to remember of nothing");
}

#[test]
fn the_sequence_never_goes_back_not_even_over_deletions_and_lives() {
    let mut bench = Bench::default();
    let first = bench.submit(spec());
    let seq = bench.row(first).seq;
    let (cancel, delete) = (bench.cancel(first), bench.delete(first));
    bench.batch(&[cancel, delete]);
    bench.boot("boot-b");
    let second = bench.submit(spec());
    assert_eq!(bench.row(second).seq, seq.next());
}

fn of(bench: &mut Bench, client: &str, tasks: usize) -> Answer {
    let submission = Submission { principal: client.into(), ..bench.submission(vec![spec(); tasks]) };
    answer(bench, submission)
}

#[test]
fn one_client_may_fill_the_queue_until_another_wants_in_and_then_what_drains_is_shared() {
    let mut bench = Bench::new(limits(|limits| limits.waiting_tasks = 10));
    bench.core.set_dispatch(crate::Dispatch::Paused);
    assert!(matches!(of(&mut bench, "flood", 10), Answer::Accepted { .. }), "while nobody else waits");
    let full = Answer::Refused(Refusal::QueueFull { waiting: 10, limit: 10 });
    assert_eq!(of(&mut bench, "flood", 1), full);
    assert_eq!(of(&mut bench, "trickle", 1), full);
    // A place becomes free, and the flood is the first to ask for it.
    let ids: Vec<TaskId> = bench.store.tasks().map(|row| row.id).collect();
    let free = |bench: &mut Bench, at: usize| {
        let id = ids[at];
        bench.batch(&[Input::Cancel { to: crate::CommandId(0), id }]);
    };
    free(&mut bench, 0);
    assert_eq!(of(&mut bench, "flood", 1), Answer::Refused(Refusal::OverShare { waiting: 9, share: 5 }));
    assert!(matches!(of(&mut bench, "trickle", 1), Answer::Accepted { .. }));
    // It has what it wanted.
    free(&mut bench, 1);
    assert!(matches!(of(&mut bench, "flood", 1), Answer::Accepted { .. }));
    // Who has an equal share takes nobody else's.
    for at in 2..6 {
        assert_eq!(of(&mut bench, "trickle", 1), full);
        free(&mut bench, at);
        assert!(matches!(of(&mut bench, "flood", 1), Answer::Refused(Refusal::OverShare { .. })));
        assert!(matches!(of(&mut bench, "trickle", 1), Answer::Accepted { .. }));
    }
    assert_eq!(of(&mut bench, "trickle", 1), full);
    free(&mut bench, 6);
    assert!(matches!(of(&mut bench, "flood", 1), Answer::Accepted { .. }), "five each");
    assert_eq!(bench.core.figures().waiting, 10);
}
