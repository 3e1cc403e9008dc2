//! recover: what runs is asked after, not started again; what waits waits on.

use super::*;
use crate::testing::*;
use crate::{Input, Outcome, Start, TaskSpec, TaskState};

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
                Output::Recover { attempt: plain, cancel_requested: false, same_boot: boot_id == BOOT },
                Output::Recover { attempt: unwanted, cancel_requested: true, same_boot: boot_id == BOOT },
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
        [Output::Recover { attempt: second, cancel_requested: false, same_boot: true }]
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
