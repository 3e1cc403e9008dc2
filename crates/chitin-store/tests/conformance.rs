//! What every store must do, written once against the core's [`Tx`] and run against SQLite and the core's model.
//!
//! A scenario says what holds for whoever implements the trait; what is SQLite's own stands in the other test files.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

#[path = "conformance/aside.rs"]
mod aside;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/keys.rs"]
mod keys;
#[path = "conformance/retention.rs"]
mod retention;
mod rows;

use std::fmt::Debug;

use chitin_core::model::{ModelStore, ModelTx};
use chitin_core::{
    AttemptNo, AttemptRow, DeadReason, Due, Epoch, EventName, EventRow, Limits, NewTask, PausedReason,
    PrincipalId, Priority, QueueId, QueueRow, Seq, SubmissionRow, Suspect, TaskId, TaskRow, TaskState, Tx,
};
use chitin_store::{Commit, EventPlace, Reader, StoreOptions, WriteTx, Writer};
use rows::*;

use self::aside::*;
use self::events::*;
use self::keys::*;
use self::retention::*;

/// A store, as a scenario sees it.
trait StoreUnderTest {
    type Tx<'a>: Tx<Error: Debug>
    where
        Self: 'a;

    fn new() -> Self;
    fn begin(&mut self) -> Self::Tx<'_>;
    fn commit(tx: Self::Tx<'_>);
    /// Ends this life of the store and begins another.
    fn reopen(&mut self);
    /// Every event with its number.
    fn events(&self) -> Vec<(i64, &'static str)>;
}

struct Sqlite {
    folder: tempfile::TempDir,
    writer: Option<Writer>,
}

impl Sqlite {
    fn open(folder: &tempfile::TempDir) -> Option<Writer> {
        let options = StoreOptions::new([1; 16], &Limits::default());
        Some(Writer::open(&folder.path().join("chitin.db"), &options).unwrap())
    }
}

impl StoreUnderTest for Sqlite {
    type Tx<'a> = WriteTx<'a>;

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { writer: Self::open(&folder), folder }
    }

    fn begin(&mut self) -> WriteTx<'_> {
        self.writer.as_mut().unwrap().begin().unwrap()
    }

    fn commit(tx: WriteTx<'_>) {
        assert!(matches!(tx.commit(), Commit::Ok));
    }

    fn reopen(&mut self) {
        self.writer = None;
        self.writer = Self::open(&self.folder);
    }

    fn events(&self) -> Vec<(i64, &'static str)> {
        let options = StoreOptions::new([1; 16], &Limits::default());
        let reader = Reader::open(&self.folder.path().join("chitin.db"), &options).unwrap();
        let rows = reader.events(EventPlace { seq: i64::MAX, no: 0 }, 100).unwrap();
        let name = |name: &str| EventName::ALL.iter().find(|(known, _)| known.as_str() == name).unwrap().0;
        rows.iter().map(|event| (event.place.no, name(&event.name).as_str())).collect()
    }
}

struct Model(ModelStore);

impl StoreUnderTest for Model {
    type Tx<'a> = ModelTx<'a>;

    fn new() -> Self {
        Self(ModelStore::new())
    }

    fn begin(&mut self) -> ModelTx<'_> {
        self.0.begin()
    }

    fn commit(tx: ModelTx<'_>) {
        tx.commit();
    }

    fn reopen(&mut self) {}

    fn events(&self) -> Vec<(i64, &'static str)> {
        self.0.events().map(|(no, row)| (no, row.name.as_str())).collect()
    }
}

