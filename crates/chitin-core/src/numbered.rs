//! Maps by the numbers that chitin itself gives: tasks, queues, clients.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are numbers of ours.
pub(crate) type Numbered<K, V> = HashMap<K, V, BuildHasherDefault<ByNumber>>;

/// Hashes one number by a multiplication, which spreads what follows each other; nobody else chooses these numbers, so
/// nobody can make them collide, which is what slower hashes are for.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ByNumber(u64);

/// 2^64 divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for ByNumber {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(GOLDEN);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::Hash;

    use super::*;
    use crate::Seq;

    #[test]
    fn what_follows_each_other_is_spread_over_the_whole_hash() {
        let hash = |number: i64| {
            let mut hasher = ByNumber::default();
            Seq(number).hash(&mut hasher);
            hasher.finish()
        };
        // A map takes its place by the lowest bits, and compares the highest seven first.
        let places: HashSet<u64> = (1..=1_024).map(|number| hash(number) % 1_024).collect();
        assert_eq!(places.len(), 1_024);
        let marks: HashSet<u64> = (1..=1_024).map(|number| hash(number) >> 57).collect();
        assert_eq!(marks.len(), 128);
    }
}
