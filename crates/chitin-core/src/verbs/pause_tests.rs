//! pause and resume: in every state, repeated, over restarts, and what becomes of the clocks.

use super::*;
use crate::testing::*;
use crate::{Dispatch, Input, Limits, Outcome, Refusal, Start, TaskSpec};

const HELD: TaskState = TaskState::Paused(PausedReason::Held);
const FROZEN: TaskState = TaskState::Paused(PausedReason::Frozen);

fn ask(bench: &mut Bench, id: TaskId, paused: bool) -> Vec<Output> {
    let to = bench.command();
    let outputs = bench.batch(&[Input::PauseTask { to, id, paused }]);
    assert_eq!(answers(&outputs), [&Answer::Done]);
    outputs
}

fn refused(bench: &mut Bench, id: TaskId, paused: bool) -> Conflict {
    let to = bench.command();
    match answers(&bench.batch(&[Input::PauseTask { to, id, paused }]))[..] {
        [Answer::Conflict(why)] => why.clone(),
        ref other => panic!("{other:?}"),
    }
}

fn told(outputs: &[Output]) -> Vec<(AttemptKey, bool)> {
    let told = |output: &Output| match output {
        Output::PauseAttempt { attempt, paused } => Some((*attempt, *paused)),
        _ => None,
    };
    outputs.iter().filter_map(told).collect()
}

#[test]
fn what_is_queued_is_held_until_it_is_resumed_also_in_other_lives() {
    let mut bench = Bench::default();
    bench.core.set_dispatch(Dispatch::Paused);
    let id = bench.submit(spec());
    for _ in 0..2 {
        assert_eq!(told(&ask(&mut bench, id, true)), [], "nothing runs of it");
        assert_eq!(bench.state(id), HELD);
    }
    bench.core.set_dispatch(Dispatch::On);
    bench.boot("boot-b");
    for _ in 0..3 {
        bench.pass_ms(1_000_000);
        assert_eq!(starts(&bench.batch(&[])), []);
    }
    assert_eq!((bench.state(id), bench.core.figures().held, bench.core.figures().waiting), (HELD, 1, 1));
    for _ in 0..2 {
        ask(&mut bench, id, false);
    }
    assert_eq!((bench.state(id), bench.core.figures().held), (TaskState::Running, 0));
}

#[test]
fn a_task_paused_in_a_batch_is_not_given_out_by_it() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    assert_eq!(starts(&ask(&mut bench, id, true)), []);
    assert_eq!(bench.state(id), HELD);
}

#[test]
fn held_tasks_count_against_the_queues_bound_and_frozen_ones_keep_their_slot() {
    let mut bench = Bench::new(Limits { waiting_tasks: 1, running_tasks: 1, ..Limits::default() });
    let attempt = bench.running(spec());
    ask(&mut bench, attempt.id, true);
    let held = bench.submit(spec());
    ask(&mut bench, held, true);
    let submission = bench.submission(vec![spec()]);
    let outputs = bench.batch(&[Input::Submit(submission)]);
    assert_eq!(answers(&outputs), [&Answer::Refused(Refusal::QueueFull { waiting: 1, limit: 1 })]);
    ask(&mut bench, held, false);
    assert_eq!(starts(&bench.batch(&[])), [], "the only slot is taken by what is frozen");
    let figures = bench.core.figures();
    assert_eq!((figures.waiting, figures.held, figures.running, figures.frozen), (1, 0, 1, 1));
}

#[test]
fn the_time_to_live_stands_still_and_the_time_to_start_passes() {
    let mut bench = Bench::default();
    bench.core.set_dispatch(Dispatch::Paused);
    let ttl_ms = spec().policy.ttl_ms;
    let id = bench.submit(spec());
    let before = bench.row(id).expires.unwrap();
    bench.pass_ms(ttl_ms / 2);
    ask(&mut bench, id, true);
    bench.pass_ms(5 * ttl_ms);
    bench.batch(&[]);
    assert_eq!(bench.state(id), HELD, "however long");
    ask(&mut bench, id, false);
    let after = bench.row(id).expires.unwrap();
    assert_eq!(after.wall_ms - before.wall_ms, 5 * ttl_ms, "later by the pause");
    bench.pass_ms(ttl_ms / 2 - 1);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Queued);
    bench.pass_ms(1);
    bench.batch(&[]);
    assert_eq!(bench.state(id), TaskState::Expired);

    let delayed = |bench: &mut Bench| bench.submit(TaskSpec { start: Start::After(10_000), ..spec() });
    let (early, late) = (delayed(&mut bench), delayed(&mut bench));
    for id in [early, late] {
        ask(&mut bench, id, true);
    }
    bench.pass_ms(4_000);
    ask(&mut bench, early, false);
    assert_eq!(bench.state(early), TaskState::Scheduled(ScheduledReason::Delay));
    bench.pass_ms(5_999);
    bench.batch(&[]);
    assert_eq!(bench.state(early), TaskState::Scheduled(ScheduledReason::Delay), "its time is as it was");
    bench.pass_ms(1);
    bench.batch(&[]);
    assert_eq!(bench.state(early), TaskState::Queued);
    ask(&mut bench, late, false);
    assert_eq!(bench.state(late), TaskState::Queued, "its time has passed");
}

