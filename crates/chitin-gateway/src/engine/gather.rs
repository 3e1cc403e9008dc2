//! What goes into one commit: everything that waits, and those who are about to come.
//!
//! Intuition: while a commit is under way, the next batch gathers; so clients fall into groups that take turns. A commit
//! costs nearly the same whatever it carries, so the groups should be few; but never one, or the processors wait for the
//! disk and the disk for them.
//!
//! - On a quick disk two groups keep both processors busy: one is being read while the other is committed. They come in one
//!   piece each (`post.rs`), so whatever is there is taken at once.
//! - On a slow one two groups only double the waiting: whoever was just answered is back long before the disk is. So the
//!   writer holds the next commit open until as many have come as were just answered, but for no more than half of what
//!   that commit took.
//!
//! Nobody waits when nobody was answered.

use std::collections::VecDeque;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use chitin_core::{Dispatch, Limits};

use super::Command;
use super::post::{Inbox, Message};
use crate::clock;

/// A commit that took less is not what clients wait for: a round trip of 32 of them takes as long.
const SLOW: Duration = Duration::from_millis(1);
/// And a round trip of more of them takes longer.
const SLOW_FOR_EACH: Duration = Duration::from_micros(32);
/// A batch of single submissions stays below this; a bulk of a thousand tasks does not.
const LIGHT_BYTES: u64 = 65_536;
/// Longer than this nobody is held up, however slow the disk: a stalled disk is no rhythm.
const LONGEST_HOLD: Duration = Duration::from_millis(2);

/// What one turn of the writer begins with.
#[derive(Default)]
pub(super) struct Gathered {
    pub(super) batch: VecDeque<Box<Command>>,
    /// Commands heavier than a batch.
    pub(super) heavy: VecDeque<Box<Command>>,
    pub(super) dispatch: Option<Dispatch>,
    pub(super) stop: bool,
    pub(super) bytes: u64,
}

/// How the last commit went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rhythm {
    answered: usize,
    took: Duration,
}

impl Rhythm {
    /// A commit of `answered` commands with so many bytes that took `took`. What much is written by is not the disk's
    /// pace but the writer's own, and holding it up would only let it idle.
    pub(super) fn of(answered: usize, bytes: u64, took: Duration) -> Self {
        if bytes > LIGHT_BYTES { Self::default() } else { Self { answered, took } }
    }

    /// What to do about those who are about to come, when `waiting` are there already.
    fn hold(self, waiting: usize) -> Hold {
        let round_trips = SLOW_FOR_EACH.saturating_mul(u32::try_from(self.answered).unwrap_or(u32::MAX));
        if self.took >= SLOW.max(round_trips) {
            Hold::Until(waiting.saturating_add(self.answered), (self.took / 2).min(LONGEST_HOLD))
        } else {
            Hold::Not
        }
    }
}

/// How a commit is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Not,
    /// Until so many are there, but for no longer than that.
    Until(usize, Duration),
}

impl Gathered {
    /// Waits for the first message for at most `patience`, then takes what belongs into one commit.
    pub(super) fn from(inbox: &mut Inbox, patience: Duration, rhythm: Rhythm, limits: &Limits) -> Self {
        let mut gathered = Self::default();
        let began = clock::steady();
        gathered.take(inbox.receive(patience), limits);
        if gathered.stop || gathered.is_empty() {
            return gathered;
        }
        let idle = clock::steady().saturating_sub(began);
        gathered.drain(inbox, limits);

        // Whoever was answered before a pause is not about to come.
        match rhythm.hold(gathered.batch.len()) {
            Hold::Until(expected, hold) if idle <= hold => {
                gathered.hold_open(inbox, expected, hold, limits);
            }
            Hold::Not | Hold::Until(..) => {}
        }
        gathered
    }

    fn hold_open(&mut self, inbox: &mut Inbox, expected: usize, hold: Duration, limits: &Limits) {
        let began = clock::steady();
        while !self.stop && self.batch.len() < expected && !self.is_full(limits) {
            let left = hold.saturating_sub(clock::steady().saturating_sub(began));
            if left.is_zero() || !self.take(inbox.receive(left), limits) {
                return;
            }
            self.drain(inbox, limits);
        }
    }

    fn drain(&mut self, inbox: &mut Inbox, limits: &Limits) {
        while !self.stop && !self.is_full(limits) && self.take(inbox.receive(Duration::ZERO), limits) {}
    }

