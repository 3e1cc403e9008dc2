//! The hot index: every open task in memory, as committed, with the orders in which time and dispatch look for them;
//! and the overlay: what the open transaction has changed. A commit merges the overlay, a rollback drops it, so what
//! is decided from is always either committed or part of the same transaction.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::fair::{LaneKey, Lanes};
use crate::numbered::Numbered;
use crate::{Deadline, Due, Now, OpenRow, PausedReason, PrincipalId, QueueId, Seq, TaskRow, TaskState};

/// What is held of an open task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenTask {
    pub(crate) lane: LaneKey,
    pub(crate) bytes: u64,
    pub(crate) life: Life,
    /// On this boot's steady clock; only of what may still expire.
    pub(crate) expires_ms: Option<i64>,
}

/// Where it is, with what only that state needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    Scheduled(Timer),
    Queued,
    Running,
    Held,
    Frozen,
}

/// When a scheduled task is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// On this boot's steady clock.
    Steady(i64),
    /// On the wall clock.
    Wall(i64),
}

impl OpenTask {
    /// `None` for a task that has ended.
    pub(crate) fn of(row: &TaskRow, now: &Now) -> Option<Self> {
        let lane = LaneKey { queue: row.queue, priority: row.priority, principal: row.principal };
        Some(Self::new(lane, row.payload_bytes, life(row.state, row.due, now)?, row.expires.as_ref(), now))
    }

    pub(crate) fn of_open(row: &OpenRow, now: &Now) -> Option<Self> {
        let lane = LaneKey { queue: row.queue, priority: row.priority, principal: row.principal };
        Some(Self::new(lane, row.payload_bytes, life(row.state, row.due, now)?, row.expires.as_ref(), now))
    }

    /// Only what has not started can expire; a hold stops that clock.
    fn new(lane: LaneKey, bytes: i64, life: Life, expires: Option<&Deadline>, now: &Now) -> Self {
        let may_expire = matches!(life, Life::Scheduled(_) | Life::Queued);
        let expires_ms = expires.filter(|_| may_expire).map(|deadline| deadline.on_this_boot_ms(now));
        Self { lane, bytes: u64::try_from(bytes).unwrap_or(0), life, expires_ms }
    }

    fn is_waiting(&self) -> bool {
        !matches!(self.life, Life::Running | Life::Frozen)
    }
}

fn life(state: TaskState, due: Option<Due>, now: &Now) -> Option<Life> {
    match state {
        TaskState::Scheduled(_) => Some(Life::Scheduled(match due {
            Some(Due::After(deadline)) => Timer::Steady(deadline.on_this_boot_ms(now)),
            Some(Due::At(wall_ms)) => Timer::Wall(wall_ms),
            None => Timer::Steady(now.boottime_ms),
        })),
        TaskState::Queued => Some(Life::Queued),
        TaskState::Running => Some(Life::Running),
        TaskState::Paused(PausedReason::Held) => Some(Life::Held),
        TaskState::Paused(PausedReason::Frozen) => Some(Life::Frozen),
        TaskState::Succeeded | TaskState::Cancelled | TaskState::Expired | TaskState::Dead(_) => None,
    }
}

/// How many there are, and how heavy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) waiting: i64,
    pub(crate) waiting_bytes: i64,
    pub(crate) running: i64,
    /// Of those that wait.
    pub(crate) held: i64,
    /// Of those that run.
    pub(crate) frozen: i64,
}

impl Counts {
    fn add(&mut self, task: &OpenTask, sign: i64) {
        match task.life {
            Life::Held => self.held += sign,
            Life::Frozen => self.frozen += sign,
            Life::Scheduled(_) | Life::Queued | Life::Running => {}
        }
        if task.is_waiting() {
            self.waiting += sign;
            self.waiting_bytes += sign * i64::try_from(task.bytes).unwrap_or(i64::MAX);
        } else {
            self.running += sign;
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            waiting_bytes: self.waiting_bytes + other.waiting_bytes,
            running: self.running + other.running,
            held: self.held + other.held,
            frozen: self.frozen + other.frozen,
        }
    }
}