/// One committed transaction.
fn change<S: StoreUnderTest, R>(store: &mut S, act: impl FnOnce(&mut S::Tx<'_>) -> R) -> R {
    let mut tx = store.begin();
    let done = act(&mut tx);
    S::commit(tx);
    done
}

/// One transaction that is dropped.
fn look<S: StoreUnderTest, R>(store: &mut S, act: impl FnOnce(&mut S::Tx<'_>) -> R) -> R {
    act(&mut store.begin())
}

/// A store in the life of the gateway with epoch 1, which knows the principal of the rows.
fn begun<S: StoreUnderTest>() -> S {
    let mut store = S::new();
    change(&mut store, |tx| {
        tx.begin_epoch("boot a").unwrap();
        tx.insert_principal(PRINCIPAL, "user 1000").unwrap();
    });
    store
}

fn insert<S: StoreUnderTest>(store: &mut S, row: &TaskRow) {
    change(store, |tx| tx.insert_task(NewTask { row, payload: &payload() }).unwrap());
}

fn insert_all<S: StoreUnderTest>(store: &mut S, seqs: impl IntoIterator<Item = i64>) {
    seqs.into_iter().for_each(|seq| insert(store, &queued(seq)));
}

fn load<S: StoreUnderTest>(store: &mut S, seq: i64) -> Option<TaskRow> {
    look(store, |tx| tx.load_task(Seq(seq)).unwrap())
}

fn end<S: StoreUnderTest>(store: &mut S, seq: i64, state: TaskState, at_ms: i64) {
    change(store, |tx| {
        let row = tx.load_task(Seq(seq)).unwrap().unwrap();
        let ended = TaskRow { state, ended_at_ms: Some(at_ms), expires: None, ..row };
        tx.update_task(&ended).unwrap();
    });
}

fn open_seqs<S: StoreUnderTest>(store: &mut S, after: i64, limit: usize) -> Vec<i64> {
    look(store, |tx| tx.open_tasks(Seq(after), limit).unwrap()).into_iter().map(|row| row.seq.0).collect()
}

fn prior<S: StoreUnderTest>(store: &mut S, key: &str) -> Option<chitin_core::PriorSubmission> {
    look(store, |tx| tx.find_submission(PRINCIPAL, "POST /v1/tasks", key).unwrap())
}

fn remember<S: StoreUnderTest>(store: &mut S, row: &SubmissionRow) {
    change(store, |tx| tx.insert_submission(row).unwrap());
}

fn a_new_store_holds_the_default_queue_alone<S: StoreUnderTest>() {
    let mut store = S::new();
    look(&mut store, |tx| {
        let default = QueueRow { id: QueueId(1), name: "default".into(), paused: false };
        assert_eq!(tx.queues().unwrap(), [default]);
        assert_eq!(tx.principals().unwrap(), []);
        assert_eq!(tx.last_seq().unwrap(), Seq(0));
        assert_eq!(tx.kept_bytes().unwrap(), 0);
        assert_eq!(tx.open_tasks(Seq(0), 10).unwrap(), []);
        assert_eq!(tx.ended_before(i64::MAX, 10).unwrap(), []);
    });
}

fn each_life_has_a_higher_epoch_and_each_boot_its_number<S: StoreUnderTest>() {
    let mut store = S::new();
    let mut life = |boot| {
        let begun = change(&mut store, |tx| tx.begin_epoch(boot).unwrap());
        store.reopen();
        (begun.0.0, begun.1.0)
    };
    assert_eq!(life("a"), (1, 1));
    assert_eq!(life("a"), (2, 1), "the same boot keeps its number");
    assert_eq!(life("b"), (3, 2));
    assert_eq!(life("a"), (4, 1));
}

fn a_task_comes_back_as_it_was_stored<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    let mut named = queued(3);
    named.due = Some(Due::At(1_800_000_000_000));
    named.expires = None;
    for row in [queued(1), full(2), named] {
        change(&mut store, |tx| tx.insert_task(NewTask { row: &row, payload: &full_payload() }).unwrap());
        store.reopen();
        assert_eq!(load(&mut store, row.seq.0), Some(row.clone()));
        assert_eq!(look(&mut store, |tx| tx.find_task(row.id).unwrap()), Some(row.seq));
    }
    assert_eq!(load(&mut store, 9), None);
    assert_eq!(look(&mut store, |tx| tx.find_task(id(9)).unwrap()), None);
}

fn every_state_is_kept<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    for (seq, state) in (1..).zip(TaskState::ALL) {
        let row = TaskRow { state, ended_at_ms: state.has_ended().then_some(5), ..queued(seq) };
        insert(&mut store, &row);
        assert_eq!(load(&mut store, seq), Some(row));
    }
}

