//! Random choices of a history. The same seed gives the same history.

use std::ops::Range;

use e2e::random::Random;

/// The random choices of one history.
#[derive(Debug)]
pub(crate) struct Dice(Random);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        let random = Random::from_seed(seed);
        // Otherwise, neighbouring seeds would share all numbers but the first.
        Self(Random::from_seed(random.next()))
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&self, low: i64, high: i64) -> i64 {
        let width = usize::try_from(high - low + 1).expect("low <= high");
        low + i64::try_from(self.0.below(width)).expect("below an i64")
    }

    /// A number from 0 to `high`; small numbers are more frequent.
    pub(crate) fn mostly_small(&self, high: i64) -> i64 {
        self.between(0, high >> self.between(0, 7))
    }

    pub(crate) fn index(&self, len: usize) -> usize {
        self.0.below(len)
    }

    pub(crate) fn percent(&self, chance: i64) -> bool {
        self.between(1, 100) <= chance
    }

    pub(crate) fn pick<T: Copy>(&self, items: &[T]) -> T {
        items[self.index(items.len())]
    }
}

/// The seeds of `count` histories: always the same, or those from `TESTS_SEED` on, to repeat a failed history
/// or to try others.
pub(crate) fn seeds(count: u64) -> Range<u64> {
    let first = std::env::var_os("TESTS_SEED").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(0);
    first..first + count
}
