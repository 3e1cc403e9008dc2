//! When the next gateway is started, and whether it is to be careful. Pure: lives go in, the next start comes out.
//!
//! A gateway that served was fine until something ended it: the next one starts at once, since clients wait in the
//! backlog. One that never served, or the last of very many, will most likely end the same way: the next one waits, ever
//! longer, and is never given up. After three such lives in a row what stands in the store is under suspicion, and the
//! next gateway is told to recover it piece by piece. It serves while it does so, so that to have served says nothing of
//! it: the next one is as careful, unless it lived for a while.

/// So many that had served may end within [`WINDOW_MS`] and be followed at once: a person or a test that kills it again
/// and again is not a crash loop. Not more: each start reads all open tasks.
const AT_ONCE: usize = 20;
/// See [`AT_ONCE`].
const WINDOW_MS: u64 = 10_000;
/// The first wait: long enough for what is short of something to pass, short enough not to be noticed.
const FIRST_WAIT_MS: u64 = 100;
/// The longest: a machine that was repaired is back within half a minute.
const LONGEST_WAIT_MS: u64 = 30_000;
/// Lives in a row that ended early until the next one is careful.
const LIVES_TO_SAFE_MODE: u32 = 3;

/// What a life came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// It served.
    Served,
    /// It ended before it did.
    NeverServed,
}

/// The next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// After so long.
    pub(crate) wait_ms: u64,
    /// It recovers piece by piece.
    pub(crate) safe_mode: bool,
}

/// The memory of earlier lives.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    /// When the last of them ended that were followed at once, oldest first.
    at_once_ms: [Option<u64>; AT_ONCE],
    next: usize,
    in_a_row: u32,
    /// When the life began that ends next, if it was told to be careful.
    careful_since_ms: Option<u64>,
}

impl Restarts {
    /// A gateway ended at `now_ms` without having been asked to.
    pub(crate) fn ended(&mut self, now_ms: u64, life: Life) -> Start {
        let oldest = self.at_once_ms.get(self.next).copied().flatten();
        let too_many = oldest.is_some_and(|oldest| now_ms.saturating_sub(oldest) < WINDOW_MS);
        let is_steady = self.careful_since_ms.is_none_or(|since| now_ms.saturating_sub(since) >= WINDOW_MS);
        if life == Life::Served && is_steady && !too_many {
            if let Some(place) = self.at_once_ms.get_mut(self.next) {
                *place = Some(now_ms);
            }
            self.next = (self.next + 1) % AT_ONCE;
            self.in_a_row = 0;
            self.careful_since_ms = None;
            return Start { wait_ms: 0, safe_mode: false };
        }
        let doublings = self.in_a_row.min(16);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let wait_ms = (FIRST_WAIT_MS << doublings).min(LONGEST_WAIT_MS);
        let safe_mode = self.in_a_row >= LIVES_TO_SAFE_MODE;
        self.careful_since_ms = safe_mode.then(|| now_ms.saturating_add(wait_ms));
        Start { wait_ms, safe_mode }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE_START: Start = Start { wait_ms: 0, safe_mode: false };

    #[test]
    fn what_served_is_followed_at_once_but_not_for_ever() {
        let mut restarts = Restarts::default();
        for kill in 0..20 {
            assert_eq!(restarts.ended(kill * 100, Life::Served), AT_ONCE_START, "{kill}");
        }
        assert_eq!(restarts.ended(2_000, Life::Served), Start { wait_ms: 100, safe_mode: false });
        assert_eq!(restarts.ended(2_200, Life::Served), Start { wait_ms: 200, safe_mode: false });
        assert_eq!(restarts.ended(2_500, Life::Served), Start { wait_ms: 400, safe_mode: true });
        // All of the twenty are more than ten seconds ago.
        assert_eq!(restarts.ended(12_900, Life::Served), AT_ONCE_START);
        assert_eq!(restarts.ended(12_900, Life::Served), AT_ONCE_START);
    }

    #[test]
    fn steady_trouble_is_never_given_up() {
        let mut restarts = Restarts::default();
        let waits: Vec<u64> = (0..12).map(|_| restarts.ended(0, Life::NeverServed).wait_ms).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000, 30_000]);
        for _ in 0..1_000 {
            assert_eq!(restarts.ended(0, Life::NeverServed), Start { wait_ms: 30_000, safe_mode: true });
        }
    }

    #[test]
    fn the_third_early_end_in_a_row_makes_careful_and_a_life_that_lasts_ends_that() {
        let mut restarts = Restarts::default();
        let mut safe_at = |now_ms, life| restarts.ended(now_ms, life).safe_mode;
        let mut safe = |life| safe_at(0, life);
        assert_eq!(
            [Life::NeverServed, Life::NeverServed, Life::Served, Life::NeverServed, Life::NeverServed]
                .map(&mut safe),
            [false; 5]
        );
        assert!(safe(Life::NeverServed));
        // It began 400 ms later, and served while it recovered piece by piece; so does the next one, 800 ms after this end.
        assert!(safe_at(1_000, Life::Served), "what it died of may still be there");
        assert!(safe_at(11_799, Life::Served));
        assert!(!safe_at(23_400, Life::Served), "ten seconds are no early end");
    }
}
