//! When a failed attempt is followed by another (R6.2). Intuition first: waits grow so that a dependency has time to
//! come back, and jitter keeps a thousand tasks that failed together from coming back together.

/// The random part of a wait, in thousandths of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jitter(u16);

impl Jitter {
    /// No randomness.
    pub const NONE: Self = Self(0);

    /// A share in thousandths, 0 to 1000.
    #[must_use]
    pub fn from_permille(permille: u16) -> Option<Self> {
        (permille <= 1_000).then_some(Self(permille))
    }

    /// In thousandths.
    #[must_use]
    pub fn permille(self) -> u16 {
        self.0
    }
}

/// A task's retry policy. The last wait repeats; no waits at all mean none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Retries after the first attempt.
    pub max: u32,
    /// Waits before each, in milliseconds.
    pub backoff_ms: Vec<u32>,
    /// The random part.
    pub jitter: Jitter,
}

impl RetryPolicy {
    /// The wait before retry number `retry` (from 1), or `None` when there is no further one.
    ///
    /// With jitter `j`, the wait is spread evenly over `[1 - j, 1]` of its length: never longer than asked, so that a
    /// policy is also a promise.
    #[must_use]
    pub fn wait_ms(&self, retry: u32, dice: u64) -> Option<i64> {
        if retry == 0 || retry > self.max {
            return None;
        }
        let at =
            usize::try_from(retry - 1).unwrap_or(usize::MAX).min(self.backoff_ms.len().saturating_sub(1));
        let whole = i64::from(self.backoff_ms.get(at).copied().unwrap_or(0));
        let spread = whole * i64::from(self.jitter.0) / 1_000;
        let cut = i64::try_from(dice % u64::try_from(spread + 1).unwrap_or(1)).unwrap_or(0);
        Some(whole - cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_wait_repeats_until_the_retries_are_used_up() {
        let policy = RetryPolicy { max: 4, backoff_ms: vec![60_000, 300_000, 900_000], jitter: Jitter::NONE };
        let waits: Vec<_> = (0..=5).map(|retry| policy.wait_ms(retry, 7)).collect();
        assert_eq!(waits, [None, Some(60_000), Some(300_000), Some(900_000), Some(900_000), None]);
    }

    #[test]
    fn jitter_shortens_within_its_share_and_never_lengthens() {
        let policy =
            RetryPolicy { max: 1, backoff_ms: vec![1_000], jitter: Jitter::from_permille(200).unwrap() };
        let waits: Vec<_> = (0..5_000_u64)
            .filter_map(|dice| policy.wait_ms(1, dice.wrapping_mul(0x9E37_79B9_7F4A_7C15)))
            .collect();
        assert!(waits.iter().all(|wait| (800..=1_000).contains(wait)));
        assert!(waits.contains(&800) && waits.contains(&1_000), "the whole range is used");
    }

    #[test]
    fn a_policy_without_waits_retries_at_once() {
        assert_eq!(RetryPolicy { max: 1, backoff_ms: vec![], jitter: Jitter::NONE }.wait_ms(1, 0), Some(0));
    }
}
