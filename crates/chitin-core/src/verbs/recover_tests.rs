//! recover: what runs is asked after, not started again; what waits waits on.

use super::*;
use crate::testing::*;
use crate::{Answer, DeadReason, Input, Outcome, Refusal, Start, Suspect, TaskSpec, TaskState};

#[test]
fn what_runs_is_asked_after_with_its_wish_to_end_and_never_started_again() {
    let mut bench = Bench::default();
    let [plain, unwanted] = [bench.running(spec()), bench.running(spec())];
    let cancel = bench.cancel(unwanted.id);
    bench.batch(&[cancel]);
    for boot_id in [BOOT, "boot-b", "boot-b"] {
        assert_eq!(
            bench.boot(boot_id),
            [
                Output::Recover {
                    attempt: plain,
                    cancel_requested: false,
                    paused: false,
                    same_boot: boot_id == BOOT
                },
                Output::Recover {
                    attempt: unwanted,
                    cancel_requested: true,
                    paused: false,
                    same_boot: boot_id == BOOT
                },
            ]
        );
        assert_eq!(bench.batch(&[]), []);
        assert_eq!(bench.core.figures().running, 2);
    }
}

#[test]
fn after_a_void_the_new_token_is_asked_after() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    let second = starts(&bench.batch(&[Input::Voided { attempt: first }]))[0];
    assert_eq!(
        bench.boot(BOOT),
        [Output::Recover { attempt: second, cancel_requested: false, paused: false, same_boot: true }]
    );
}

#[test]
fn each_life_has_an_epoch_of_its_own_and_each_boot_a_number() {
    let mut bench = Bench::default();
    let mut lives = vec![(bench.core.epoch().0, bench.core.boot_no().0)];
    for boot_id in [BOOT, "boot-b", BOOT] {
        bench.boot(boot_id);
        lives.push((bench.core.epoch().0, bench.core.boot_no().0));
    }
    assert_eq!(lives, [(1, 1), (2, 1), (3, 2), (4, 1)]);
}

#[test]
fn a_new_life_counts_what_the_old_one_left() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    bench.batch(&[report(attempt, end(Outcome::Succeeded))]);
    bench.running(spec());
    bench.submit(TaskSpec { start: Start::After(1_000), ..spec() });
    let figures = bench.core.figures();
    assert_eq!((figures.waiting, figures.running), (1, 1));
    assert_ne!(figures.kept_bytes, 0);
    bench.boot("boot-b");
    assert_eq!(bench.core.figures(), figures);
}

#[test]
fn more_open_tasks_than_a_page_are_all_found() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![spec(); PAGE + 1]);
    bench.batch(&[Input::Submit(submission)]);
    bench.boot(BOOT);
    assert_eq!(bench.core.figures().waiting, 1_001);
    let last = bench.store.tasks().last().unwrap().id;
    let cancel = bench.cancel(last);
    bench.batch(&[cancel]);
    assert_eq!(bench.state(last), TaskState::Cancelled);
}

/// Takes up what is open until nothing is left; what the world was asked to do.
fn one_by_one(bench: &mut Bench) -> Vec<Output> {
    let mut outputs = bench.boot_at(BOOT, Pace::OneByOne);
    for _ in 0..100 {
        if !bench.core.is_recovering() {
            return outputs;
        }
        outputs.extend(bench.step(&Input::RecoverNext));
    }
    panic!("it does not end");
}

/// A life that ends after so many steps.
fn dies_after(bench: &mut Bench, steps: usize) {
    bench.boot_at(BOOT, Pace::OneByOne);
    for _ in 0..steps {
        bench.step(&Input::RecoverNext);
    }
}

#[test]
fn one_by_one_comes_to_the_same_as_at_once() {
    let mut bench = Bench::default();
    bench.running(spec());
    bench.submit(TaskSpec { start: Start::After(1_000), ..spec() });
    bench.running(spec());
    bench.submit(TaskSpec { start: Start::After(2_000), ..spec() });
    let (at_once, figures) = (bench.boot(BOOT), bench.core.figures());
    assert_eq!(one_by_one(&mut bench), at_once);
    assert_eq!(bench.core.figures(), figures);
    bench.index_agrees_with_the_store();
    assert_eq!(bench.store.begin().suspect(), Ok(None));
}

#[test]
fn nothing_is_given_out_until_everything_is_known() {
    let mut bench = Bench::default();
    let submission = bench.submission(vec![spec(), spec(), spec()]);
    bench.batch(&[Input::Submit(submission)]);
    bench.boot_at(BOOT, Pace::OneByOne);
    let mut steps = 0;
    while bench.core.is_recovering() {
        assert_eq!(starts(&bench.step(&Input::Tick)), []);
        bench.step(&Input::RecoverNext);
        steps += 1;
    }
    // One writes the first down, each further one tries one and writes the next down.
    assert_eq!(steps, 4);
    assert_eq!(starts(&bench.step(&Input::Tick)).len(), 3);
}