fn an_update_changes_what_moves_and_nothing_else<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert(&mut store, &queued(1));
    insert(&mut store, &queued(2));
    change(&mut store, |tx| {
        let changed = TaskRow {
            id: id(77),
            principal: PrincipalId(99),
            queue: QueueId(99),
            priority: Priority::new(0).unwrap(),
            submitted_at_ms: 0,
            payload_bytes: 0,
            ..full(1)
        };
        tx.update_task(&changed).unwrap();
    });
    let born = queued(1);
    let expected = TaskRow {
        id: born.id,
        principal: born.principal,
        queue: born.queue,
        priority: born.priority,
        submitted_at_ms: born.submitted_at_ms,
        payload_bytes: born.payload_bytes,
        policy: born.policy,
        tags: born.tags,
        ..full(1)
    };
    assert_eq!(load(&mut store, 1), Some(expected));
    assert_eq!(load(&mut store, 2), Some(queued(2)), "another task is untouched");
}

fn open_tasks_come_in_the_order_of_admission_a_page_at_a_time<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [4, 2, 9, 1, 7]);
    end(&mut store, 2, TaskState::Succeeded, 10);
    assert_eq!(open_seqs(&mut store, 0, 10), [1, 4, 7, 9]);
    assert_eq!(open_seqs(&mut store, 0, 2), [1, 4]);
    assert_eq!(open_seqs(&mut store, 4, 2), [7, 9]);
    assert_eq!(open_seqs(&mut store, 9, 2), [0; 0]);
}

fn an_open_row_says_what_runs<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert(&mut store, &full(1));
    insert_all(&mut store, [2, 3, 4]);
    change(&mut store, |tx| {
        for number in 1..=2 {
            tx.insert_attempt(&attempt(2, number)).unwrap();
        }
        let running =
            TaskRow { state: TaskState::Running, attempt: AttemptNo(2), expires: None, ..queued(2) };
        tx.update_task(&running).unwrap();
        tx.insert_attempt(&attempt(3, 1)).unwrap();
        let state = TaskState::Paused(PausedReason::Frozen);
        tx.update_task(&TaskRow { state, attempt: AttemptNo(1), ..queued(3) }).unwrap();
        tx.insert_attempt(&attempt(4, 1)).unwrap();
        let state = TaskState::Paused(PausedReason::Held);
        tx.update_task(&TaskRow { state, attempt: AttemptNo(1), ..queued(4) }).unwrap();
        for (seq, number) in [(2, 2), (3, 1), (4, 1)] {
            tx.update_attempt(&AttemptRow { evicted: true, ..attempt(seq, number) }).unwrap();
        }
    });
    let open = look(&mut store, |tx| tx.open_tasks(Seq(0), 10).unwrap());
    let [first, second, third, fourth] = open.as_slice() else { panic!("{open:?}") };
    let row = full(1);
    assert_eq!((first.id, first.principal, first.queue), (row.id, row.principal, row.queue));
    assert_eq!((first.priority, first.state, first.cancel_requested), (row.priority, row.state, true));
    assert_eq!((first.due, first.expires, first.payload_bytes), (row.due, row.expires, 1_000));
    assert_eq!(first.running, None, "only a running task has an attempt under way");
    assert_eq!(second.running, Some((AttemptNo(2), token(2, 2), attempt(2, 2).boot)));
    assert_eq!((second.expires, second.cancel_requested), (None, false));
    let under_way = (AttemptNo(1), token(3, 1), attempt(3, 1).boot);
    assert_eq!((third.state, third.running), (TaskState::Paused(PausedReason::Frozen), Some(under_way)));
    assert_eq!((fourth.state, fourth.running), (TaskState::Paused(PausedReason::Held), None));
    let evicted: Vec<_> = open.iter().map(|row| row.evicted).collect();
    assert_eq!(evicted, [false, true, true, false], "whoever is under way, also frozen");
}

fn a_gateway_of_a_lower_epoch_changes_nothing<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1, 2]);
    end(&mut store, 2, TaskState::Cancelled, 10);
    change(&mut store, |tx| assert_eq!(tx.begin_epoch("boot a").unwrap().0, Epoch(2)));
    for seq in [1, 2] {
        assert_eq!(load(&mut store, seq).unwrap().owner_epoch, Epoch(1), "no task is touched by a start");
    }

    let stale = TaskRow { state: TaskState::Paused(PausedReason::Held), ..queued(1) };
    assert!(look(&mut store, |tx| tx.update_task(&stale).is_err()), "though nobody else has written it");
    let stale = ended(1, TaskState::Cancelled, 10);
    assert!(look(&mut store, |tx| tx.update_task(&stale).is_err()));
    let new = |epoch| TaskRow { owner_epoch: Epoch(epoch), ..queued(3) };
    for epoch in [1, 3] {
        let stored =
            |tx: &mut S::Tx<'_>| tx.insert_task(NewTask { row: &new(epoch), payload: &payload() }).is_ok();
        assert!(!look(&mut store, stored), "only the newest epoch adds tasks, not {epoch}");
    }
    assert_eq!(load(&mut store, 1).unwrap().state, TaskState::Queued);

    let ours = TaskRow { state: TaskState::Paused(PausedReason::Held), owner_epoch: Epoch(2), ..queued(1) };
    change(&mut store, |tx| tx.update_task(&ours).unwrap());
    assert_eq!(load(&mut store, 1), Some(ours));
}

