//! Counts of checked tokens.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::core::error::VerifyError;

/// The results of the checks of one verifier.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    accepted: AtomicU64,
    /// By label. Usually few; under attack the lock slows the attack down.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Outcomes {
    pub(crate) fn count<T>(&self, answer: &Result<T, VerifyError>) {
        match answer {
            Ok(_) => {
                self.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                *refused.entry(error.label()).or_default() += 1;
            }
        }
    }

    pub(crate) fn read(&self) -> Vec<(&'static str, u64)> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = ("accepted", self.accepted.load(Ordering::Relaxed));
        std::iter::once(accepted).chain(refused.iter().map(|(label, count)| (*label, *count))).collect()
    }
}