#[test]
fn nothing_new_waits_until_it_is_known_how_many_do() {
    let mut bench = Bench::new(crate::Limits { waiting_tasks: 2, ..crate::Limits::default() });
    bench.core.set_dispatch(crate::Dispatch::Paused);
    let ended = bench.submit(spec());
    let cancel = bench.cancel(ended);
    bench.batch(&[cancel]);
    bench.submit(spec());
    bench.submit(spec());
    bench.boot_at(BOOT, Pace::OneByOne);
    bench.core.set_dispatch(crate::Dispatch::Paused);
    let ask = |bench: &mut Bench| {
        let (to, submission) = (bench.command(), bench.submission(vec![spec()]));
        [Input::Retry { to, id: ended }, Input::Submit(submission)]
            .map(|input| answers(&bench.step(&input))[0].clone())
    };
    let mut steps = 0;
    while bench.core.is_recovering() {
        assert_eq!(ask(&mut bench), [const { Answer::Refused(Refusal::Recovering) }; 2]);
        bench.step(&Input::RecoverNext);
        steps += 1;
    }
    assert!(steps > 1);
    let full = Answer::Refused(Refusal::QueueFull { waiting: 2, limit: 2 });
    assert_eq!(ask(&mut bench), [full.clone(), full]);
}

#[test]
fn what_the_world_was_asked_about_a_running_task_is_done_before_the_next_is_written_down() {
    let mut bench = Bench::default();
    let [first, second] = [bench.running(spec()), bench.running(spec())];
    bench.boot_at(BOOT, Pace::OneByOne);
    let mut suspects = Vec::new();
    while bench.core.is_recovering() {
        let asked = bench.step(&Input::RecoverNext).len();
        suspects.push((bench.store.begin().suspect().unwrap().map(|suspect| suspect.seq), asked));
    }
    assert_eq!(
        suspects,
        [(Some(first.seq), 0), (Some(first.seq), 1), (Some(second.seq), 0), (Some(second.seq), 1), (None, 0)]
    );
}

#[test]
fn two_lives_that_end_at_the_same_task_set_it_aside_and_one_does_not() {
    let mut bench = Bench::default();
    let [one, two, three] = [bench.running(spec()), bench.running(spec()), bench.running(spec())];
    // Written down: the first, then the second, each with a trial between.
    dies_after(&mut bench, 1);
    dies_after(&mut bench, 3);
    assert_eq!(bench.store.begin().suspect(), Ok(Some(Suspect { seq: two.seq, lives: 0 })));
    assert_eq!(one_by_one(&mut bench).len(), 3, "a life may be ended by anything");
    dies_after(&mut bench, 3);
    dies_after(&mut bench, 4);
    assert_eq!(bench.store.begin().suspect(), Ok(Some(Suspect { seq: two.seq, lives: 1 })));

    let asked = one_by_one(&mut bench);
    let recovered = |output: &Output| match output {
        Output::Recover { attempt, .. } => Some(*attempt),
        _ => None,
    };
    assert_eq!(asked.iter().filter_map(recovered).collect::<Vec<_>>(), [one, three]);
    assert_eq!(bench.state(two.id), TaskState::Dead(DeadReason::Poison));
    assert_eq!(bench.state(one.id), TaskState::Running);
    let attempt = bench.store.attempts().find(|attempt| attempt.seq == two.seq).unwrap().clone();
    assert_eq!((attempt.outcome, attempt.ended_at_ms), (Some(Outcome::WorkerLost), Some(bench.now.wall_ms)));
    // Its shim, if there is one, is told to go, and a person may have it run again.
    let late = bench.batch(&[report(two, end(Outcome::Succeeded))]);
    assert_eq!(late, [Output::Settled { attempt: two, keep_logs: false }]);
    let retry = bench.retry(two.id);
    bench.batch(&[retry]);
    assert!(!bench.state(two.id).has_ended());
}

#[test]
fn a_life_that_takes_up_all_at_once_forgets_the_suspect() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    dies_after(&mut bench, 1);
    bench.boot(BOOT);
    dies_after(&mut bench, 1);
    assert_eq!(bench.store.begin().suspect(), Ok(Some(Suspect { seq: attempt.seq, lives: 0 })));
}

#[test]
fn a_task_that_ends_while_it_is_under_suspicion_is_passed_over() {
    let mut bench = Bench::default();
    let id = bench.submit(TaskSpec { start: Start::After(1_000), ..spec() });
    bench.boot_at(BOOT, Pace::OneByOne);
    bench.step(&Input::RecoverNext);
    let cancel = bench.cancel(id);
    bench.step(&cancel);
    bench.step(&Input::RecoverNext);
    assert!(!bench.core.is_recovering());
    assert_eq!(bench.core.figures().waiting, 0);
}
