//! The core's memory is what is committed: its figures, counted anew from the rows after every commit.

use chitin_core::{Figures, TaskState};

use super::{Checker, Held, Scene, Seen, ensure};

/// Counts.
#[derive(Debug)]
pub(crate) struct Memory;

impl Checker for Memory {
    fn name(&self) -> &'static str {
        "memory is what is committed"
    }

    fn see(&mut self, seen: &Seen<'_>, scene: &Scene<'_>) -> Held {
        let Seen::Committed(Some(figures)) = seen else { return Ok(()) };
        let view = scene.view;
        let whole = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let is_paused = |row: &&chitin_core::TaskRow| matches!(row.state, TaskState::Paused(_));
        let ended = view.tasks.values().filter(|row| row.state.has_ended());
        let mut queues: Vec<_> = view
            .queues
            .values()
            .map(|queue| {
                let of = |row: &&chitin_core::TaskRow| row.queue == queue.id;
                let waiting = whole(view.waiting().filter(of).count());
                (queue.name.clone(), queue.paused, waiting, whole(view.running().filter(of).count()))
            })
            .collect();
        let mut counted = Figures {
            waiting: whole(view.waiting().count()),
            waiting_bytes: view.waiting().map(|row| row.payload_bytes.unsigned_abs()).sum(),
            running: whole(view.running().count()),
            held: whole(view.waiting().filter(is_paused).count()),
            frozen: whole(view.running().filter(is_paused).count()),
            kept_bytes: ended.map(|row| (row.kept_bytes + row.payload_bytes).unsigned_abs()).sum(),
            queues: Vec::new(),
        };
        queues.sort();
        counted.queues = queues;
        let mut told = (*figures).clone();
        told.queues.sort();
        ensure(told == counted, || format!("the core says {told:?}, the rows {counted:?}"))?;
        let under_way: Vec<_> = view.attempts.values().filter(|row| row.outcome.is_none()).collect();
        ensure(under_way.len() == view.running().count(), || format!("what runs is not {under_way:?}"))?;
        let newest = |row: &&chitin_core::AttemptRow| {
            let task = view.tasks.get(&row.seq);
            task.is_none_or(|task| task.attempt != row.attempt || !task.state.is_under_way())
        };
        let other = under_way.into_iter().find(newest);
        ensure(other.is_none(), || format!("not the newest attempt, and under way: {other:?}"))
    }
}
