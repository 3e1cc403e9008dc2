//! Shares between a client's queues, and that both kinds of shares together let everybody come to theirs.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::testing::*;
use crate::{Answer, CommandId, Dispatch, Input, Limits, TaskId, TaskSpec};

fn bench(waiting_tasks: u64) -> Bench {
    let mut bench = Bench::new(Limits { waiting_tasks, ..Limits::default() });
    bench.core.set_dispatch(Dispatch::Paused);
    bench
}

fn in_queue(name: &str) -> TaskSpec {
    TaskSpec { queue: QueueName::new(name).unwrap(), ..spec() }
}

fn submit(bench: &mut Bench, client: &str, queues: &[&str]) -> Answer {
    let specs = queues.iter().map(|queue| in_queue(queue)).collect();
    let submission = Submission { principal: client.into(), ..bench.submission(specs) };
    answers(&bench.batch(&[Input::Submit(submission)]))[0].clone()
}

fn is_in(answer: &Answer) -> bool {
    matches!(answer, Answer::Accepted { .. })
}

/// Frees the place of the earliest task of a client in a queue.
fn free(bench: &mut Bench, client: &str, queue: &str) {
    let (client, queue) = ids(bench, client, queue);
    let of =
        |row: &&crate::TaskRow| row.principal == client && row.queue == queue && row.ended_at_ms.is_none();
    let id: TaskId = bench.store.tasks().find(of).unwrap().id;
    bench.batch(&[Input::Cancel { to: CommandId(0), id }]);
}

fn ids(bench: &Bench, client: &str, queue: &str) -> (PrincipalId, QueueId) {
    let queue = QueueName::new(queue).unwrap();
    (bench.core.client_id(client).unwrap(), bench.core.queue_id(&queue).unwrap())
}

fn over(queue: &str, waiting: u64, share: u64) -> Answer {
    Answer::Refused(Refusal::OverQueueShare { waiting, share, queue: QueueName::new(queue).unwrap() })
}

#[test]
fn one_queue_may_take_all_places_until_another_of_the_same_client_is_wanted() {
    let mut bench = bench(10);
    assert!(is_in(&submit(&mut bench, "anna", &["flood"; 10])));
    let full = Answer::Refused(Refusal::QueueFull { waiting: 10, limit: 10 });
    assert_eq!(submit(&mut bench, "anna", &["trickle"]), full);
    free(&mut bench, "anna", "flood");
    assert_eq!(submit(&mut bench, "anna", &["flood"]), over("flood", 9, 5));
    assert!(is_in(&submit(&mut bench, "anna", &["trickle"])));
    free(&mut bench, "anna", "flood");
    assert!(is_in(&submit(&mut bench, "anna", &["flood"])), "nobody else wants in any more");
    // Whoever was turned away and does not come back is waited for no longer.
    assert_eq!(submit(&mut bench, "anna", &["trickle"]), full);
    free(&mut bench, "anna", "flood");
    bench.pass_ms(WANTS_MS - 1);
    assert!(!is_in(&submit(&mut bench, "anna", &["flood"])));
    bench.pass_ms(1);
    assert!(is_in(&submit(&mut bench, "anna", &["flood"])));
}

#[test]
fn queues_share_what_their_client_may_have_and_more_of_them_are_not_more() {
    let mut bench = bench(12);
    assert!(is_in(&submit(&mut bench, "anna", &["a"; 12])));
    for (client, queue) in [("bert", "a"), ("anna", "b")] {
        assert!(!is_in(&submit(&mut bench, client, &[queue])));
    }
    for _ in 0..6 {
        free(&mut bench, "anna", "a");
        let client_first = Refusal::OverShare { waiting: 6, share: 6 };
        let refused = submit(&mut bench, "anna", &["b"]);
        if bench.core.figures().waiting == 6 + 5 && refused == Answer::Refused(client_first) {
            break;
        }
        assert!(is_in(&submit(&mut bench, "bert", &["a"])));
        assert!(!is_in(&submit(&mut bench, "bert", &["a"])), "it still wants in");
    }
    // Both have six. What anna's tasks leave goes to the queue of hers that has less.
    free(&mut bench, "anna", "a");
    assert_eq!(submit(&mut bench, "anna", &["a"]), over("a", 5, 3));
    assert!(is_in(&submit(&mut bench, "anna", &["b"])));
}

