//! Whose turn it is (R2.6).
//!
//! Intuition: priority decides; within a priority, principals take turns, so that one client's flood does not starve
//! another's trickle, and each principal's turns go to its queues in turn, so that neither does one queue's; and whoever
//! has been overtaken by many later admissions rises, so that nothing waits for ever.
//!
//! - A lane is one queue, one priority, one principal: first in, first out by admission.
//! - Aging counts admissions, not time: a lane's head rises one priority for every [`AGING_STEP`] tasks admitted after
//!   it, up to the highest. A clock could not be trusted with this, and an idle gateway has nobody to overtake.
//! - Turns are start-time fair queueing (Goyal, Vin, Cheng 1996) with equal weights: a principal's next turn starts
//!   where its last one finished, but never before the turn being served, so that idling earns no credit. Among a
//!   principal's queues it is the same once more: nobody gets more by naming more queues.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;

use crate::numbered::Numbered;
use crate::valid::Priority;
use crate::{PrincipalId, QueueId, Seq};

/// Admissions after a task that lift it by one priority. Fewer would make priorities meaningless in a burst; more
/// would let a tenth of the largest default queue overtake.
pub const AGING_STEP: i64 = 1_000;

/// Queue, priority, principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LaneKey {
    pub(crate) queue: QueueId,
    pub(crate) priority: Priority,
    pub(crate) principal: PrincipalId,
}

impl LaneKey {
    /// Whose it is, and where: what turns and places are shared by.
    pub(crate) fn share(&self) -> (PrincipalId, QueueId) {
        (self.principal, self.queue)
    }
}

/// The queued tasks, in lanes. Invariant: no lane is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lanes(BTreeMap<LaneKey, BTreeSet<Seq>>);

impl Lanes {
    /// Of lanes none of which is empty.
    pub(crate) fn of(lanes: BTreeMap<LaneKey, Vec<Seq>>) -> Self {
        Self(lanes.into_iter().map(|(key, lane)| (key, lane.into_iter().collect())).collect())
    }

    pub(crate) fn insert(&mut self, key: LaneKey, seq: Seq) {
        self.0.entry(key).or_default().insert(seq);
    }

    pub(crate) fn remove(&mut self, key: LaneKey, seq: Seq) {
        if let Some(lane) = self.0.get_mut(&key) {
            lane.remove(&seq);
            if lane.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Something could be given out from a queue that `is_open`.
    pub(crate) fn any(&self, is_open: impl Fn(QueueId) -> bool) -> bool {
        self.0.keys().any(|key| is_open(key.queue))
    }

    /// One batch's pass over the lanes of open queues.
    pub(crate) fn picker(&self, newest: Seq, is_open: impl Fn(QueueId) -> bool) -> Picker<'_> {
        let cursors = self.0.iter().filter(|(key, _)| is_open(key.queue));
        Picker {
            newest,
            cursors: cursors.map(|(key, lane)| (*key, lane.iter().copied().peekable())).collect(),
        }
    }
}

type Cursor<'a> =
    (LaneKey, std::iter::Peekable<std::iter::Copied<std::collections::btree_set::Iter<'a, Seq>>>);

/// Gives out queued tasks in order, each once.
pub(crate) struct Picker<'a> {
    newest: Seq,
    cursors: Vec<Cursor<'a>>,
}

impl Picker<'_> {
    /// The next task whose turn it is, passing over those that `skip` says are already spoken for.
    pub(crate) fn next(&mut self, turns: &mut Turns, skip: impl Fn(Seq) -> bool) -> Option<Seq> {
        for (_, lane) in &mut self.cursors {
            while lane.next_if(|seq| skip(*seq)).is_some() {}
        }
        let newest = self.newest;
        let best = self
            .cursors
            .iter_mut()
            .filter_map(|(key, lane)| {
                let head = *lane.peek()?;
                let risen = risen(key.priority, head, newest);
                let rank = (std::cmp::Reverse(risen), turns.start(key), head);
                Some((rank, *key, lane))
            })
            .min_by_key(|(rank, ..)| *rank)?;
        turns.take(&best.1);
        best.2.next()
    }
}

fn risen(priority: Priority, head: Seq, newest: Seq) -> i64 {
    let overtaken = newest.0.saturating_sub(head.0).max(0) / AGING_STEP;
    i64::from(priority.get()).saturating_add(overtaken).min(i64::from(Priority::MAX))
}

/// Who has had how many turns, in virtual time: principals, and each principal's queues. Kept in memory only: after a restart
/// everybody begins alike.
#[derive(Debug, Default, Clone)]
pub(crate) struct Turns {
    principals: Round<PrincipalId>,
    /// Of everybody who has had a turn, which is at most everybody who is known.
    queues: Numbered<PrincipalId, Round<QueueId>>,
}

