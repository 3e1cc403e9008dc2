//! What a careful recovery asks of a store.

use chitin_core::Outcome;

use super::*;

pub(crate) fn a_suspect_is_remembered_until_it_is_cleared<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    assert_eq!(look(&mut store, |tx| tx.suspect().unwrap()), None);
    for suspect in [Suspect { seq: Seq(7), lives: 0 }, Suspect { seq: Seq(9), lives: 1 }] {
        change(&mut store, |tx| tx.set_suspect(Some(suspect)).unwrap());
        store.reopen();
        assert_eq!(look(&mut store, |tx| tx.suspect().unwrap()), Some(suspect));
    }
    change(&mut store, |tx| tx.set_suspect(None).unwrap());
    assert_eq!(look(&mut store, |tx| tx.suspect().unwrap()), None);
}

pub(crate) fn open_tasks_can_be_counted_off<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [2, 3, 5]);
    end(&mut store, 3, TaskState::Cancelled, 10);
    let behind = |store: &mut S, after| look(store, |tx| tx.next_open(Seq(after)).unwrap());
    assert_eq!(
        [0, 2, 4, 5].map(|after| behind(&mut store, after)),
        [2, 5, 5, 0].map(|seq| match seq {
            0 => None,
            seq => Some(Seq(seq)),
        })
    );
}

pub(crate) fn a_task_set_aside_has_ended_and_its_attempt_is_lost<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1, 2]);
    change(&mut store, |tx| {
        tx.insert_attempt(&ended_attempt(1, 1)).unwrap();
        tx.insert_attempt(&attempt(1, 2)).unwrap();
        let running = TaskRow { state: TaskState::Running, attempt: AttemptNo(2), ..queued(1) };
        tx.update_task(&running).unwrap();
    });
    let dead = TaskState::Dead(DeadReason::Poison);
    let whose = change(&mut store, |tx| tx.set_aside(Seq(1), dead, 77, "why").unwrap());
    assert_eq!(whose, Some(id(1)));
    let row = load(&mut store, 1).unwrap();
    assert_eq!((row.state, row.ended_at_ms, row.due, row.expires), (dead, Some(77), None, None));
    let [before, lost] = [1, 2]
        .map(|number| look(&mut store, |tx| tx.load_attempt(Seq(1), AttemptNo(number)).unwrap().unwrap()));
    assert_eq!(before, ended_attempt(1, 1), "what had ended is as it was");
    assert_eq!((lost.outcome, lost.ended_at_ms), (Some(Outcome::WorkerLost), Some(77)));
    assert_eq!(lost.error.as_deref(), Some("why"));

    // What has ended stays as it is, and so does everybody else.
    assert_eq!(change(&mut store, |tx| tx.set_aside(Seq(1), dead, 99, "again").unwrap()), None);
    assert_eq!(load(&mut store, 1).unwrap().ended_at_ms, Some(77));
    assert_eq!(load(&mut store, 2), Some(queued(2)));
}