#[test]
fn what_runs_is_frozen_and_goes_on_and_its_shim_is_told_once_a_change() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    assert_eq!(told(&ask(&mut bench, attempt.id, true)), [(attempt, true)]);
    assert_eq!(told(&ask(&mut bench, attempt.id, true)), []);
    assert_eq!((bench.state(attempt.id), bench.core.figures().frozen), (FROZEN, 1));
    assert_eq!(told(&ask(&mut bench, attempt.id, false)), [(attempt, false)]);
    assert_eq!(told(&ask(&mut bench, attempt.id, false)), []);
    assert_eq!((bench.state(attempt.id), bench.core.figures().frozen), (TaskState::Running, 0));
}

#[test]
fn a_new_gateway_asks_for_what_is_frozen_and_says_that_it_is() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    for paused in [true, false] {
        ask(&mut bench, attempt.id, paused);
        let asked = bench.boot(BOOT).into_iter().find(|it| matches!(it, Output::Recover { .. }));
        let recover = Output::Recover { attempt, cancel_requested: false, paused, same_boot: true };
        assert_eq!(asked, Some(recover));
    }
}

#[test]
fn an_attempt_that_ends_while_it_is_frozen_leaves_its_task_held_unless_it_is_the_end() {
    for (outcome, state) in [
        (Outcome::Succeeded, TaskState::Succeeded),
        (Outcome::WorkerLost, HELD),
        (Outcome::HostLost, HELD),
        // Nobody asked: the gateway took it away.
        (Outcome::Cancelled, HELD),
    ] {
        let mut bench = Bench::default();
        let attempt = bench.running(spec());
        ask(&mut bench, attempt.id, true);
        bench.batch(&[report(attempt, end(outcome))]);
        assert_eq!(bench.state(attempt.id), state, "{outcome}");
        if state == HELD {
            bench.pass_ms(1_000_000);
            assert_eq!(starts(&bench.batch(&[])), [], "it does not start by itself");
            ask(&mut bench, attempt.id, false);
            assert_eq!(bench.state(attempt.id), TaskState::Queued, "the wait for another try is over");
        }
    }
}

#[test]
fn a_try_that_is_waited_for_is_waited_for_again_when_its_task_goes_on_early() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    ask(&mut bench, attempt.id, true);
    bench.batch(&[report(attempt, end(Outcome::WorkerLost))]);
    ask(&mut bench, attempt.id, false);
    assert_eq!(bench.state(attempt.id), TaskState::Scheduled(ScheduledReason::Backoff));
    bench.pass_ms(1_000);
    bench.batch(&[]);
    assert_eq!(starts(&bench.batch(&[])).len(), 1);
}

#[test]
fn an_attempt_that_never_started_begins_again_and_is_frozen_at_once() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    ask(&mut bench, attempt.id, true);
    let outputs = bench.batch(&[Input::Voided { attempt }]);
    let order = outputs.iter().find_map(|it| if let Output::Start(order) = it { Some(order) } else { None });
    assert!(order.is_some_and(|order| order.paused && order.attempt.token != attempt.token));
    assert_eq!(bench.state(attempt.id), FROZEN);
}

#[test]
fn a_cancel_ends_what_is_held_and_lets_what_is_frozen_run_to_its_end() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    ask(&mut bench, attempt.id, true);
    let cancel = bench.cancel(attempt.id);
    let outputs = bench.batch(&[cancel.clone(), cancel]);
    let ends = outputs.iter().filter(|output| matches!(output, Output::EndAttempt { .. })).count();
    assert_eq!((ends, bench.state(attempt.id)), (1, TaskState::Running));
    assert_eq!(refused(&mut bench, attempt.id, true), Conflict::Ending, "what is to end is not held up");
    ask(&mut bench, attempt.id, false);
    bench.batch(&[report(attempt, end(Outcome::Cancelled))]);
    assert_eq!(bench.state(attempt.id), TaskState::Cancelled);

    bench.core.set_dispatch(Dispatch::Paused);
    let id = bench.submit(spec());
    ask(&mut bench, id, true);
    let cancel = bench.cancel(id);
    bench.batch(&[cancel]);
    assert_eq!((bench.state(id), bench.core.figures().waiting), (TaskState::Cancelled, 0));
}

#[test]
fn what_has_ended_or_is_not_there_is_a_conflict() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    for id in [attempt.id, bench.dead()] {
        let state = bench.state(id);
        for paused in [true, false] {
            assert_eq!(refused(&mut bench, id, paused), Conflict::State(state));
        }
        assert_eq!(bench.state(id), state);
    }
    let nobody = bench.id();
    assert_eq!(refused(&mut bench, nobody, true), Conflict::NoSuchTask);
}
