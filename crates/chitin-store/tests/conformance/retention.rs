//! What has ended, what it keeps, and what is left when it goes.

use super::*;

pub(crate) fn ended_tasks_come_with_the_earliest_end_first<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, 1..=5);
    for (seq, at_ms) in [(1, 300), (2, 100), (3, 200), (4, 100)] {
        end(&mut store, seq, TaskState::Succeeded, at_ms);
    }
    let mut seqs = |before, limit| -> Vec<i64> {
        look(&mut store, |tx| tx.ended_before(before, limit).unwrap())
            .into_iter()
            .map(|(seq, ..)| seq.0)
            .collect()
    };
    assert_eq!(seqs(i64::MAX, 10), [2, 4, 3, 1], "of the same end, the earlier admission first");
    assert_eq!(seqs(i64::MAX, 2), [2, 4]);
    assert_eq!(seqs(200, 10), [2, 4], "before, not at");
    assert_eq!(seqs(100, 10), [0; 0]);
}

pub(crate) fn the_bytes_of_ended_tasks_are_counted<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, 1..=3);
    let finish = |store: &mut S, seq, kept_bytes| {
        let row = TaskRow { kept_bytes, ..ended(seq, TaskState::Succeeded, 10) };
        change(store, |tx| tx.update_task(&row).unwrap());
    };
    finish(&mut store, 1, 1_000);
    finish(&mut store, 2, 500);
    let kept = |store: &mut S| look(store, |tx| tx.kept_bytes().unwrap());
    assert_eq!(kept(&mut store), 1_528, "payload and what was left, of ended tasks alone");
    let each: Vec<(TaskId, u64)> = look(&mut store, |tx| tx.ended_before(100, 10).unwrap())
        .into_iter()
        .map(|(_, id, b)| (id, b))
        .collect();
    assert_eq!(each, [(id(1), 1_014), (id(2), 514)]);
    finish(&mut store, 2, 600);
    assert_eq!(kept(&mut store), 1_628, "an ended task's row can still change");
    change(&mut store, |tx| tx.delete_task(Seq(1)).unwrap());
    assert_eq!(kept(&mut store), 614);
}

pub(crate) fn the_admission_sequence_never_goes_back<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, 1..=3);
    for seq in [3, 2, 1] {
        end(&mut store, seq, TaskState::Expired, 10);
        change(&mut store, |tx| tx.delete_task(Seq(seq)).unwrap());
        store.reopen();
        assert_eq!(look(&mut store, |tx| tx.last_seq().unwrap()), Seq(3));
    }
    insert_all(&mut store, [4]);
    assert_eq!(look(&mut store, |tx| tx.last_seq().unwrap()), Seq(4));
}

pub(crate) fn a_deleted_task_takes_all_of_it_along_but_its_key<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert(&mut store, &full(1));
    insert(&mut store, &queued(2));
    remember(&mut store, &submission(1, 1, "k"));
    change(&mut store, |tx| {
        tx.insert_attempt(&attempt(1, 1)).unwrap();
        tx.put_result(Seq(1), 1, AttemptNo(1), &result(b"r")).unwrap();
        tx.put_output(Seq(1), AttemptNo(1), &output()).unwrap();
        tx.submission_ended(Seq(1), Some((TaskState::Cancelled, 1_000))).unwrap();
    });
    end(&mut store, 1, TaskState::Cancelled, 10);
    change(&mut store, |tx| tx.delete_task(Seq(1)).unwrap());
    look(&mut store, |tx| {
        assert_eq!(tx.load_task(Seq(1)).unwrap(), None);
        assert_eq!(tx.find_task(id(1)).unwrap(), None);
        assert_eq!(tx.load_attempt(Seq(1), AttemptNo(1)).unwrap(), None);
        assert_eq!(tx.ended_before(i64::MAX, 10).unwrap(), []);
    });
    assert_eq!(
        prior(&mut store, "k").unwrap().ended_state,
        Some(TaskState::Cancelled),
        "the key outlives its task"
    );
    assert_eq!(load(&mut store, 2), Some(queued(2)));
}
