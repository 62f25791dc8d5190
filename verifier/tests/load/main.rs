//! Tests that use every CPU for seconds. Apart from `it`, whose tests wait in real time, and one after
//! another.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod differential;
mod kid_flood;
mod mutations;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Held by the test that runs.
pub(crate) fn all_cpus() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