#[test]
fn a_submission_to_several_queues_comes_in_whole_or_not_at_all() {
    let mut bench = bench(8);
    assert!(is_in(&submit(&mut bench, "anna", &["a"; 8])));
    assert!(!is_in(&submit(&mut bench, "anna", &["b"])));
    for _ in 0..3 {
        free(&mut bench, "anna", "a");
    }
    assert_eq!(submit(&mut bench, "anna", &["c", "a"]), over("a", 5, 2));
    assert!(is_in(&submit(&mut bench, "anna", &["c", "b"])));
}

#[test]
fn names_that_nobody_else_knows_are_remembered_up_to_a_bound() {
    let mut bench = bench(1);
    assert!(is_in(&submit(&mut bench, "anna", &["a"])));
    for n in 0..MOST + 10 {
        assert!(!is_in(&submit(&mut bench, "anna", &[&format!("q{n}")])));
    }
    assert_eq!(bench.core.wanting.0.len(), MOST);
}

const CLIENTS: [&str; 3] = ["anna", "bert", "cora"];
const QUEUES: [&str; 3] = ["a", "b", "c"];

/// What each client has in each queue.
fn held(bench: &Bench, all: &[(usize, usize)]) -> Vec<u64> {
    let names = all.iter().map(|(client, queue)| (CLIENTS[*client], QUEUES[*queue]));
    let waiting = names.map(|(client, queue)| {
        let client = bench.core.client_id(client)?;
        let queue = bench.core.queue_id(&QueueName::new(queue).unwrap())?;
        bench.core.hot.waiting_by_queue(client).get(&queue).copied()
    });
    waiting.map(Option::unwrap_or_default).collect()
}

/// Some that ask, one after the other.
fn ask(bench: &mut Bench, who: impl IntoIterator<Item = (usize, usize)>) {
    for (client, queue) in who {
        submit(bench, CLIENTS[client], &[QUEUES[queue]]);
    }
}

/// One task more than fits is asked for between any two that end, which they do for each client in turn, where it has most.
fn shares_out(bench: &mut Bench, places: u64, all: &[(usize, usize)], order: &[usize]) {
    let mut order = order.iter().cycle();
    while bench.core.figures().waiting < places {
        ask(bench, all.iter().copied());
    }
    for round in 0..usize::try_from(places).unwrap() * 4 {
        let some: Vec<_> = order.by_ref().take(all.len()).map(|at| all[at % all.len()]).collect();
        // Whoever has most is the first to ask, each time.
        let mut greedy: Vec<_> = held(bench, all).into_iter().zip(all.iter().copied()).collect();
        greedy.sort_unstable_by(|one, other| other.cmp(one));
        ask(bench, greedy.into_iter().map(|(_, who)| who).chain(some).chain(all.iter().copied()));
        assert_eq!(bench.core.figures().waiting, places, "no place stays empty, and none is given twice");
        let held = held(bench, all);
        let has = |at: &usize| (held[*at] > 0).then_some(all[*at].0);
        let clients: BTreeSet<usize> = (0..all.len()).filter_map(|at| has(&at)).collect();
        let client = clients.iter().nth(round % clients.len()).unwrap();
        let most = (0..all.len()).filter(|at| all[*at].0 == *client).max_by_key(|at| held[*at]).unwrap();
        free(bench, CLIENTS[*client], QUEUES[all[most].1]);
    }
    let clients: BTreeSet<usize> = all.iter().map(|(client, _)| *client).collect();
    for ((client, queue), held) in all.iter().zip(held(bench, all)) {
        let queues = all.iter().filter(|(other, _)| other == client).count();
        let share = share(share(places, clients.len()), queues);
        // One has just ended.
        assert!(held + 1 >= share, "client {client} has {held} of {share} in queue {queue}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    /// However the places were taken, and in whatever order they are asked for: the bound is never passed, and once all have
    /// been asking for a while each client has an equal share, and each of its queues has one of that.
    #[test]
    fn everybody_who_goes_on_asking_comes_to_an_equal_share(
        places in 12_u64..40,
        all in subsequence((0..9).map(|n| (n / 3, n % 3)).collect::<Vec<(usize, usize)>>(), 2..=9),
        first in vec((0_usize..9, 1_usize..20), 1..9),
        order in vec(0_usize..1_000, 64),
    ) {
        let mut bench = bench(places);
        for (who, tasks) in first {
            let (client, queue) = all[who % all.len()];
            submit(&mut bench, CLIENTS[client], &vec![QUEUES[queue]; tasks]);
        }
        shares_out(&mut bench, places, &all, &order);
    }
}
