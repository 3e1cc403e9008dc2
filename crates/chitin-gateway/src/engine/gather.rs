//! What goes into one commit: everything that waits, and, while the disk sets the pace, those who are about to come.
//!
//! Intuition: while a commit is under way, the next batch gathers; so clients fall into two groups that take turns, and
//! on a quick disk that keeps both processors busy. On a slow one it only doubles the waiting: whoever was just answered
//! is back long before the disk is. So after a slow commit the writer holds the next one open until as many have come
//! as were just answered, but for no more than half of what that commit took. Nobody waits when nobody was answered.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

use chitin_core::{Dispatch, Limits};

use super::{Command, Message};
use crate::clock;

/// A commit that took less is not what clients wait for: a round trip of 32 of them takes as long.
const SLOW: Duration = Duration::from_millis(1);
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

    /// How many are worth waiting for when `waiting` are there already, and for how long.
    fn hold(self, waiting: usize) -> (usize, Duration) {
        if self.took < SLOW {
            return (0, Duration::ZERO);
        }
        (waiting.saturating_add(self.answered), (self.took / 2).min(LONGEST_HOLD))
    }
}

impl Gathered {
    /// Waits for the first message for at most `patience`, then takes what belongs into one commit.
    pub(super) fn from(
        receiver: &Receiver<Message>,
        patience: Duration,
        rhythm: Rhythm,
        limits: &Limits,
    ) -> Self {
        let mut gathered = Self::default();
        let began = clock::steady();
        gathered.take(receive(receiver, patience), limits);
        if gathered.stop || gathered.is_empty() {
            return gathered;
        }
        let idle = clock::steady().saturating_sub(began);
        gathered.drain(receiver, limits);

        let (expected, hold) = rhythm.hold(gathered.batch.len());
        // Whoever was answered before a pause is not about to come.
        let expected = if idle > hold { 0 } else { expected };
        let held = clock::steady();
        while !gathered.stop && gathered.batch.len() < expected && !gathered.is_full(limits) {
            let left = hold.saturating_sub(clock::steady().saturating_sub(held));
            if left.is_zero() || !gathered.take(receive(receiver, left), limits) {
                break;
            }
            gathered.drain(receiver, limits);
        }
        gathered
    }

    fn drain(&mut self, receiver: &Receiver<Message>, limits: &Limits) {
        while !self.stop && !self.is_full(limits) && self.take(receive(receiver, Duration::ZERO), limits) {}
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

fn receive(receiver: &Receiver<Message>, patience: Duration) -> Result<Message, RecvTimeoutError> {
    if patience.is_zero() {
        return receiver.try_recv().map_err(|error| match error {
            TryRecvError::Empty => RecvTimeoutError::Timeout,
            TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
        });
    }
    receiver.recv_timeout(patience)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use chitin_core::{CommandId, Input};
    use tokio::sync::oneshot;

    use super::*;

    fn command(bytes: u64) -> Message {
        let (reply, _) = oneshot::channel();
        Message::Command(Box::new(Command {
            input: Input::Tick,
            reply: Some(reply),
            to: CommandId(0),
            bytes,
            deadline_boottime_ms: None,
            _budget: None,
        }))
    }

    fn gather(messages: Vec<Message>, limits: &Limits, rhythm: Rhythm) -> Gathered {
        let (sender, receiver) = sync_channel(64);
        messages.into_iter().for_each(|message| sender.send(message).unwrap());
        Gathered::from(&receiver, Duration::ZERO, rhythm, limits)
    }

    #[test]
    fn what_waits_goes_together_up_to_the_bounds() {
        let mut limits = Limits::default();
        limits.set("batch_commands", 3).unwrap();
        let five = || (0..5).map(|_| command(10)).collect();
        assert_eq!(gather(five(), &Limits::default(), Rhythm::default()).batch.len(), 5);
        assert_eq!(gather(five(), &limits, Rhythm::default()).batch.len(), 3);
        limits.set("batch_commands", 100).unwrap();
        limits.set("batch_bytes", 65_536).unwrap();
        let four = (0..4).map(|_| command(30_000)).collect();
        assert_eq!(
            gather(four, &limits, Rhythm::default()).batch.len(),
            3,
            "the one that fills it is still in it"
        );
    }

    #[test]
    fn what_is_heavier_than_a_batch_is_set_aside() {
        let limits = Limits::default();
        let gathered = gather(vec![command(1), command(limits.batch_bytes + 1)], &limits, Rhythm::default());
        assert_eq!((gathered.batch.len(), gathered.heavy.len()), (1, 1));
    }

    #[test]
    fn whoever_is_about_to_come_is_waited_for_and_nobody_else() {
        let limits = Limits::default();
        let (sender, receiver) = sync_channel(64);
        sender.send(command(1)).unwrap();
        // The second comes from another thread, while the first is held: this returns as soon as it is there.
        let late = std::thread::spawn(move || {
            sender.send(command(1)).unwrap();
            sender
        });
        let rhythm = Rhythm::of(1, 0, Duration::from_secs(3_600));
        let gathered = Gathered::from(&receiver, Duration::from_secs(60), rhythm, &limits);
        assert!(!gathered.batch.is_empty());
        drop(late.join());
        assert_eq!(
            Rhythm::of(3, 99, Duration::from_micros(400)).hold(2),
            (0, Duration::ZERO),
            "quick enough"
        );
        assert_eq!(Rhythm::of(3, 99, Duration::from_micros(1_600)).hold(2), (5, Duration::from_micros(800)));
        assert_eq!(Rhythm::of(3, 99, Duration::from_secs(9)).hold(0), (3, LONGEST_HOLD));
        assert_eq!(
            Rhythm::of(3, LIGHT_BYTES + 1, Duration::from_secs(9)).hold(0),
            (0, Duration::ZERO),
            "a bulk"
        );
    }

    #[test]
    fn a_stop_is_heard_after_what_was_handed_over_before_it() {
        let gathered =
            gather(vec![command(1), Message::Stop, command(1)], &Limits::default(), Rhythm::default());
        assert!(gathered.stop);
        assert_eq!(gathered.batch.len(), 1);
    }
}
