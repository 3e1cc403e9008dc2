//! The one source of chance. Everything that differs between two seeds comes from here, in the order it is asked.

use chitin_core::Dice;

/// SplitMix64: any seed is as good as any other, and the next one is unrelated.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A source of its own, so that what one part asks does not change what another part gets.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.roll())
    }

    /// 0 to `bound - 1`; 0 if there is no such number.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let roll = self.roll();
        if bound == 0 { 0 } else { roll % bound }
    }

    /// Both ends are possible.
    pub(crate) fn between(&mut self, least: i64, most: i64) -> i64 {
        let span = most.saturating_sub(least).unsigned_abs().saturating_add(1);
        least.saturating_add(i64::try_from(self.below(span)).unwrap_or(0))
    }

    pub(crate) fn permille(&mut self, permille: u64) -> bool {
        self.below(1_000) < permille
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.permille(500)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let at = self.below(u64::try_from(items.len()).unwrap_or(0));
        items.get(usize::try_from(at).unwrap_or(0))
    }
}

impl Dice for Rng {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