fn whoever_opens_an_ended_task_again_owns_it<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    end(&mut store, 1, TaskState::Dead(DeadReason::Poison), 10);
    change(&mut store, |tx| tx.begin_epoch("boot a").unwrap());
    let again = TaskRow { owner_epoch: Epoch(2), round: 2, ..queued(1) };
    change(&mut store, |tx| tx.update_task(&again).unwrap());
    assert_eq!(load(&mut store, 1), Some(again));
    assert_eq!(open_seqs(&mut store, 0, 10), [1]);
    assert_eq!(look(&mut store, |tx| tx.ended_before(i64::MAX, 10).unwrap()), []);
    let stale = TaskRow { state: TaskState::Paused(PausedReason::Held), ..queued(1) };
    assert!(look(&mut store, |tx| tx.update_task(&stale).is_err()));
    end(&mut store, 1, TaskState::Cancelled, 20);
    assert!(look(&mut store, |tx| tx.update_task(&stale).is_err()), "nor is it opened from an earlier life");
}

fn what_is_missing_cannot_be_changed<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    assert!(look(&mut store, |tx| tx.update_task(&queued(2)).is_err()));
    assert!(look(&mut store, |tx| tx.update_attempt(&attempt(1, 1)).is_err()));
    assert!(look(&mut store, |tx| tx.delete_task(Seq(2)).is_err()));
    assert!(look(&mut store, |tx| tx.delete_task(Seq(1)).is_err()), "an open task cannot be deleted");
    let queue = QueueRow { id: QueueId(8), name: "gpu".into(), paused: true };
    assert!(look(&mut store, |tx| tx.update_queue(&queue).is_err()));
}

fn a_second_row_under_the_same_key_is_refused<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    remember(&mut store, &submission(1, 1, "k"));
    let refused =
        |tx: &mut S::Tx<'_>, row: &TaskRow| tx.insert_task(NewTask { row, payload: &payload() }).is_err();
    assert!(look(&mut store, |tx| refused(tx, &queued(1))));
    assert!(look(&mut store, |tx| refused(tx, &TaskRow { id: id(1), ..queued(2) })), "an id is given once");
    assert!(look(&mut store, |tx| tx.insert_submission(&submission(5, 1, "k")).is_err()));
    assert!(look(&mut store, |tx| tx.insert_principal(PRINCIPAL, "other").is_err()));
    assert!(look(&mut store, |tx| tx.insert_principal(PrincipalId(4), "user 1000").is_err()));
    let queue = |id, name: &str| QueueRow { id: QueueId(id), name: name.into(), paused: false };
    assert!(look(&mut store, |tx| tx.insert_queue(&queue(1, "gpu")).is_err()));
    assert!(look(&mut store, |tx| tx.insert_queue(&queue(2, "default")).is_err()));
    change(&mut store, |tx| tx.insert_attempt(&attempt(1, 1)).unwrap());
    assert!(look(&mut store, |tx| tx.insert_attempt(&attempt(1, 1)).is_err()));
}

fn names_are_kept<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    let mut gpu = QueueRow { id: QueueId(2), name: "gpu".into(), paused: false };
    change(&mut store, |tx| {
        tx.insert_queue(&gpu).unwrap();
        tx.insert_principal(PrincipalId(1), "token ci").unwrap();
    });
    gpu.paused = true;
    change(&mut store, |tx| tx.update_queue(&gpu).unwrap());
    store.reopen();
    look(&mut store, |tx| {
        assert_eq!(tx.queues().unwrap().last(), Some(&gpu));
        let names = [(PrincipalId(1), "token ci".to_owned()), (PRINCIPAL, "user 1000".to_owned())];
        assert_eq!(tx.principals().unwrap(), names);
    });
}

