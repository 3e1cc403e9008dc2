//! The loop: nothing becomes true without its commit, and a dropped batch leaves no trace.

use super::*;
use crate::testing::*;
use crate::{Answer, Outcome, Refusal, TaskId, TaskSpec, TaskState};

/// Some of everything: submissions up to the bound, a report, a cancel, a retry, a deletion, a queue's pause.
fn mixed(bench: &mut Bench) -> Vec<Input> {
    let attempt = bench.running(spec());
    let (dead, gone, waiting) = (bench.dead(), bench.dead(), bench.submit(spec()));
    let own_queue = TaskSpec { queue: crate::QueueName::new("own").unwrap(), ..spec() };
    let mut inputs = vec![report(attempt, end(Outcome::Failed))];
    inputs.extend([bench.cancel(waiting), bench.retry(dead), bench.delete(gone)]);
    inputs.push(bench.pause_queue("default", true));
    for principal in ["anna", "bert", "cleo"] {
        let submission = bench.submission(vec![spec(), own_queue.clone()]);
        inputs.push(Input::Submit(crate::Submission { principal: principal.into(), ..submission }));
    }
    inputs
}

fn bounded() -> Limits {
    Limits { waiting_tasks: 6, queues: 2, ..Limits::default() }
}

#[test]
fn a_batch_that_was_not_committed_says_nothing_and_changes_nothing() {
    for outcome in [CommitOutcome::RolledBack, CommitOutcome::Unknown] {
        let mut bench = Bench::new(bounded());
        let inputs = mixed(&mut bench);
        let (figures, stored) = (bench.core.figures(), bench.store.clone());
        let wake_ms = bench.core.next_wake_ms(&bench.now);
        assert_eq!(bench.batch_ending(&inputs, outcome), []);
        assert_eq!(bench.core.figures(), figures);
        assert_eq!(bench.core.next_wake_ms(&bench.now), wake_ms);
        assert_eq!(bench.store, stored);
    }
}

#[test]
fn run_one_by_one_after_a_rollback_each_command_does_what_it_does_alone() {
    let alone = |rolled_back: bool| {
        let mut bench = Bench::new(bounded());
        let inputs = mixed(&mut bench);
        if rolled_back {
            for _ in 0..3 {
                bench.batch_ending(&inputs, CommitOutcome::RolledBack);
            }
        }
        let answers: Vec<Vec<Answer>> = inputs
            .iter()
            .map(|input| answers(&bench.batch(std::slice::from_ref(input))).into_iter().cloned().collect())
            .collect();
        let rows: Vec<_> = bench.store.tasks().cloned().collect();
        let queues: Vec<_> = bench.store.all_queues().cloned().collect();
        (answers, rows, queues, bench.core.figures())
    };
    assert_eq!(alone(true), alone(false));
}

#[test]
fn nothing_is_said_before_the_commit() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![spec()]);
    let mut tx = bench.store.begin();
    let input = Input::Submit(submission);
    bench.core.step(&bench.now, &mut Counter::default(), &input, &mut tx).unwrap();
    drop(tx);
    assert_eq!(bench.core.figures().waiting, 0, "figures are committed ones");
    assert_eq!(bench.core.finish(CommitOutcome::RolledBack), []);
}

#[test]
fn a_store_that_fails_in_the_middle_of_a_batch_costs_the_batch_and_nothing_else() {
    let mut bench = Bench::default();
    let double = bench.submission(vec![spec()]);
    let inputs = [Input::Submit(double.clone()), Input::Submit(double)];
    let mut tx = bench.store.begin();
    let results = inputs.map(|it| bench.core.step(&bench.now, &mut Counter::default(), &it, &mut tx).is_ok());
    assert_eq!(results, [true, false], "an id cannot be given twice");
    drop(tx);
    assert_eq!(bench.core.finish(CommitOutcome::RolledBack), []);
    assert_eq!(bench.core.figures(), Figures { queues: bench.core.figures().queues, ..Figures::default() });
    bench.submit(spec());
    assert_eq!(bench.store.tasks().map(|row| row.seq).collect::<Vec<_>>(), [Seq(1)]);
}

#[test]
fn everybodys_turns_are_given_back_with_the_batch() {
    let order = |rolled_back: bool| {
        let mut bench = Bench::new(Limits { running_tasks: 1, ..Limits::default() });
        let mut one_each = Vec::new();
        for principal in ["anna", "anna", "bert", "bert"] {
            let submission = bench.submission(vec![spec()]);
            one_each.push(Input::Submit(crate::Submission { principal: principal.into(), ..submission }));
        }
        bench.batch(&one_each);
        if rolled_back {
            bench.batch_ending(&[], CommitOutcome::RolledBack);
        }
        let mut order: Vec<TaskId> = Vec::new();
        let mut started = starts(&bench.batch(&[]));
        while let Some(attempt) = started.first().copied() {
            order.push(attempt.id);
            started = starts(&bench.batch(&[report(attempt, end(Outcome::Succeeded))]));
        }
        order
    };
    assert_eq!(order(true).len(), 4);
    assert_eq!(order(true), order(false));
}

#[test]
fn the_last_free_place_goes_once() {
    let mut bench = Bench::new(bounded());
    bench.core.set_dispatch(Dispatch::Paused);
    let submissions: Vec<_> = (0..10).map(|_| Input::Submit(bench.submission(vec![spec()]))).collect();
    let outputs = bench.batch(&submissions);
    let accepted = |it: &&&Answer| matches!(it, Answer::Accepted { state: TaskState::Queued, .. });
    assert_eq!(answers(&outputs).iter().filter(accepted).count(), 6);
    let full = Answer::Refused(Refusal::QueueFull { waiting: 6, limit: 6 });
    assert_eq!(answers(&outputs)[9], &full);
}
