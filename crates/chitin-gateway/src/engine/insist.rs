//! What has begun must be recorded: how long that is tried, and what is recorded when the store takes everything but this.
//! Pure; the waiting is the engine's.

use chitin_core::{AttemptEnd, Input, Outcome, Produced};

use super::Trouble;

/// A row that was refused so often for itself will be refused for ever: it breaks a constraint, which is our bug.
const MOST_REFUSALS: u32 = 3;

/// An input that is to be committed.
pub(super) struct Insistence {
    pub(super) input: Input,
    /// What it brings to a commit.
    pub(super) bytes: u64,
    refusals: u32,
    is_plain: bool,
}

/// What to do after a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The same again, in a moment.
    Again,
    /// It is over: the gateway stops, or the store will never take it. Whoever comes next asks the attempt anew.
    GiveUp,
}

impl Insistence {
    pub(super) fn new(bytes: u64, input: Input) -> Self {
        Self { input, bytes, refusals: 0, is_plain: false }
    }

    /// `now_ms`: the wall clock, for an end that nobody reported.
    pub(super) fn after(&mut self, trouble: Trouble, now_ms: i64) -> Next {
        match trouble {
            Trouble::Stopping => return Next::GiveUp,
            Trouble::Row => self.refusals += 1,
            Trouble::Overloaded
            | Trouble::LogFull
            | Trouble::Full
            | Trouble::Unavailable
            | Trouble::TooLate
            | Trouble::Recovering => return Next::Again,
        }
        if self.refusals < MOST_REFUSALS {
            return Next::Again;
        }
        match &self.input {
            // Better an end without its result than none: the task's policy decides, and everybody sees why.
            Input::ShimReport { attempt, .. } if !self.is_plain => {
                let why = "its end could not be stored: the store refuses the row; see the gateway's log";
                let end = AttemptEnd::unreported(Outcome::WorkerLost, now_ms, why);
                self.input = Input::ShimReport { attempt: *attempt, end, produced: Produced::default() };
                (self.bytes, self.refusals, self.is_plain) = (0, 0, true);
                Next::Again
            }
            _ => Next::GiveUp,
        }
    }
}

#[cfg(test)]
mod tests {
    use chitin_core::{AttemptKey, AttemptNo, Seq, TaskId, Token};

    use super::*;

    fn report() -> Insistence {
        let attempt =
            AttemptKey { seq: Seq(1), id: TaskId([1; 16]), attempt: AttemptNo(1), token: Token([2; 16]) };
        let end = AttemptEnd::unreported(Outcome::Succeeded, 5, "");
        Insistence::new(900, Input::ShimReport { attempt, end, produced: Produced::default() })
    }

    #[test]
    fn what_passes_by_itself_is_waited_for_without_end() {
        let mut report = report();
        for trouble in [
            Trouble::Overloaded,
            Trouble::LogFull,
            Trouble::Full,
            Trouble::Unavailable,
            Trouble::TooLate,
            Trouble::Recovering,
        ] {
            for _ in 0..1_000 {
                assert_eq!(report.after(trouble, 7), Next::Again);
            }
        }
        assert_eq!(report.bytes, 900, "it is still the same");
        assert_eq!(report.after(Trouble::Stopping, 7), Next::GiveUp);
    }

    #[test]
    fn a_report_that_the_store_never_takes_becomes_a_visible_end_and_no_loop() {
        let mut report = report();
        for _ in 1..MOST_REFUSALS {
            assert_eq!(report.after(Trouble::Row, 7), Next::Again);
            assert_eq!(report.bytes, 900);
        }
        assert_eq!(report.after(Trouble::Row, 7), Next::Again);
        let Input::ShimReport { end, .. } = &report.input else { panic!("no report") };
        assert_eq!((end.outcome, end.ended_at_ms, report.bytes), (Outcome::WorkerLost, 7, 0));
        assert!(end.error.as_ref().unwrap().contains("could not be stored"));
        for _ in 1..MOST_REFUSALS {
            assert_eq!(report.after(Trouble::Row, 8), Next::Again);
        }
        assert_eq!(report.after(Trouble::Row, 8), Next::GiveUp);
    }

    #[test]
    fn anything_else_that_the_store_never_takes_is_given_up() {
        let mut tick = Insistence::new(0, Input::Tick);
        let all: Vec<Next> = (0..MOST_REFUSALS).map(|_| tick.after(Trouble::Row, 7)).collect();
        assert_eq!(all, [Next::Again, Next::Again, Next::GiveUp]);
    }
}
