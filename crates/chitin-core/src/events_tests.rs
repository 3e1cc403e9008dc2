//! What happened is told in full, in order, and by the same commit.

use super::*;
use crate::testing::*;
use crate::{CommitOutcome, Input, Limits, Outcome, Pace};

fn told(bench: &Bench) -> Vec<(&'static str, Option<u32>)> {
    let row = |row: &EventRow| (row.name.as_str(), row.attempt.map(|attempt| attempt.0));
    bench.store.events().map(|(_, event)| row(event)).collect()
}

#[test]
fn the_life_of_a_task_is_told_in_order() {
    let mut bench = Bench::default();
    let first = bench.running(spec());
    bench.batch(&[report(first, end(Outcome::Failed))]);
    bench.pass_ms(3_600_000);
    bench.batch(&[]);
    let again = starts(&bench.batch(&[]))[0];
    let cancel = bench.cancel(first.id);
    bench.batch(&[cancel]);
    bench.batch(&[report(again, end(Outcome::Cancelled))]);
    assert_eq!(
        told(&bench),
        [
            ("task.started", Some(1)),
            ("task.retrying", Some(1)),
            ("task.due", None),
            ("task.started", Some(2)),
            ("task.cancel_requested", Some(2)),
            ("task.cancelled", Some(2)),
        ]
    );
    assert!(bench.store.events().all(|(_, event)| event.task == Some(first.id) && event.after == Seq(1)));
}

#[test]
fn a_submission_costs_no_row_and_has_its_place_all_the_same() {
    let mut bench = Bench::default();
    bench.core.set_dispatch(crate::Dispatch::Paused);
    let first = bench.submit(spec());
    bench.submit(spec());
    assert_eq!(told(&bench), []);
    let cancel = bench.cancel(first);
    bench.batch(&[cancel]);
    bench.submit(spec());
    let after: Vec<_> = bench.store.events().map(|(no, event)| (no, event.after.0)).collect();
    assert_eq!(after, [(1, 2)], "after the second submission and before the third");
}

#[test]
fn what_was_rolled_back_is_not_told() {
    let mut bench = Bench::default();
    let attempt = bench.running(spec());
    let before = told(&bench);
    bench.batch_ending(&[report(attempt, end(Outcome::Succeeded))], CommitOutcome::RolledBack);
    assert_eq!(told(&bench), before);
}

#[test]
fn whoever_saw_something_has_it_written_down() {
    let mut bench = Bench::default();
    let tell = Input::Tell { name: EventName::ShedBegan, task: None, detail: "{}".into() };
    bench.batch(&[tell]);
    assert_eq!(told(&bench), [("shed.began", None)]);
}

#[test]
fn a_task_that_is_set_aside_has_its_end_told() {
    let mut bench = Bench::default();
    let id = bench.submit(spec());
    for _ in 0..3 {
        bench.boot_at(BOOT, Pace::OneByOne);
        bench.step(&Input::RecoverNext);
    }
    let (_, event) = bench.store.events().last().unwrap();
    assert_eq!((event.name, event.task), (EventName::TaskDead, Some(id)));
    assert_eq!(event.detail.as_deref(), Some(r#"{"reason":"poison"}"#));
}

#[test]
fn events_are_kept_for_a_bounded_time_and_number() {
    let mut bench = Bench::new(Limits { events: 3, ..Limits::default() });
    let tell = || Input::Tell { name: EventName::ShedBegan, task: None, detail: "{}".into() };
    bench.batch(&(0..10).map(|_| tell()).collect::<Vec<_>>());
    bench.pass_ms(60_000);
    bench.batch(&[]);
    assert_eq!(bench.store.events().map(|(no, _)| no).collect::<Vec<_>>(), [8, 9, 10]);
    bench.pass_ms(8 * 86_400_000);
    bench.batch(&[]);
    assert_eq!(
        bench.store.events().map(|(no, _)| no).collect::<Vec<_>>(),
        [10],
        "the newest holds the place"
    );
}

#[test]
fn names_are_unique_and_plain() {
    let names: std::collections::BTreeSet<_> = EventName::ALL.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), EventName::ALL.len());
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b"._".contains(&b))));
}
