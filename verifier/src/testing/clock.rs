//! A clock for tests.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use crate::core::time::{Clock, Seconds, UnixTime};

/// A clock that moves only on command. Share it as `Arc<ManualClock>`.
#[derive(Debug)]
pub struct ManualClock {
    now: AtomicI64,
    monotonic: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: UnixTime) -> Self {
        Self { now: now.0.into(), monotonic: 0.into() }
    }

    /// Advances the wall clock and the monotonic clock. A negative duration does nothing.
    pub fn advance(&self, by: Seconds) {
        let by = by.0.max(0);
        self.now.fetch_add(by, SeqCst);
        self.monotonic.fetch_add(by.unsigned_abs(), SeqCst);
    }

    /// Sets only the wall clock, forwards or backwards, as an administrator or NTP would.
    pub fn set(&self, now: UnixTime) {
        self.now.store(now.0, SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixTime {
        UnixTime(self.now.load(SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.monotonic.load(SeqCst))
    }
}