/// The committed half.
#[derive(Debug, Default, PartialEq, Eq)]
struct Committed {
    tasks: Numbered<Seq, OpenTask>,
    lanes: Lanes,
    due: BTreeSet<(i64, Seq)>,
    due_wall: BTreeSet<(i64, Seq)>,
    expiry: BTreeSet<(i64, Seq)>,
    counts: Counts,
    by_queue: Numbered<QueueId, Counts>,
    /// What a client has in a queue; none of these is empty.
    by_share: BTreeMap<(PrincipalId, QueueId), Counts>,
    drained: u64,
}

impl Committed {
    /// Of all that is open, each once: orders are built whole, which costs a fraction of one entry after another.
    fn of(open: Vec<(Seq, OpenTask)>) -> Self {
        let mut lanes: BTreeMap<LaneKey, Vec<Seq>> = BTreeMap::new();
        let (mut due, mut due_wall, mut expiry) = (Vec::new(), Vec::new(), Vec::new());
        let mut counts = Counts::default();
        let mut by_queue: Numbered<QueueId, Counts> = Numbered::default();
        let mut by_share: BTreeMap<(PrincipalId, QueueId), Counts> = BTreeMap::new();
        for (seq, task) in &open {
            match task.life {
                Life::Scheduled(Timer::Steady(at)) => due.push((at, *seq)),
                Life::Scheduled(Timer::Wall(at)) => due_wall.push((at, *seq)),
                Life::Queued => lanes.entry(task.lane).or_default().push(*seq),
                Life::Running | Life::Held | Life::Frozen => {}
            }
            expiry.extend(task.expires_ms.map(|at| (at, *seq)));
            counts.add(task, 1);
            by_queue.entry(task.lane.queue).or_default().add(task, 1);
            by_share.entry(task.lane.share()).or_default().add(task, 1);
        }
        Self {
            tasks: open.into_iter().collect(),
            lanes: Lanes::of(lanes),
            due: due.into_iter().collect(),
            due_wall: due_wall.into_iter().collect(),
            expiry: expiry.into_iter().collect(),
            counts,
            by_queue,
            by_share,
            drained: 0,
        }
    }

    fn put(&mut self, seq: Seq, task: Option<OpenTask>) {
        let waits = task.as_ref().is_some_and(OpenTask::is_waiting);
        let before = match &task {
            Some(task) => {
                self.enter(seq, task);
                self.tasks.insert(seq, task.clone())
            }
            None => self.tasks.remove(&seq),
        };
        if let Some(before) = before {
            if before.is_waiting() && !waits {
                self.drained = self.drained.saturating_add(1);
            }
            self.leave(seq, &before, task.as_ref());
        }
    }

    fn enter(&mut self, seq: Seq, task: &OpenTask) {
        match task.life {
            Life::Scheduled(Timer::Steady(at)) => _ = self.due.insert((at, seq)),
            Life::Scheduled(Timer::Wall(at)) => _ = self.due_wall.insert((at, seq)),
            Life::Queued => self.lanes.insert(task.lane, seq),
            Life::Running | Life::Held | Life::Frozen => {}
        }
        if let Some(at) = task.expires_ms {
            self.expiry.insert((at, seq));
        }
        self.counts.add(task, 1);
        self.by_queue.entry(task.lane.queue).or_default().add(task, 1);
        self.by_share.entry(task.lane.share()).or_default().add(task, 1);
    }

    /// Takes `before` out of every order that `after` does not need it in; `after` was entered already.
    fn leave(&mut self, seq: Seq, before: &OpenTask, after: Option<&OpenTask>) {
        if after.map(|task| (task.life, task.lane)) != Some((before.life, before.lane)) {
            match before.life {
                Life::Scheduled(Timer::Steady(at)) => _ = self.due.remove(&(at, seq)),
                Life::Scheduled(Timer::Wall(at)) => _ = self.due_wall.remove(&(at, seq)),
                Life::Queued => self.lanes.remove(before.lane, seq),
                Life::Running | Life::Held | Life::Frozen => {}
            }
        }
        if let Some(at) = before.expires_ms
            && after.and_then(|task| task.expires_ms) != Some(at)
        {
            self.expiry.remove(&(at, seq));
        }
        self.counts.add(before, -1);
        self.by_queue.entry(before.lane.queue).or_default().add(before, -1);
        if let Entry::Occupied(mut share) = self.by_share.entry(before.lane.share()) {
            share.get_mut().add(before, -1);
            if *share.get() == Counts::default() {
                share.remove();
            }
        }
    }
}

