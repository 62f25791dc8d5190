//! Sources of random bytes.

use std::fmt::Debug;
#[cfg(feature = "test-util")]
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "test-util")]
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};

/// The operating system's random source failed. Nothing may be issued without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct EntropyError;

/// A source of unpredictable random bytes.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `out`. After an error, its content is unspecified.
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError>;
}

/// The operating system's random source.
#[derive(Debug)]
pub struct SystemEntropy(SystemRandom);

impl SystemEntropy {
    /// Opens the source; no I/O happens before the first `fill`.
    #[expect(clippy::disallowed_methods, reason = "all other code takes its randomness from here")]
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }
}

impl Default for SystemEntropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        self.0.fill(out).map_err(|_| EntropyError)
    }
}

/// A deterministic source for tests: the same seed and the same order of calls give the same bytes.
///
/// Block `n` is SHA-256(seed ‖ n), and every call starts a new block.
#[cfg(feature = "test-util")]
#[derive(Debug)]
pub struct SeededEntropy {
    seed: u64,
    next_block: AtomicU64,
}

#[cfg(feature = "test-util")]
impl SeededEntropy {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed, next_block: AtomicU64::new(0) }
    }
}

#[cfg(feature = "test-util")]
impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in out.chunks_mut(digest::SHA256_OUTPUT_LEN) {
            let block = self.next_block.fetch_add(1, Ordering::Relaxed);
            let mut input = [0; 16];
            input[..8].copy_from_slice(&self.seed.to_be_bytes());
            input[8..].copy_from_slice(&block.to_be_bytes());
            chunk.copy_from_slice(&digest::digest(&digest::SHA256, &input).as_ref()[..chunk.len()]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(source: &dyn Entropy, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        source.fill(&mut out).unwrap();
        out
    }

    #[test]
    fn seed_determines_the_bytes_and_no_block_repeats() {
        let (left, right) = (SeededEntropy::new(7), SeededEntropy::new(7));
        let first = take(&left, 100);
        assert_eq!(first, take(&right, 100));
        assert_ne!(first[..32], first[32..64]);
        assert_ne!(first[..32], take(&left, 32)[..]);
        assert_ne!(first, take(&SeededEntropy::new(8), 100));
    }

    #[test]
    fn system_source_does_not_repeat_itself() {
        let source = SystemEntropy::new();
        assert_ne!(take(&source, 32), take(&source, 32));
    }
}