    /// False: there was nothing.
    fn take(&mut self, received: Result<Message, RecvTimeoutError>, limits: &Limits) -> bool {
        match received {
            // Set aside at once, so that the light ones do not wait for it.
            Ok(Message::Command(command)) if command.bytes > limits.batch_bytes => {
                self.heavy.push_back(command)
            }
            Ok(Message::Command(command)) => {
                self.bytes = self.bytes.saturating_add(command.bytes);
                self.batch.push_back(command);
            }
            Ok(Message::Dispatch(dispatch)) => self.dispatch = Some(dispatch),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => self.stop = true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
        true
    }

    fn is_full(&self, limits: &Limits) -> bool {
        let commands = u64::try_from(self.batch.len() + self.heavy.len()).unwrap_or(u64::MAX);
        commands >= limits.batch_commands || self.bytes >= limits.batch_bytes
    }

    fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use chitin_core::{CommandId, Input};

    use super::super::post::post;
    use super::*;

    fn command(bytes: u64) -> Box<Command> {
        Command::new(CommandId(0), Input::Tick, bytes).0
    }

    fn gather(commands: VecDeque<Box<Command>>, limits: &Limits) -> Gathered {
        let (outbox, mut inbox) = post();
        commands.into_iter().for_each(|command| outbox.put(command).unwrap());
        outbox.send_group();
        Gathered::from(&mut inbox, Duration::ZERO, Rhythm::default(), limits)
    }

    #[test]
    fn what_waits_goes_together_up_to_the_bounds() {
        let mut limits = Limits::default();
        limits.set("batch_commands", 3).unwrap();
        let five = || (0..5).map(|_| command(10)).collect();
        assert_eq!(gather(five(), &Limits::default()).batch.len(), 5);
        assert_eq!(gather(five(), &limits).batch.len(), 3);
        limits.set("batch_commands", 100).unwrap();
        limits.set("batch_bytes", 65_536).unwrap();
        let four = (0..4).map(|_| command(30_000)).collect();
        assert_eq!(gather(four, &limits).batch.len(), 3, "the one that fills it is still in it");
    }

    #[test]
    fn what_is_over_a_bound_is_the_beginning_of_the_next_batch() {
        let mut limits = Limits::default();
        limits.set("batch_commands", 3).unwrap();
        let (outbox, mut inbox) = post();
        (0..5).for_each(|_| outbox.put(command(1)).unwrap());
        outbox.send_group();
        let mut next = || Gathered::from(&mut inbox, Duration::ZERO, Rhythm::default(), &limits).batch.len();
        assert_eq!([next(), next(), next()], [3, 2, 0]);
    }

    #[test]
    fn what_is_heavier_than_a_batch_is_set_aside() {
        let limits = Limits::default();
        let gathered = gather(VecDeque::from([command(1), command(limits.batch_bytes + 1)]), &limits);
        assert_eq!((gathered.batch.len(), gathered.heavy.len()), (1, 1));
    }

    #[test]
    fn whoever_is_about_to_come_is_waited_for_and_nobody_else() {
        let limits = Limits::default();
        let (outbox, mut inbox) = post();
        outbox.put(command(1)).unwrap();
        outbox.send_group();
        // The second comes from another thread, while the first is held: this returns as soon as it is there.
        let late = thread::spawn(move || {
            outbox.put(command(1)).unwrap();
            outbox.send_group();
            outbox
        });
        let rhythm = Rhythm::of(1, 0, Duration::from_secs(3_600));
        let gathered = Gathered::from(&mut inbox, Duration::from_secs(60), rhythm, &limits);
        assert!(!gathered.batch.is_empty());
        drop(late.join());
    }

    #[test]
    fn a_hold_is_as_long_as_the_disk_and_those_who_come_make_it_worth() {
        let hold =
            |answered, micros, waiting| Rhythm::of(answered, 99, Duration::from_micros(micros)).hold(waiting);
        assert_eq!(hold(3, 400, 2), Hold::Not, "a quick disk");
        assert_eq!(hold(3, 1_600, 2), Hold::Until(5, Duration::from_micros(800)), "a slow disk");
        assert_eq!(hold(60, 1_600, 2), Hold::Not, "slow because many came");
        assert_eq!(hold(3, 9_000_000, 0), Hold::Until(3, LONGEST_HOLD), "a stalled disk");
        let bulk = Rhythm::of(3, LIGHT_BYTES + 1, Duration::from_secs(9));
        assert_eq!(bulk.hold(0), Hold::Not, "a bulk");
        assert_eq!(Rhythm::default().hold(0), Hold::Not, "nobody was answered");
    }

    #[test]
    fn a_stop_is_heard_after_what_was_handed_over_before_it() {
        let (outbox, mut inbox) = post();
        outbox.put(command(1)).unwrap();
        outbox.stop();
        let gathered = Gathered::from(&mut inbox, Duration::ZERO, Rhythm::default(), &Limits::default());
        assert!(gathered.stop);
        assert_eq!(gathered.batch.len(), 1);
    }
}