/// The index and its overlay.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    committed: Committed,
    /// What a life's first transaction has found; its commit makes it the committed half.
    loaded: Option<Committed>,
    overlay: BTreeMap<Seq, Option<OpenTask>>,
    delta: Counts,
    delta_by_share: BTreeMap<(PrincipalId, QueueId), Counts>,
}

impl Hot {
    /// What a life begins with, once the open transaction is committed: everything that is open in the store, each task
    /// once.
    pub(crate) fn of(open: Vec<(Seq, OpenTask)>) -> Self {
        Self { loaded: Some(Committed::of(open)), ..Self::default() }
    }

    /// Changes a task within the open transaction; `None`: it has ended.
    pub(crate) fn put(&mut self, seq: Seq, task: Option<OpenTask>) {
        let before = match self.overlay.get(&seq) {
            Some(change) => change.as_ref(),
            None => self.loaded.as_ref().unwrap_or(&self.committed).tasks.get(&seq),
        };
        if let Some(before) = before {
            self.delta.add(before, -1);
            self.delta_by_share.entry(before.lane.share()).or_default().add(before, -1);
        }
        if let Some(task) = &task {
            self.delta.add(task, 1);
            self.delta_by_share.entry(task.lane.share()).or_default().add(task, 1);
        }
        self.overlay.insert(seq, task);
    }

    /// With the open transaction's changes.
    pub(crate) fn counts(&self) -> Counts {
        self.loaded.as_ref().unwrap_or(&self.committed).counts.plus(self.delta)
    }

    /// The waiting tasks of each client that has some, with the open transaction's changes.
    pub(crate) fn waiting_by_client(&self) -> BTreeMap<PrincipalId, u64> {
        self.waiting(
            (PrincipalId(i64::MIN), QueueId(i64::MIN))..=(PrincipalId(i64::MAX), QueueId(i64::MAX)),
            |share| share.0,
        )
    }

    /// The waiting tasks of one client in each queue where it has some, with the open transaction's changes.
    pub(crate) fn waiting_by_queue(&self, client: PrincipalId) -> BTreeMap<QueueId, u64> {
        self.waiting((client, QueueId(i64::MIN))..=(client, QueueId(i64::MAX)), |share| share.1)
    }

    fn waiting<K: Ord>(
        &self,
        part: RangeInclusive<(PrincipalId, QueueId)>,
        by: impl Fn(&(PrincipalId, QueueId)) -> K,
    ) -> BTreeMap<K, u64> {
        let mut waiting: BTreeMap<K, i64> = BTreeMap::new();
        let committed = self.committed.by_share.range(part.clone());
        for (share, counts) in committed.chain(self.delta_by_share.range(part)) {
            *waiting.entry(by(share)).or_default() += counts.waiting;
        }
        let whole = |(key, count)| Some((key, u64::try_from(count).ok().filter(|count| *count > 0)?));
        waiting.into_iter().filter_map(whole).collect()
    }

    /// As committed.
    pub(crate) fn committed_counts(&self) -> Counts {
        self.committed.counts
    }

    /// Tasks that have left the waiting ones in this life, as committed.
    pub(crate) fn drained(&self) -> u64 {
        self.committed.drained
    }

    /// As committed.
    pub(crate) fn queue_counts(&self, queue: QueueId) -> Counts {
        self.committed.by_queue.get(&queue).copied().unwrap_or_default()
    }

    pub(crate) fn commit(&mut self) {
        if let Some(loaded) = self.loaded.take() {
            self.committed = loaded;
        }
        for (seq, task) in std::mem::take(&mut self.overlay) {
            self.committed.put(seq, task);
        }
        self.delta = Counts::default();
        self.delta_by_share.clear();
        debug_assert!(self.invariants(), "the index disagrees with itself");
    }

