//! When a worker counts as hung (R3.2): it is asked for a sign of life again and again, and once it has left so many
//! questions in a row unanswered, it is given up.
//!
//! Intuition first: silence alone says little, since whoever listens may have stood still itself. So questions are counted and not
//! seconds: each had the whole time to the next one for its answer, and a gateway that is stopped asks nothing meanwhile. A
//! machine on which everything is slow asks slowly, too.
//!
//! For a command its shim is asked, which does nothing but watch: a busy task is not a dead one, nor is a paused one. While its
//! attempt runs, it has the whole limit. Once the attempt's end is wanted somebody waits for it, and a shim that does not answer
//! will not end anything either: then it is asked every second, and its grace for the command is no reason to wait longer,
//! because it answers during that as well.
//!
//! A pure machine: time is an argument, in milliseconds of a clock that never steps.

use crate::Limits;

/// What is done about a worker now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing: it has time to answer.
    Wait,
    /// It is asked.
    Ask,
    /// It is hung. Said again at each further beat, until it is heard of.
    GiveUp,
}

/// Beats in the whole limit, and once the end is wanted. More cost system calls and tell nothing sooner; with fewer, one
/// question that comes at a bad moment weighs too much.
const BEATS: u32 = 10;
const ENDING_BEATS: u32 = 20;
/// Between two of them once the end is wanted, milliseconds: 20 s in all, twice the grace that a command has by default.
const ENDING_EVERY_MS: i64 = 1_000;

/// What is known of one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    every_ms: i64,
    is_ending: bool,
    unanswered: u32,
    next_ms: i64,
}

impl Heartbeat {
    /// Of one that was just started, or found again; it is asked for the first time when a beat has passed.
    #[must_use]
    pub fn new(now_ms: i64, limits: &Limits) -> Self {
        let every_ms =
            i64::try_from(limits.heartbeat_s).unwrap_or(i64::MAX).saturating_mul(1_000) / i64::from(BEATS);
        Self { every_ms, is_ending: false, unanswered: 0, next_ms: now_ms.saturating_add(every_ms) }
    }

    /// Whatever it said, it lives.
    pub fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Its end is wanted: from now on it has less time, all of it.
    pub fn hasten(&mut self, now_ms: i64) {
        if !self.is_ending {
            (self.is_ending, self.unanswered, self.next_ms) = (true, 0, now_ms);
        }
    }

    /// What is to be done now. To be called when a beat is due, after what waited to be heard; calling it more often does
    /// nothing.
    pub fn beat(&mut self, now_ms: i64) -> Beat {
        if now_ms < self.next_ms {
            return Beat::Wait;
        }
        self.next_ms = now_ms.saturating_add(self.pause_ms());
        if self.unanswered >= self.most() {
            return Beat::GiveUp;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        Beat::Ask
    }

    /// Milliseconds to the next beat.
    #[must_use]
    pub fn due_in_ms(&self, now_ms: i64) -> u64 {
        u64::try_from(self.next_ms.saturating_sub(now_ms)).unwrap_or(0)
    }

    /// How long one that is given up was silent at least, in milliseconds.
    #[must_use]
    pub fn silence_ms(&self) -> i64 {
        self.pause_ms().saturating_mul(i64::from(self.most()))
    }

    fn pause_ms(&self) -> i64 {
        if self.is_ending { self.every_ms.min(ENDING_EVERY_MS) } else { self.every_ms }
    }

    fn most(&self) -> u32 {
        if self.is_ending { ENDING_BEATS } else { BEATS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_MS: i64 = 300_000;

    fn heartbeat() -> Heartbeat {
        Heartbeat::new(0, &Limits::default())
    }

    /// When it is given up, if it is called so often and says nothing.
    fn given_up(heartbeat: &mut Heartbeat, from_ms: i64, every_ms: i64) -> (i64, u32) {
        let (mut now_ms, mut asked) = (from_ms, 0);
        loop {
            match heartbeat.beat(now_ms) {
                Beat::Wait => {}
                Beat::Ask => asked += 1,
                Beat::GiveUp => return (now_ms, asked),
            }
            now_ms += every_ms;
        }
    }

    #[test]
    fn one_that_is_silent_for_the_whole_limit_is_given_up_and_not_before() {
        let (at_ms, asked) = given_up(&mut heartbeat(), 0, 1);
        assert_eq!((at_ms, asked), (LIMIT_MS + LIMIT_MS / 10, 10));
        assert_eq!(heartbeat().silence_ms(), LIMIT_MS);
        let mut limits = Limits::default();
        limits.set("heartbeat_s", 1).unwrap();
        assert_eq!(given_up(&mut Heartbeat::new(0, &limits), 0, 1), (1_100, 10));
    }

    #[test]
    fn one_answer_begins_the_count_anew() {
        let mut heartbeat = heartbeat();
        for second in 0..100_000 {
            assert_ne!(heartbeat.beat(second * 1_000), Beat::GiveUp, "{second}");
            if second % 299 == 0 {
                heartbeat.heard();
            }
        }
        let last_ms = 100_000_000;
        heartbeat.heard();
        assert!(given_up(&mut heartbeat, last_ms, 1_000).0 >= last_ms + LIMIT_MS - LIMIT_MS / 10);
    }

    #[test]
    fn whoever_stood_still_itself_has_asked_once_and_no_more() {
        let mut heartbeat = heartbeat();
        assert_eq!(heartbeat.beat(30_000), Beat::Ask);
        // Stopped for an hour, the gateway finds a beat due, and asks.
        assert_eq!(heartbeat.beat(3_600_000), Beat::Ask);
        assert_eq!(heartbeat.beat(3_600_001), Beat::Wait);
        let (at_ms, asked) = given_up(&mut heartbeat, 3_600_001, 1);
        assert_eq!((at_ms, asked), (3_600_000 + 9 * 30_000, 8));
    }

    #[test]
    fn a_gateway_that_is_always_late_asks_as_often() {
        let (at_ms, asked) = given_up(&mut heartbeat(), 0, 47_000);
        assert_eq!(asked, 10);
        assert!(at_ms >= LIMIT_MS, "{at_ms}");
    }

    #[test]
    fn once_its_end_is_wanted_it_is_asked_at_once_and_every_second_and_what_was_before_counts_no_more() {
        let mut heartbeat = heartbeat();
        for beat in 1..=10 {
            assert_eq!(heartbeat.beat(beat * 30_000), Beat::Ask);
        }
        heartbeat.hasten(300_500);
        assert_eq!(heartbeat.due_in_ms(300_500), 0);
        // Wanted twice, it is wanted once.
        let mut again = heartbeat;
        assert_eq!(again.beat(300_500), Beat::Ask);
        again.hasten(300_501);
        assert_eq!((again.beat(300_501), again.due_in_ms(300_501)), (Beat::Wait, 999));
        assert_eq!(given_up(&mut heartbeat, 300_500, 1), (320_500, 20));
        assert_eq!(heartbeat.silence_ms(), 20_000);
    }

    #[test]
    fn given_up_it_is_not_asked_until_it_is_heard_of() {
        let mut heartbeat = heartbeat();
        let (at_ms, _) = given_up(&mut heartbeat, 0, 1);
        assert_eq!(heartbeat.beat(at_ms + 29_999), Beat::Wait);
        assert_eq!(heartbeat.beat(at_ms + 30_000), Beat::GiveUp);
        heartbeat.heard();
        assert_eq!(heartbeat.beat(at_ms + 60_000), Beat::Ask);
    }
}