impl Turns {
    fn start(&self, key: &LaneKey) -> (u64, u64) {
        let queues = self.queues.get(&key.principal);
        (self.principals.start(key.principal), queues.map_or(0, |queues| queues.start(key.queue)))
    }

    fn take(&mut self, key: &LaneKey) {
        self.principals.take(key.principal);
        self.queues.entry(key.principal).or_default().take(key.queue);
    }
}

/// Some who take turns.
#[derive(Debug, Clone)]
struct Round<K> {
    now: u64,
    finish: Numbered<K, u64>,
}

impl<K> Default for Round<K> {
    fn default() -> Self {
        Self { now: 0, finish: Numbered::default() }
    }
}

impl<K: Copy + Eq + Hash> Round<K> {
    fn start(&self, who: K) -> u64 {
        self.finish.get(&who).copied().unwrap_or(0).max(self.now)
    }

    fn take(&mut self, who: K) {
        let start = self.start(who);
        self.now = start;
        self.finish.insert(who, start.saturating_add(1));
        self.finish.retain(|_, finish| *finish > start);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(queue: i64, priority: i64, principal: i64) -> LaneKey {
        LaneKey {
            queue: QueueId(queue),
            priority: Priority::new(priority).unwrap(),
            principal: PrincipalId(principal),
        }
    }

    fn order(lanes: &Lanes, newest: i64, paused: &[i64], most: usize) -> Vec<i64> {
        let mut turns = Turns::default();
        let mut picker = lanes.picker(Seq(newest), |queue| !paused.contains(&queue.0));
        std::iter::from_fn(|| picker.next(&mut turns, |_| false)).map(|seq| seq.0).take(most).collect()
    }

    fn lanes(tasks: &[(i64, LaneKey)]) -> Lanes {
        let mut lanes = Lanes::default();
        for (seq, key) in tasks {
            lanes.insert(*key, Seq(*seq));
        }
        lanes
    }

    #[test]
    fn priority_first_then_admission() {
        let lanes = lanes(&[(1, key(1, 5, 1)), (2, key(1, 9, 1)), (3, key(1, 5, 1)), (4, key(2, 9, 1))]);
        assert_eq!(order(&lanes, 4, &[], 9), [2, 4, 1, 3]);
    }

    #[test]
    fn a_flood_does_not_starve_a_trickle() {
        let mut tasks: Vec<_> = (1..=100).map(|seq| (seq, key(1, 5, 1))).collect();
        tasks.extend([(101, key(1, 5, 2)), (102, key(1, 5, 2))]);
        assert_eq!(order(&lanes(&tasks), 102, &[], 5), [1, 101, 2, 102, 3]);
    }

    #[test]
    fn nor_does_a_flood_in_one_queue_starve_a_trickle_in_another() {
        let mut tasks: Vec<_> = (1..=100).map(|seq| (seq, key(1, 5, 1))).collect();
        tasks.extend([(101, key(2, 5, 1)), (102, key(2, 5, 1)), (103, key(3, 5, 1))]);
        assert_eq!(order(&lanes(&tasks), 103, &[], 6), [1, 101, 103, 2, 102, 3]);
    }

    #[test]
    fn more_queues_are_not_more_turns() {
        let mut tasks: Vec<_> = (1..=9).map(|seq| (seq, key(seq, 5, 1))).collect();
        tasks.extend((10..=14).map(|seq| (seq, key(1, 5, 2))));
        assert_eq!(order(&lanes(&tasks), 14, &[], 6), [1, 10, 2, 11, 3, 12]);
    }

    #[test]
    fn whoever_was_overtaken_often_enough_goes_first() {
        let tasks = [(1, key(1, 0, 1)), (8_999, key(1, 9, 1)), (9_001, key(1, 9, 1))];
        assert_eq!(order(&lanes(&tasks), 9_000, &[], 3), [8_999, 9_001, 1], "not yet");
        assert_eq!(order(&lanes(&tasks), 9_001, &[], 3), [1, 8_999, 9_001], "nine steps up, and older");
    }

    #[test]
    fn nothing_is_given_out_from_a_paused_queue() {
        let lanes = lanes(&[(1, key(1, 9, 1)), (2, key(2, 5, 1))]);
        assert_eq!(order(&lanes, 2, &[1], 9), [2]);
        assert!(!lanes.any(|queue| queue.0 == 3));
    }

    #[test]
    fn idling_earns_no_credit() {
        let mut turns = Round::default();
        for _ in 0..1_000 {
            turns.take(PrincipalId(1));
        }
        let late = PrincipalId(2);
        let starts: Vec<_> = (0..3)
            .map(|_| {
                turns.take(late);
                turns.start(late) - turns.now
            })
            .collect();
        assert_eq!(starts, [1, 1, 1], "the newcomer alternates from now on and owes or owns nothing");
    }
}
