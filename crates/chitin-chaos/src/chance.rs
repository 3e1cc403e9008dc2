//! All that is left to chance, from a seed: the same seed is the same choice.

/// A generator of numbers that look random (splitmix64, after Steele, Lea and Flood, 2014): small, and every seed is good.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // Rows with one seed must not make the same choices: the name is mixed in, a byte at a time (FNV-1a).
        let mixed = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(mixed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both possible.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.saturating_sub(low).saturating_add(1))
    }

    pub(crate) fn one_in(&mut self, count: u64) -> bool {
        self.between(1, count) == 1
    }

    /// One of several; `None` of none.
    pub(crate) fn pick<'t, T>(&mut self, from: &'t [T]) -> Option<&'t T> {
        let last = u64::try_from(from.len()).ok()?.checked_sub(1)?;
        from.get(usize::try_from(self.between(0, last)).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_sequence_and_a_name_another() {
        let take = |seed, name| {
            let mut chance = Chance::new(seed, name);
            [chance.next(), chance.between(3, 5), chance.next()]
        };
        assert_eq!(take(1, "a"), take(1, "a"));
        assert_ne!(take(1, "a"), take(2, "a"));
        assert_ne!(take(1, "a"), take(1, "b"));
        let mut chance = Chance::new(7, "");
        assert!((0..100).all(|_| (3..=5).contains(&chance.between(3, 5))));
        assert_eq!(chance.pick::<u8>(&[]), None);
    }
}