fn attempts_come_back_as_they_were_stored<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    change(&mut store, |tx| {
        tx.insert_attempt(&attempt(1, 1)).unwrap();
        tx.insert_attempt(&attempt(1, 2)).unwrap();
    });
    change(&mut store, |tx| tx.update_attempt(&ended_attempt(1, 1)).unwrap());
    let mut load = |number| look(&mut store, |tx| tx.load_attempt(Seq(1), AttemptNo(number)).unwrap());
    assert_eq!(load(1), Some(ended_attempt(1, 1)));
    assert_eq!(load(2), Some(attempt(1, 2)));
    assert_eq!(load(3), None);
}

fn storing_a_result_again_is_harmless<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    change(&mut store, |tx| tx.insert_attempt(&attempt(1, 1)).unwrap());
    for body in [b"one".as_slice(), b"two"] {
        change(&mut store, |tx| {
            tx.put_result(Seq(1), 1, AttemptNo(1), &result(body)).unwrap();
            tx.put_output(Seq(1), AttemptNo(1), &output()).unwrap();
        });
    }
}

fn a_rolled_back_transaction_leaves_nothing<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    look(&mut store, |tx| {
        tx.begin_epoch("boot z").unwrap();
        let row = TaskRow { owner_epoch: Epoch(2), ..full(2) };
        tx.insert_task(NewTask { row: &row, payload: &payload() }).unwrap();
        tx.insert_submission(&submission(2, 1, "k")).unwrap();
        tx.insert_attempt(&attempt(1, 1)).unwrap();
        tx.insert_queue(&QueueRow { id: QueueId(2), name: "gpu".into(), paused: false }).unwrap();
        assert_eq!(tx.last_seq().unwrap(), Seq(2), "within the transaction it is there");
    });
    assert_eq!(load(&mut store, 1), Some(queued(1)));
    assert_eq!(load(&mut store, 2), None);
    assert_eq!(prior(&mut store, "k"), None);
    look(&mut store, |tx| {
        assert_eq!(tx.last_seq().unwrap(), Seq(1));
        assert_eq!(tx.load_attempt(Seq(1), AttemptNo(1)).unwrap(), None);
        assert_eq!(tx.queues().unwrap().len(), 1);
    });
    assert_eq!(change(&mut store, |tx| tx.begin_epoch("boot y").unwrap()).0, Epoch(2));
}

macro_rules! suite {
    ($($scenario:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $scenario() { super::$scenario::<super::Sqlite>(); })*
        }
        mod model {
            $(#[test] fn $scenario() { super::$scenario::<super::Model>(); })*
        }
    };
}

suite! {
    open_tasks_can_be_counted_off,
    a_suspect_is_remembered_until_it_is_cleared,
    a_task_set_aside_has_ended_and_its_attempt_is_lost,
    events_stand_behind_one_another_over_lives,
    the_earliest_events_go_by_number_and_by_age_but_never_the_newest,
    a_new_store_holds_the_default_queue_alone,
    each_life_has_a_higher_epoch_and_each_boot_its_number,
    a_task_comes_back_as_it_was_stored,
    every_state_is_kept,
    an_update_changes_what_moves_and_nothing_else,
    open_tasks_come_in_the_order_of_admission_a_page_at_a_time,
    an_open_row_says_what_runs,
    a_gateway_of_a_lower_epoch_changes_nothing,
    whoever_opens_an_ended_task_again_owns_it,
    what_is_missing_cannot_be_changed,
    a_second_row_under_the_same_key_is_refused,
    names_are_kept,
    attempts_come_back_as_they_were_stored,
    storing_a_result_again_is_harmless,
    a_rolled_back_transaction_leaves_nothing,
    a_key_is_found_in_its_own_scope_alone,
    a_key_is_kept_until_its_time_has_come,
    a_key_of_several_tasks_is_dated_by_the_sweep,
    a_key_of_several_tasks_waits_for_each_of_them,
    a_sweep_keeps_to_its_limit,
    ended_tasks_come_with_the_earliest_end_first,
    the_bytes_of_ended_tasks_are_counted,
    the_admission_sequence_never_goes_back,
    a_deleted_task_takes_all_of_it_along_but_its_key,
}
