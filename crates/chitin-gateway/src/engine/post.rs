//! The way to the writer and back: commands and answers travel in groups.
//!
//! Intuition: the writer is a thread, and whoever asks is a task on another. To wake the one for each command and the other
//! for each answer costs more than most of them do; and a writer woken by the first who comes commits for him alone while
//! all the others are still being read. So what is handed over waits until every task that can run has run: those are a
//! group, and one message. Whatever comes while a commit is under way is in the next one. The answers of a commit go back as
//! one group, too, to the thread where they are waited for.
//!
//! Invariant: what was handed over before a stop is in the writer's hands before the stop is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chitin_core::Dispatch;
use tokio::sync::Notify;

use super::{Command, Reply, Trouble};
use crate::tasks::{TaskKind, Tasks};

/// Commands that may wait for the writer: some batches' worth. More would only wait longer than a client does.
const WAITING_COMMANDS: usize = 4_096;

/// What the writer hears of, one after the other.
#[derive(Debug)]
pub(super) enum Message {
    Command(Box<Command>),
    Dispatch(Dispatch),
    Stop,
}

/// What goes through the channel.
#[derive(Debug)]
enum Post {
    Group(VecDeque<Box<Command>>),
    /// There is a wish; never two of these at once.
    Wish,
    Stop,
}

/// The sending end: gathers groups.
#[derive(Debug)]
pub(super) struct Outbox {
    group: Mutex<VecDeque<Box<Command>>>,
    /// A group has begun.
    begun: Notify,
    channel: SyncSender<Post>,
    shared: Arc<Common>,
}

#[derive(Debug, Default)]
struct Common {
    /// Commands that were handed over and not yet taken.
    waiting: AtomicUsize,
    /// The last wish about giving out attempts that was not yet heard.
    wish: Mutex<Option<Dispatch>>,
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct Inbox {
    channel: Receiver<Post>,
    /// What is left of the group that came last.
    group: VecDeque<Box<Command>>,
    shared: Arc<Common>,
}

/// Groups that may be in the channel: there are never more of them than commands that may wait. Beside them a wish and a stop.
const CHANNEL: usize = WAITING_COMMANDS + 2;

pub(super) fn post() -> (Arc<Outbox>, Inbox) {
    let (sender, receiver) = sync_channel(CHANNEL);
    let shared = Arc::new(Common::default());
    let (group, begun, common) = (Mutex::default(), Notify::new(), Arc::clone(&shared));
    let outbox = Outbox { group, begun, channel: sender, shared: common };
    (Arc::new(outbox), Inbox { channel: receiver, group: VecDeque::new(), shared })
}

impl Outbox {
    /// Hands a command over, if not too many wait already.
    pub(super) fn put(&self, command: Box<Command>) -> Result<(), Trouble> {
        let room = |waiting: usize| (waiting < WAITING_COMMANDS).then_some(waiting + 1);
        self.shared
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| Trouble::Overloaded)?;
        let mut group = lock(&self.group);
        group.push_back(command);
        let begins = group.len() == 1;
        drop(group);
        if begins {
            self.begun.notify_one();
        }
        Ok(())
    }

    pub(super) fn dispatch(&self, dispatch: Dispatch) {
        if lock(&self.shared.wish).replace(dispatch).is_none() {
            _ = self.channel.try_send(Post::Wish);
        }
    }

    /// The last thing that the writer hears.
    pub(super) fn stop(&self) {
        self.send_group();
        // A full channel empties by itself: the writer never waits for anybody but the disk.
        _ = self.channel.send(Post::Stop);
    }

    /// Sends groups for as long as there is a runtime.
    pub(super) fn carry(self: &Arc<Self>, tasks: &Tasks) {
        let outbox = Arc::clone(self);
        tasks.spawn(TaskKind::Post, async move {
            loop {
                outbox.begun.notified().await;
                // Until everybody who can run has run.
                tokio::task::yield_now().await;
                outbox.send_group();
            }
        });
    }

    /// Under the lock, so that a stop cannot overtake a group.
    pub(super) fn send_group(&self) {
        let mut group = lock(&self.group);
        if group.is_empty() {
            return;
        }
        let next = VecDeque::with_capacity(group.len());
        // Without a writer its commands are dropped, which says to whoever waits that the gateway stops.
        _ = self.channel.try_send(Post::Group(std::mem::replace(&mut *group, next)));
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// The next message, waited for if need be.
    pub(super) fn receive(&mut self, patience: Duration) -> Result<Message, RecvTimeoutError> {
        loop {
            if let Some(command) = self.group.pop_front() {
                self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
                return Ok(Message::Command(command));
            }
            match self.next_post(patience)? {
                Post::Group(group) => self.group = group,
                Post::Wish => {
                    if let Some(dispatch) = lock(&self.shared.wish).take() {
                        return Ok(Message::Dispatch(dispatch));
                    }
                }
                Post::Stop => return Ok(Message::Stop),
            }
        }
    }

    fn next_post(&self, patience: Duration) -> Result<Post, RecvTimeoutError> {
        if !patience.is_zero() {
            return self.channel.recv_timeout(patience);
        }
        self.channel.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        })
    }
}

