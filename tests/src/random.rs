//! Repeatable randomness: the seed is printed, so that a failed run can be repeated.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A sequence of numbers determined by a seed (`SplitMix64`). Not for secrets.
#[derive(Debug)]
pub struct Random {
    state: AtomicU64,
}

impl Random {
    /// Starts from `TESTS_SEED`, or from a fresh seed, and prints it with the name of the test.
    pub fn announced(test: &str) -> Self {
        let given = std::env::var_os("TESTS_SEED").and_then(|text| text.to_str()?.parse().ok());
        let seed = given.unwrap_or_else(|| Self::fresh().next());
        println!("{test}: TESTS_SEED={seed}");
        Self::from_seed(seed)
    }

    /// Starts with a random seed, for names and passwords that no test depends on.
    pub fn fresh() -> Self {
        Self::from_seed(RandomState::new().hash_one(std::process::id()))
    }

    /// Starts from `seed`.
    pub const fn from_seed(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }

    /// The next number, anywhere in the range of `u64`.
    pub fn next(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..end`.
    pub fn below(&self, end: usize) -> usize {
        let end = u64::try_from(end).expect("usize fits into u64");
        usize::try_from(self.next() % end.max(1)).expect("smaller than a usize")
    }

    /// One element of `items`, or `None` if there is none.
    pub fn pick<'a, T>(&self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// `len` lower-case letters and digits that are hard to guess, but not secret.
    pub fn word(&self, len: usize) -> String {
        const ALPHABET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
        (0..len).filter_map(|_| self.pick(ALPHABET)).map(|&letter| char::from(letter)).collect()
    }
}
