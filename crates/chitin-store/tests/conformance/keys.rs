//! Remembered submissions: found in their scope, kept for their time.

use super::*;

pub(crate) fn a_key_is_found_in_its_own_scope_alone<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1, 2]);
    remember(&mut store, &submission(1, 2, "k"));
    let found = prior(&mut store, "k").unwrap();
    assert_eq!((found.first_seq, found.ids), (Seq(1), vec![id(1), id(2)]));
    assert_eq!((found.body_sha256, found.ended_state), ([7; 32], None));
    assert_eq!(prior(&mut store, "K"), None);
    look(&mut store, |tx| {
        assert_eq!(tx.find_submission(PrincipalId(4), "POST /v1/tasks", "k").unwrap(), None);
        assert_eq!(tx.find_submission(PRINCIPAL, "POST /v1/tasks/bulk", "k").unwrap(), None);
    });
    let elsewhere = SubmissionRow { route: "POST /v1/tasks/bulk".into(), ..submission(2, 1, "k") };
    remember(&mut store, &elsewhere);
    assert_eq!(prior(&mut store, "k").unwrap().first_seq, Seq(1));
}

pub(crate) fn a_key_is_kept_until_its_time_has_come<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, [1]);
    remember(&mut store, &submission(1, 1, "k"));
    let sweep = |store: &mut S, now_ms| change(store, |tx| tx.sweep_submissions(now_ms, 50, 10).unwrap());
    assert_eq!(sweep(&mut store, i64::MAX), 0, "a submission whose task is open is kept for ever");
    let ended = |store: &mut S, ended| change(store, |tx| tx.submission_ended(Seq(1), ended).unwrap());
    ended(&mut store, Some((TaskState::Succeeded, 1_000)));
    assert_eq!(prior(&mut store, "k").unwrap().ended_state, Some(TaskState::Succeeded));
    ended(&mut store, None);
    assert_eq!(prior(&mut store, "k").unwrap().ended_state, None, "opened again");
    assert_eq!(sweep(&mut store, 2_000), 0);
    ended(&mut store, Some((TaskState::Cancelled, 3_000)));
    assert_eq!(sweep(&mut store, 2_999), 0);
    assert_eq!(prior(&mut store, "k").unwrap().ended_state, Some(TaskState::Cancelled));
    assert_eq!(sweep(&mut store, 3_000), 1);
    assert_eq!(prior(&mut store, "k"), None);
    ended(&mut store, Some((TaskState::Cancelled, 1)));
}

pub(crate) fn a_key_of_several_tasks_is_dated_by_the_sweep<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, 1..=4);
    remember(&mut store, &submission(1, 2, "done"));
    remember(&mut store, &submission(3, 2, "open"));
    change(&mut store, |tx| tx.submission_ended(Seq(1), Some((TaskState::Succeeded, 5))).unwrap());
    assert_eq!(prior(&mut store, "done").unwrap().ended_state, None, "one task says nothing of the others");
    let sweep = |store: &mut S, now_ms| change(store, |tx| tx.sweep_submissions(now_ms, 50, 10).unwrap());

    end(&mut store, 1, TaskState::Succeeded, 10);
    end(&mut store, 3, TaskState::Succeeded, 10);
    end(&mut store, 4, TaskState::Succeeded, 10);
    change(&mut store, |tx| tx.delete_task(Seq(4)).unwrap());
    assert_eq!(sweep(&mut store, 100), 1, "dated now, forgotten later");
    assert_eq!(sweep(&mut store, 149), 0);
    assert_eq!(sweep(&mut store, 150), 1);
    assert!(
        prior(&mut store, "done").is_some() && prior(&mut store, "open").is_none(),
        "2 is open, 3 and 4 are not"
    );
}

pub(crate) fn a_key_of_several_tasks_waits_for_each_of_them<S: StoreUnderTest>() {
    for open in 1..=3 {
        let mut store = begun::<S>();
        insert_all(&mut store, 1..=4);
        remember(&mut store, &submission(1, 3, "k"));
        for seq in (1..=3).filter(|seq| *seq != open) {
            end(&mut store, seq, TaskState::Succeeded, 10);
        }
        let sweep = |store: &mut S| change(store, |tx| tx.sweep_submissions(100, 0, 10).unwrap());
        assert_eq!(sweep(&mut store), 0, "{open} is open");
        end(&mut store, open, TaskState::Succeeded, 10);
        assert_eq!(sweep(&mut store), 1, "4 is none of its tasks");
    }
}

pub(crate) fn a_sweep_keeps_to_its_limit<S: StoreUnderTest>() {
    let mut store = begun::<S>();
    insert_all(&mut store, 1..=5);
    for seq in 1..=5 {
        remember(&mut store, &submission(seq, 1, &format!("k{seq}")));
        change(&mut store, |tx| tx.submission_ended(Seq(seq), Some((TaskState::Succeeded, 10))).unwrap());
    }
    let mut sweep = || change(&mut store, |tx| tx.sweep_submissions(10, 0, 2).unwrap());
    assert_eq!([sweep(), sweep(), sweep(), sweep()], [2, 2, 1, 0]);
}