/// Answers on their way back, each with the command it answers. There are never more of them than commands under way.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    group: Mutex<Vec<(Box<Command>, Reply)>>,
    begun: Notify,
}

impl Answers {
    /// Gives a commit's answers to the tasks that wait for them, without waiting for anything.
    pub(crate) fn give(&self, mut answers: Vec<(Box<Command>, Reply)>) {
        if answers.is_empty() {
            return;
        }
        let mut group = lock(&self.group);
        if group.is_empty() {
            *group = answers;
        } else {
            group.append(&mut answers);
        }
        drop(group);
        self.begun.notify_one();
    }

    /// Gives them out for as long as there is a runtime.
    pub(crate) fn deliver(self: &Arc<Self>, tasks: &Tasks) {
        let answers = Arc::clone(self);
        tasks.spawn(TaskKind::Post, async move {
            loop {
                answers.begun.notified().await;
                let group = std::mem::take(&mut *lock(&answers.group));
                group.into_iter().for_each(|(command, reply)| command.answer(reply));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use chitin_core::{Answer, CommandId, Input};

    use super::super::Pending;
    use super::*;

    fn command(to: u64) -> (Box<Command>, Pending) {
        Command::new(CommandId(to), Input::Tick, 0)
    }

    fn ids(inbox: &mut Inbox) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Ok(Message::Command(command)) = inbox.receive(Duration::ZERO) {
            ids.push(command.id().0);
        }
        ids
    }

    fn runtime() -> (tokio::runtime::Runtime, Tasks) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let tasks = Tasks::new(runtime.handle().clone(), tokio::sync::watch::channel(false).1);
        (runtime, tasks)
    }

    #[test]
    fn what_tasks_hand_over_in_one_turn_is_one_group_and_answers_come_back_to_each() {
        let (outbox, mut inbox) = post();
        let answers = Arc::new(Answers::default());
        let (runtime, tasks) = runtime();
        let pending: Vec<Pending> = (0..50)
            .map(|to| {
                let (command, pending) = command(to);
                outbox.put(command).unwrap();
                pending
            })
            .collect();
        outbox.carry(&tasks);
        answers.deliver(&tasks);
        let Ok(Post::Group(group)) = inbox.channel.recv() else { panic!("a group") };
        assert_eq!(group.len(), 50);
        inbox.group = group;
        let mut commands = Vec::new();
        while let Ok(Message::Command(command)) = inbox.receive(Duration::ZERO) {
            commands.push(command);
        }
        assert_eq!(inbox.shared.waiting.load(Ordering::Relaxed), 0);
        answers.give(commands.into_iter().map(|command| (command, Ok(Answer::Done))).collect());
        let all = runtime.block_on(async {
            let mut all = Vec::new();
            for pending in pending {
                all.push(pending.await);
            }
            all
        });
        assert!(all.iter().all(|reply| matches!(reply, Ok(Answer::Done))));
    }

    #[test]
    fn no_more_may_wait_than_there_is_room_for_and_what_was_taken_makes_room() {
        let (outbox, mut inbox) = post();
        let mut kept = Vec::new();
        for to in 0..u64::try_from(WAITING_COMMANDS).unwrap() {
            let (command, pending) = command(to);
            outbox.put(command).unwrap();
            kept.push(pending);
        }
        assert_eq!(outbox.put(command(0).0), Err(Trouble::Overloaded));
        outbox.send_group();
        assert_eq!(outbox.put(command(0).0), Err(Trouble::Overloaded), "in the channel it still waits");
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Command(_))));
        assert_eq!(outbox.put(command(0).0), Ok(()));
    }

    #[test]
    fn a_stop_comes_after_what_was_handed_over_before_it() {
        let (outbox, mut inbox) = post();
        let kept: Vec<_> =
            (1..=3).map(command).map(|(command, pending)| (outbox.put(command), pending)).collect();
        outbox.stop();
        assert_eq!(ids(&mut inbox), [1, 2, 3]);
        drop(kept);
        let (outbox, mut inbox) = post();
        outbox.put(command(1).0).unwrap();
        outbox.stop();
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Command(_))));
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Stop)));
    }

    #[test]
    fn of_many_wishes_the_last_is_heard_once_and_before_what_is_handed_over_after_it() {
        let (outbox, mut inbox) = post();
        (0..2 * CHANNEL).for_each(|_| outbox.dispatch(Dispatch::On));
        outbox.dispatch(Dispatch::Paused);
        outbox.put(command(1).0).unwrap();
        outbox.send_group();
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Dispatch(Dispatch::Paused))));
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Command(_))));
        assert!(inbox.receive(Duration::ZERO).is_err());
        outbox.dispatch(Dispatch::On);
        assert!(matches!(inbox.receive(Duration::ZERO), Ok(Message::Dispatch(Dispatch::On))));
    }

    #[test]
    fn without_a_writer_whoever_asks_hears_that_the_gateway_stops() {
        let (outbox, inbox) = post();
        drop(inbox);
        let (command, pending) = command(1);
        outbox.put(command).unwrap();
        outbox.send_group();
        let (runtime, _) = runtime();
        assert!(matches!(runtime.block_on(pending), Err(Trouble::Stopping)));
    }
}
