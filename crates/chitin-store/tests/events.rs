//! The one order of events: submissions stand between what happened, and any place in it can be gone on from.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod rows;

use chitin_core::{
    AttemptNo, EventName, EventRow, Limits, NewTask, Outcome, QueueId, QueueRow, Seq, TaskId, TaskState, Tx,
};
use chitin_store::{Commit, EventPlace, Reader, StoreOptions, StoredEvent, WriteTx, Writer};
use rows::*;

struct Store {
    _folder: tempfile::TempDir,
    writer: Writer,
    reader: Reader,
}

/// Three tasks; the second is running when the third comes; the first is cancelled after that.
fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chitin.db");
    let options = StoreOptions::new([1; 16], &Limits::default());
    let writer = Writer::open(&path, &options).unwrap();
    let reader = Reader::open(&path, &options).unwrap();
    let mut store = Store { _folder: folder, writer, reader };
    store.change(|tx| {
        tx.begin_epoch("boot a").unwrap();
        tx.insert_principal(PRINCIPAL, "user 1000").unwrap();
        for seq in [1, 2] {
            tx.insert_task(NewTask { row: &queued(seq), payload: &payload() }).unwrap();
        }
        tx.insert_attempt(&ended_attempt(2, 1)).unwrap();
        tx.insert_event(&told(2, EventName::TaskStarted, Some((2, 1)))).unwrap();
    });
    store.change(|tx| {
        tx.insert_task(NewTask { row: &queued(3), payload: &payload() }).unwrap();
        tx.insert_event(&told(3, EventName::TaskCancelled, Some((1, 9)))).unwrap();
        tx.insert_event(&told(3, EventName::TaskRetrying, Some((2, 1)))).unwrap();
        tx.insert_event(&told(3, EventName::ShedBegan, None)).unwrap();
    });
    store
}

fn told(after: i64, name: EventName, task: Option<(i64, u32)>) -> EventRow {
    let (task, attempt) = task.map(|(seq, attempt)| (id(seq), AttemptNo(attempt))).unzip();
    EventRow { after: Seq(after), at_ms: 10, name, task, attempt, detail: None }
}

const WHOLE: [(&str, i64); 7] = [
    ("task.submitted", 1),
    ("task.submitted", 2),
    ("task.started", 2),
    ("task.submitted", 3),
    ("task.cancelled", 1),
    ("task.retrying", 2),
    ("shed.began", 0),
];

impl Store {
    fn change(&mut self, act: impl FnOnce(&mut WriteTx<'_>)) {
        let mut tx = self.writer.begin().unwrap();
        act(&mut tx);
        assert!(matches!(tx.commit(), Commit::Ok));
    }

    fn pages(&self, mut after: EventPlace, most: usize) -> Vec<StoredEvent> {
        let mut all: Vec<StoredEvent> = Vec::new();
        loop {
            let page = self.reader.events(after, most).unwrap();
            assert!(page.len() <= most);
            let Some(last) = page.last() else { return all };
            assert!(page[0].place.distance() > after.distance(), "it goes on");
            after = last.place;
            all.extend(page);
        }
    }
}

fn names(events: &[StoredEvent]) -> Vec<(&str, i64)> {
    let seq = |task: Option<TaskId>| (1..=3).find(|seq| Some(id(*seq)) == task).unwrap_or(0);
    events.iter().map(|event| (event.name.as_str(), seq(event.task))).collect()
}

#[test]
fn pages_of_any_size_are_the_one_order() {
    let store = store();
    for most in 1..=8 {
        assert_eq!(names(&store.pages(EventPlace::default(), most)), WHOLE, "pages of {most}");
    }
}

#[test]
fn one_can_go_on_from_behind_any_event() {
    let store = store();
    let all = store.pages(EventPlace::default(), 100);
    for (at, event) in all.iter().enumerate() {
        assert_eq!(store.pages(event.place, 100), all[at + 1..], "behind {event:?}");
    }
    assert_eq!(store.reader.event_bounds().unwrap().end, all.last().unwrap().place);
    assert_eq!(store.reader.event_bounds().unwrap().first_no, 1);
}

#[test]
fn only_an_events_own_end_is_told_with_it() {
    let store = store();
    let all = store.pages(EventPlace::default(), 100);
    let ends: Vec<_> =
        all.iter().filter_map(|event| Some((event.name.as_str(), event.end.as_ref()?))).collect();
    assert_eq!(ends.len(), 1, "the start of an attempt that has ended by now does not tell it: {ends:?}");
    assert_eq!((ends[0].0, ends[0].1.outcome), ("task.retrying", ended_attempt(2, 1).outcome.unwrap()));
    assert_ne!(ends[0].1.outcome, Outcome::Succeeded);
}

#[test]
fn a_task_has_its_own_events_and_keeps_them_when_it_goes() {
    let mut store = store();
    let of = |store: &Store, seq, after| store.reader.task_events(id(seq), after, 100).unwrap();
    let own = of(&store, 2, EventPlace::default()).unwrap();
    assert_eq!(names(&own), [WHOLE[1], WHOLE[2], WHOLE[5]]);
    for (at, event) in own.iter().enumerate() {
        assert_eq!(of(&store, 2, event.place).unwrap(), own[at + 1..]);
    }
    assert_eq!(of(&store, 3, store.reader.event_bounds().unwrap().end).unwrap(), []);
    assert_eq!(of(&store, 9, EventPlace::default()), None, "nobody knows it");

    store.change(|tx| {
        let row = ended(1, TaskState::Cancelled, 10);
        tx.update_task(&row).unwrap();
        tx.delete_task(Seq(1)).unwrap();
    });
    assert_eq!(names(&of(&store, 1, EventPlace::default()).unwrap()), [WHOLE[4]], "but its submission");
    assert_eq!(names(&store.pages(EventPlace::default(), 2)), WHOLE[1..]);
}

#[test]
fn the_end_is_behind_what_was_deleted() {
    let mut store = store();
    store.change(|tx| {
        tx.insert_queue(&QueueRow { id: QueueId(7), name: "other".into(), paused: false }).unwrap();
        tx.update_task(&ended(3, TaskState::Expired, 10)).unwrap();
        tx.delete_task(Seq(3)).unwrap();
    });
    assert_eq!(store.reader.event_bounds().unwrap().end.seq, 3);
}
