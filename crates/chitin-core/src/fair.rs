//! Whose turn it is (R2.6).
//!
//! Intuition: priority decides; within a priority, principals take turns, so that one client's flood does not starve
//! another's trickle; and whoever has been overtaken by many later admissions rises, so that nothing waits for ever.
//!
//! - A lane is one queue, one priority, one principal: first in, first out by admission.
//! - Aging counts admissions, not time: a lane's head rises one priority for every [`AGING_STEP`] tasks admitted after
//!   it, up to the highest. A clock could not be trusted with this, and an idle gateway has nobody to overtake.
//! - Turns are start-time fair queueing (Goyal, Vin, Cheng 1996) with equal weights: a principal's next turn starts
//!   where its last one finished, but never before the turn being served, so that idling earns no credit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

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
                let rank =
                    (std::cmp::Reverse(risen(key.priority, head, newest)), turns.start(key.principal), head);
                Some((rank, key.principal, lane))
            })
            .min_by_key(|(rank, ..)| *rank)?;
        turns.take(best.1);
        best.2.next()
    }
}

fn risen(priority: Priority, head: Seq, newest: Seq) -> i64 {
    let overtaken = newest.0.saturating_sub(head.0).max(0) / AGING_STEP;
    i64::from(priority.get()).saturating_add(overtaken).min(i64::from(Priority::MAX))
}

/// Who has had how many turns, in virtual time. Kept in memory only: after a restart everybody begins alike.
#[derive(Debug, Default, Clone)]
pub(crate) struct Turns {
    now: u64,
    finish: HashMap<PrincipalId, u64>,
}

impl Turns {
    fn start(&self, principal: PrincipalId) -> u64 {
        self.finish.get(&principal).copied().unwrap_or(0).max(self.now)
    }

    fn take(&mut self, principal: PrincipalId) {
        let start = self.start(principal);
        self.now = start;
        self.finish.insert(principal, start.saturating_add(1));
        let now = self.now;
        self.finish.retain(|_, finish| *finish > now);
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
        let mut turns = Turns::default();
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