    pub(crate) fn roll_back(&mut self) {
        self.loaded = None;
        self.overlay.clear();
        self.delta = Counts::default();
        self.delta_by_share.clear();
    }

    /// The open transaction has changed this task: what the committed half says of it is out of date.
    pub(crate) fn is_touched(&self, seq: Seq) -> bool {
        self.overlay.contains_key(&seq)
    }

    /// Tasks that are due, earliest first.
    pub(crate) fn due(&self, now: &Now, most: usize) -> Vec<Seq> {
        let steady = self.committed.due.iter().take_while(|(at, _)| *at <= now.boottime_ms);
        let wall = self.committed.due_wall.iter().take_while(|(at, _)| *at <= now.wall_ms);
        steady.chain(wall).map(|(_, seq)| *seq).filter(|seq| !self.is_touched(*seq)).take(most).collect()
    }

    /// Tasks whose time to live is over.
    pub(crate) fn expired(&self, now: &Now, most: usize) -> Vec<Seq> {
        let over = self.committed.expiry.iter().take_while(|(at, _)| *at <= now.boottime_ms);
        over.map(|(_, seq)| *seq).filter(|seq| !self.is_touched(*seq)).take(most).collect()
    }

    /// Milliseconds until the first timer; 0 if one is over.
    pub(crate) fn next_timer_ms(&self, now: &Now) -> Option<i64> {
        let steady = [self.committed.due.first(), self.committed.expiry.first()];
        let steady = steady.into_iter().flatten().map(|(at, _)| at.saturating_sub(now.boottime_ms));
        let wall = self.committed.due_wall.first().map(|(at, _)| at.saturating_sub(now.wall_ms));
        steady.chain(wall).min().map(|left| left.max(0))
    }

    pub(crate) fn lanes(&self) -> &Lanes {
        &self.committed.lanes
    }

    /// What must hold after every commit (checked where debug assertions are on, on small indexes).
    fn invariants(&self) -> bool {
        let committed = &self.committed;
        if committed.tasks.len() > 256 {
            return true;
        }
        let mut counts = Counts::default();
        committed.tasks.values().for_each(|task| counts.add(task, 1));
        let timers = committed.tasks.values().filter(|task| matches!(task.life, Life::Scheduled(_))).count();
        let expiring = committed.tasks.values().filter(|task| task.expires_ms.is_some()).count();
        let shared = committed.by_share.values().fold(Counts::default(), |sum, share| sum.plus(*share));
        counts == committed.counts
            && counts == shared
            && timers == committed.due.len() + committed.due_wall.len()
            && expiring == committed.expiry.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Priority;

    #[test]
    fn an_index_built_at_once_is_the_one_built_task_by_task() {
        let task = |n: i64| OpenTask {
            lane: LaneKey {
                queue: QueueId(n % 3),
                priority: Priority::new(n % 4).unwrap(),
                principal: PrincipalId(n % 2),
            },
            bytes: n.unsigned_abs(),
            life: match n % 5 {
                0 => Life::Scheduled(Timer::Steady(1_000 - n)),
                1 => Life::Scheduled(Timer::Wall(n % 7)),
                2 => Life::Running,
                3 => Life::Held,
                _ => Life::Queued,
            },
            expires_ms: (n % 2 == 0).then_some(n % 11),
        };
        let open: Vec<_> = (1..=200).map(|n| (Seq(n), task(n))).collect();
        let mut one_by_one = Hot::default();
        open.iter().for_each(|(seq, task)| one_by_one.put(*seq, Some(task.clone())));
        one_by_one.commit();
        let mut at_once = Hot::of(open.clone());
        assert_eq!(at_once.counts(), one_by_one.counts());
        assert_eq!(at_once.committed_counts(), Counts::default(), "not before the commit");
        at_once.commit();
        assert_eq!(at_once.committed, one_by_one.committed);

        let mut refused = Hot::of(open);
        refused.roll_back();
        assert_eq!(refused.committed, Committed::default());
    }
}
