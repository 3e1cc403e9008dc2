//! What is told, and for how long it is kept.

use super::*;

pub(crate) fn event(at_ms: i64, name: EventName) -> EventRow {
    EventRow {
        after: Seq(1),
        at_ms,
        name,
        task: Some(id(1)),
        attempt: Some(AttemptNo(1)),
        detail: Some("{}".to_owned()),
    }
}

fn tell<S: StoreUnderTest>(store: &mut S, at_ms: i64, name: EventName) {
    change(store, |tx| tx.insert_event(&event(at_ms, name)).unwrap());
}

pub(crate) fn events_stand_behind_one_another_over_lives<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    tell(&mut store, 10, EventName::TaskStarted);
    look(&mut store, |tx| tx.insert_event(&event(20, EventName::TaskDead)).unwrap());
    tell(&mut store, 30, EventName::TaskRetrying);
    store.reopen();
    tell(&mut store, 5, EventName::TaskSucceeded);
    assert_eq!(store.events(), [(1, "task.started"), (2, "task.retrying"), (3, "task.succeeded")]);
}

pub(crate) fn the_earliest_events_go_by_number_and_by_age_but_never_the_newest<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    (1..=6).for_each(|at_ms| tell(&mut store, at_ms, EventName::ShedBegan));
    let sweep = |store: &mut S, before_ms, keep, limit| {
        let gone = change(store, |tx| tx.sweep_events(before_ms, keep, limit).unwrap());
        (gone, store.events().first().map(|(no, _)| *no))
    };
    assert_eq!(sweep(&mut store, 0, 100, 100), (0, Some(1)));
    assert_eq!(sweep(&mut store, 0, 5, 100), (1, Some(2)), "beyond the number");
    assert_eq!(sweep(&mut store, 5, 100, 2), (2, Some(4)), "no more than the limit");
    assert_eq!(sweep(&mut store, 5, 100, 2), (1, Some(5)), "from before, not at");
    assert_eq!(sweep(&mut store, i64::MAX, 1, 100), (1, Some(6)));
    assert_eq!(sweep(&mut store, i64::MAX, 1, 100), (0, Some(6)), "it holds the place");
    tell(&mut store, 7, EventName::ShedEnded);
    assert_eq!(store.events(), [(6, "shed.began"), (7, "shed.ended")], "no number is given twice");
}
