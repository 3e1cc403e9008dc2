//! The read side: what is stored is what is answered, newest first, in bounded pages.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod rows;

use std::path::PathBuf;

use chitin_core::{
    Answer, AttemptNo, KeptLogs, Limits, NewTask, Outcome, Payload, PrincipalId, QueueId, QueueRow, Refusal,
    Seq, SubmissionKey, TaskId, TaskRow, TaskState, Tx,
};
use chitin_store::{
    Commit, Filter, Reader, Resolved, ResultMeta, SpoolVerdict, StateFilter, StoreOptions, WriteTx, Writer,
};
use rows::*;

struct Store {
    _folder: tempfile::TempDir,
    writer: Writer,
    reader: Reader,
}

fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("chitin.db");
    let options = StoreOptions::new([1; 16], &Limits::default());
    let writer = Writer::open(&path, &options).unwrap();
    let reader = Reader::open(&path, &options).unwrap();
    Store { _folder: folder, writer, reader }
}

impl Store {
    fn change(&mut self, act: impl FnOnce(&mut WriteTx<'_>)) {
        let mut tx = self.writer.begin().unwrap();
        act(&mut tx);
        assert!(matches!(tx.commit(), Commit::Ok));
    }

    fn insert(&mut self, rows: impl IntoIterator<Item = TaskRow>) {
        self.change(|tx| rows.into_iter().for_each(|row| insert(tx, &row)));
    }

    fn seqs(&self, filter: &Filter) -> Vec<i64> {
        self.reader.list(filter).unwrap().tasks.into_iter().map(|task| task.row.seq.0).collect()
    }

    /// All pages, and how many there were.
    fn pages(&self, mut filter: Filter) -> (Vec<i64>, usize) {
        let (mut seqs, mut pages) = (Vec::new(), 0);
        loop {
            let page = self.reader.list(&filter).unwrap();
            assert!(page.tasks.len() <= filter.limit);
            seqs.extend(page.tasks.iter().map(|task| task.row.seq.0));
            pages += 1;
            match page.next {
                None => return (seqs, pages),
                next => filter.before = next,
            }
        }
    }
}

fn insert(tx: &mut WriteTx<'_>, row: &TaskRow) {
    tx.insert_task(NewTask { row, payload: &payload() }).unwrap();
}

#[test]
fn a_task_is_shown_with_all_that_belongs_to_it() {
    let mut store = store();
    let mut row = full(1);
    row.queue = QueueId(2);
    store.change(|tx| {
        tx.insert_queue(&QueueRow { id: QueueId(2), name: "gpu".into(), paused: false }).unwrap();
        tx.insert_task(NewTask { row: &row, payload: &full_payload() }).unwrap();
        insert(tx, &queued(2));
        tx.insert_attempt(&attempt(1, 2)).unwrap();
        tx.insert_attempt(&ended_attempt(1, 1)).unwrap();
        tx.put_result(Seq(1), 2, AttemptNo(2), &result(b"12345")).unwrap();
    });
    let detail = store.reader.task_by_id(id(1)).unwrap().unwrap();
    assert_eq!(detail.row, row);
    assert_eq!(detail.payload_command, full_payload().command);
    assert_eq!(detail.queue, "gpu");
    assert_eq!(detail.attempts, [ended_attempt(1, 1), attempt(1, 2)]);
    let chitin_core::StoredResult { content_type, sha256, .. } = result(b"12345");
    assert_eq!(
        detail.result,
        Some(ResultMeta { content_type, bytes: 5, sha256, truncated: true, attempt: AttemptNo(2) })
    );

    let other = store.reader.task_by_id(id(2)).unwrap().unwrap();
    assert_eq!((other.queue.as_str(), other.attempts.len(), other.result), ("default", 0, None));
    assert_eq!(store.reader.task_by_id(id(3)).unwrap(), None);
}

#[test]
fn payload_result_and_logs_come_back_byte_for_byte() {
    let mut store = store();
    store.change(|tx| {
        tx.insert_task(NewTask { row: &queued(1), payload: &full_payload() }).unwrap();
        insert(tx, &queued(2));
        tx.put_result(Seq(1), 1, AttemptNo(1), &result(b"first")).unwrap();
        tx.put_result(Seq(1), 1, AttemptNo(2), &result(b"second")).unwrap();
        tx.put_output(Seq(1), AttemptNo(1), &output()).unwrap();
    });
    assert_eq!(store.reader.payload(Seq(1)).unwrap(), Some(full_payload()));
    assert_eq!(store.reader.payload(Seq(2)).unwrap(), Some(payload()));
    assert_eq!(store.reader.payload(Seq(3)).unwrap(), None);
    let end = store.reader.result(id(1)).unwrap().unwrap();
    assert_eq!((end.seq, end.state, end.round), (Seq(1), TaskState::Queued, 1));
    assert_eq!(end.result, Some(result(b"second")));
    assert_eq!(store.reader.result(id(2)).unwrap().unwrap().result, None);
    assert_eq!(store.reader.result(id(3)).unwrap(), None);
    let meta = store.reader.result_meta(id(1)).unwrap().unwrap();
    let of = meta.result.unwrap();
    assert_eq!((meta.seq, meta.state, meta.round), (Seq(1), TaskState::Queued, 1));
    assert_eq!((of.bytes, of.sha256, of.attempt), (6, result(b"second").sha256, AttemptNo(2)));
    assert_eq!(store.reader.result_meta(id(2)).unwrap().unwrap().result, None);
    assert_eq!(store.reader.result_meta(id(3)).unwrap(), None);
    assert_eq!(store.reader.output(Seq(1), AttemptNo(1)).unwrap(), Some(output()));
    assert_eq!(store.reader.output(Seq(1), AttemptNo(2)).unwrap(), None);
}

#[test]
fn a_result_comes_piece_by_piece_and_never_another_one() {
    let mut store = store();
    let body: Vec<u8> = (0..20_000_u32).flat_map(u32::to_le_bytes).collect();
    store.change(|tx| {
        insert(tx, &queued(1));
        tx.put_result(Seq(1), 1, AttemptNo(1), &result(&body)).unwrap();
    });
    let piece = |offset, most| store.reader.result_piece(Seq(1), 80_000, offset, most).unwrap();
    assert_eq!(piece(0, 30_000).unwrap(), body[..30_000]);
    assert_eq!(piece(30_000, 30_000).unwrap(), body[30_000..60_000]);
    assert_eq!(piece(60_000, 30_000).unwrap(), body[60_000..]);
    assert_eq!(piece(80_000, 30_000).unwrap(), []);
    assert_eq!(store.reader.result_piece(Seq(1), 79_999, 0, 9).unwrap(), None, "another result");
    assert_eq!(store.reader.result_piece(Seq(2), 80_000, 0, 9).unwrap(), None, "none");
}

#[test]
fn a_late_result_never_replaces_a_newer_one() {
    let mut store = store();
    store.change(|tx| {
        insert(tx, &queued(1));
        tx.put_result(Seq(1), 1, AttemptNo(2), &result(b"newer")).unwrap();
    });
    let mut tx = store.writer.begin().unwrap();
    assert!(tx.put_result(Seq(1), 1, AttemptNo(1), &result(b"late")).is_err());
    tx.rollback().unwrap();
    assert_eq!(store.reader.result(id(1)).unwrap().unwrap().result, Some(result(b"newer")));
}

#[test]
fn a_deleted_task_leaves_nothing_behind() {
    let mut store = store();
    store.change(|tx| {
        insert(tx, &full(1));
        tx.insert_attempt(&ended_attempt(1, 1)).unwrap();
        tx.put_result(Seq(1), 2, AttemptNo(1), &result(b"r")).unwrap();
        tx.put_output(Seq(1), AttemptNo(1), &output()).unwrap();
        let row = tx.load_task(Seq(1)).unwrap().unwrap();
        tx.update_task(&TaskRow { state: TaskState::Cancelled, ended_at_ms: Some(5), ..row }).unwrap();
        tx.delete_task(Seq(1)).unwrap();
    });
    assert_eq!(store.reader.payload(Seq(1)).unwrap(), None);
    assert_eq!(store.reader.output(Seq(1), AttemptNo(1)).unwrap(), None);
    assert_eq!(store.reader.spool_verdict(id(1), AttemptNo(1)).unwrap(), SpoolVerdict::Unknown);
    let tagged = Filter { tag: Some("nightly".into()), ..Filter::default() };
    assert_eq!(store.seqs(&tagged), [0; 0]);
    // The same place could be used again only if nothing of it was left.
    store.change(|tx| {
        insert(tx, &full(1));
        tx.insert_attempt(&ended_attempt(1, 1)).unwrap();
    });
    assert_eq!(store.reader.result(id(1)).unwrap().unwrap().result, None);
    assert_eq!(store.seqs(&tagged), [1]);
}

#[test]
fn the_sweep_learns_what_a_folder_is_good_for() {
    let mut store = store();
    store.change(|tx| {
        insert(tx, &queued(1));
        tx.insert_attempt(&attempt(1, 1)).unwrap();
        for (number, logs) in [(2, KeptLogs::Files), (3, KeptLogs::Stored), (4, KeptLogs::None)] {
            let row = chitin_core::AttemptRow { outcome: Some(Outcome::Failed), logs, ..attempt(1, number) };
            tx.insert_attempt(&row).unwrap();
        }
    });
    let verdict = |task, number| store.reader.spool_verdict(id(task), AttemptNo(number)).unwrap();
    assert_eq!(verdict(1, 1), SpoolVerdict::Running);
    assert_eq!(verdict(1, 2), SpoolVerdict::EndedKeepLogs);
    assert_eq!(verdict(1, 3), SpoolVerdict::EndedRemove);
    assert_eq!(verdict(1, 4), SpoolVerdict::EndedRemove);
    assert_eq!(verdict(1, 5), SpoolVerdict::Unknown);
    assert_eq!(verdict(2, 1), SpoolVerdict::Unknown);
}

#[test]
fn tasks_are_counted_by_state() {
    let mut store = store();
    store.insert((1..=3).map(queued));
    store.insert((4..=5).map(full));
    store.insert((6..=9).map(|seq| ended(seq, TaskState::Expired, 5)));
    let counts = store.reader.counts().unwrap();
    assert_eq!(counts.open, [(full(1).state, 2), (TaskState::Queued, 3)]);
    assert_eq!(counts.ended, 4);
}

/// Three kinds of tasks, one after another: queued, ended, and tagged in another queue.
fn mixed(tasks: i64) -> Store {
    let mut store = store();
    store.change(|tx| {
        tx.insert_queue(&QueueRow { id: QueueId(2), name: "gpu".into(), paused: false }).unwrap();
        for seq in 1..=tasks {
            let row = match seq % 3 {
                0 => queued(seq),
                1 => ended(seq, TaskState::Succeeded, seq),
                _ => TaskRow { queue: QueueId(2), ..full(seq) },
            };
            insert(tx, &row);
        }
    });
    store
}

#[test]
fn listings_are_newest_first_and_filtered() {
    let store = mixed(9);
    let by = |filter: Filter| store.seqs(&filter);
    let states = |states| Filter { states, ..Filter::default() };
    assert_eq!(by(Filter::default()), [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(by(states(StateFilter::Open)), [9, 8, 6, 5, 3, 2]);
    assert_eq!(by(states(StateFilter::Ended)), [7, 4, 1]);
    assert_eq!(by(states(StateFilter::These(vec![TaskState::Queued]))), [9, 6, 3]);
    assert_eq!(
        by(states(StateFilter::These(vec![TaskState::Queued, TaskState::Succeeded]))),
        [9, 7, 6, 4, 3, 1]
    );
    assert_eq!(by(states(StateFilter::These(vec![]))), [0; 0]);
    let gpu = Filter { queue: Some("gpu".into()), ..Filter::default() };
    assert_eq!(by(gpu.clone()), [8, 5, 2]);
    assert_eq!(by(Filter { before: Some(Seq(8)), ..gpu.clone() }), [5, 2]);
    assert_eq!(by(Filter { queue: Some("nowhere".into()), ..Filter::default() }), [0; 0]);
    let tagged = Filter { tag: Some("nightly".into()), ..Filter::default() };
    assert_eq!(by(tagged.clone()), [8, 5, 2]);
    assert_eq!(by(Filter { before: Some(Seq(5)), ..tagged.clone() }), [2]);
    assert_eq!(by(Filter { states: StateFilter::Ended, ..tagged.clone() }), [0; 0]);
    assert_eq!(by(Filter { tag: Some("night".into()), ..tagged }), [0; 0]);

    let page = store.reader.list(&Filter { limit: 1, ..gpu }).unwrap();
    let [task] = page.tasks.as_slice() else { panic!("{page:?}") };
    assert_eq!((task.queue.as_str(), task.command.as_str()), ("gpu", payload().command.as_str()));
    assert_eq!(task.row, TaskRow { queue: QueueId(2), ..full(8) });
}

#[test]
fn pages_together_are_the_whole_whatever_their_bound() {
    let store = mixed(30);
    let whole: Vec<i64> = (1..=30).rev().collect();
    for limit in [1, 3, 7, 30, 31] {
        assert_eq!(store.pages(Filter { limit, ..Filter::default() }).0, whole);
    }
    let command = payload().command.len();
    let (seqs, pages) = store.pages(Filter { max_bytes: command * 5, ..Filter::default() });
    assert_eq!((seqs, pages), (whole.clone(), 6), "five commands to a page");
    let (seqs, pages) = store.pages(Filter { max_bytes: 0, ..Filter::default() });
    assert_eq!((seqs, pages), (whole, 30), "one task at least, or nobody would get on");
}

#[test]
fn a_page_ends_after_so_many_rows_looked_at() {
    let mut store = store();
    store.insert((1..=45_000).map(|seq| ended(seq, TaskState::Succeeded, seq)));
    let rare = Filter { states: StateFilter::These(vec![TaskState::Expired]), ..Filter::default() };
    let page = store.reader.list(&rare).unwrap();
    assert_eq!((page.tasks.len(), page.next), (0, Some(Seq(25_001))));
    store.insert([ended(50_000, TaskState::Expired, 5)]);
    assert_eq!(store.pages(rare), (vec![50_000], 3));
    let open = Filter { states: StateFilter::Open, ..Filter::default() };
    assert_eq!(store.pages(open), (vec![], 1), "open tasks are found without looking at ended ones");
}

fn with_ids(ids: &[TaskId]) -> Store {
    let mut store = store();
    store.insert((1..).zip(ids).map(|(seq, id)| TaskRow { id: *id, ..queued(seq) }));
    store
}

fn parsed(ids: &[&str]) -> Vec<TaskId> {
    ids.iter().map(|id| TaskId::parse(id).unwrap()).collect()
}

#[test]
fn a_prefix_names_one_task_none_or_several() {
    let ids = parsed(&[
        "00000000-0000-7000-8000-000000000000",
        "0190abcd-ef01-7234-89ab-cdef01234567",
        "0190abcd-ef01-7234-89ab-cdef01234568",
        "0190abce-0000-7000-8000-000000000000",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ]);
    let store = with_ids(&ids);
    let resolve = |prefix| store.reader.resolve_prefix(prefix).unwrap();
    assert_eq!(resolve("f"), Resolved::One(ids[4]));
    assert_eq!(resolve("00"), Resolved::One(ids[0]));
    assert_eq!(resolve("0190abce"), Resolved::One(ids[3]));
    assert_eq!(resolve("0190abcdef01723489abcdef01234568"), Resolved::One(ids[2]));
    assert_eq!(resolve("0190abcd-ef01-7234-89ab-cdef0123456"), Resolved::Many(vec![ids[1], ids[2]]));
    assert_eq!(resolve("0190ab"), Resolved::Many(vec![ids[1], ids[2], ids[3]]));
    for nothing in ["1", "0190abcf", "", "g", "0190abcdef01723489abcdef012345680"] {
        assert_eq!(resolve(nothing), Resolved::None, "{nothing}");
    }
    let many = with_ids(&(1..=9).map(id).collect::<Vec<_>>());
    assert_eq!(many.reader.resolve_prefix("0190").unwrap(), Resolved::Many((1..=5).map(id).collect()));
}

#[test]
fn the_short_prefix_is_the_shortest_that_names_its_task_alone() {
    let ids = parsed(&[
        "00000000-0000-7000-8000-000000000000",
        "0190abcd-ef01-7234-89ab-cdef01234567",
        "0190abcd-ef01-7234-89ab-cdef01234568",
        "0190abcd-ef01-7235-89ab-cdef01234568",
        "0190abcd-ef12-7235-89ab-cdef01234568",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ]);
    let store = with_ids(&ids);
    let page = store.reader.list(&Filter::default()).unwrap();
    let lengths: Vec<usize> = page.tasks.iter().rev().map(|task| task.short_prefix_len).collect();
    assert_eq!(lengths, [8, 32, 32, 16, 11, 8]);
    for task in page.tasks {
        let digits = task.row.id.to_string().replace('-', "");
        let shown = &digits[..task.short_prefix_len];
        assert_eq!(store.reader.resolve_prefix(shown).unwrap(), Resolved::One(task.row.id));
        let shorter = &digits[..task.short_prefix_len - 1];
        if task.short_prefix_len > 8 {
            assert!(matches!(store.reader.resolve_prefix(shorter).unwrap(), Resolved::Many(_)), "{shorter}");
        }
    }
}

#[test]
fn a_reader_sees_what_is_committed_and_nothing_else() {
    let mut store = store();
    let Store { writer, reader, .. } = &mut store;
    let mut tx = writer.begin().unwrap();
    tx.insert_task(NewTask { row: &queued(1), payload: &Payload::default() }).unwrap();
    assert_eq!(reader.task_by_id(id(1)).unwrap(), None);
    assert!(matches!(tx.commit(), Commit::Ok));
    assert!(reader.task_by_id(id(1)).unwrap().is_some());
}

#[test]
fn a_submission_is_found_in_its_own_scope_and_answered_as_it_stands_now() {
    let mut store = store();
    store.change(|tx| {
        tx.insert_principal(PRINCIPAL, "user 1000").unwrap();
        tx.insert_principal(PrincipalId(4), "user 1001").unwrap();
        (1..=2).for_each(|seq| insert(tx, &queued(seq)));
        tx.insert_submission(&submission(1, 2, "k")).unwrap();
        tx.insert_submission(&submission(3, 1, "deleted")).unwrap();
        tx.submission_ended(Seq(3), Some((TaskState::Cancelled, 5))).unwrap();
    });
    let key = |key: &str, route: &str| SubmissionKey {
        route: route.to_owned(),
        key: key.to_owned(),
        body_sha256: [7; 32],
    };
    let find = |principal, key| store.reader.submission(principal, &key).unwrap();
    let (prior, first) = find("user 1000", key("k", "POST /v1/tasks")).unwrap();
    assert_eq!((prior.ids.as_slice(), first), (&[id(1), id(2)][..], Some((id(1), TaskState::Queued))));
    let known = Answer::Replayed { ids: vec![id(1), id(2)], state: TaskState::Queued };
    assert_eq!(prior.answer(&[7; 32], first), known);
    assert_eq!(prior.answer(&[8; 32], first), Answer::Refused(Refusal::KeyMismatch));

    let (prior, first) = find("user 1000", key("deleted", "POST /v1/tasks")).unwrap();
    let known = Answer::Replayed { ids: vec![id(3)], state: TaskState::Cancelled };
    assert_eq!((first, prior.answer(&[7; 32], first)), (None, known));

    assert_eq!(find("user 1001", key("k", "POST /v1/tasks")), None);
    assert_eq!(find("user 1000", key("k", "POST /v1/tasks/bulk")), None);
    assert_eq!(find("user 1000", key("K", "POST /v1/tasks")), None);
    assert_eq!(find("nobody", key("k", "POST /v1/tasks")), None);
}
