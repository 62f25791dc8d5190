//! The clock of the operating system.

use std::time::Duration;

use crate::core::time::{Clock, UnixTime};

/// The clock of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started_at: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero.
    #[expect(clippy::disallowed_methods, reason = "this is the Clock that provides monotonic time")]
    pub fn new() -> Self {
        Self { started_at: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> UnixTime {
        UnixTime(i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX))
    }

    fn unix_millis(&self) -> i64 {
        i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.started_at.elapsed()
    }
}

/// A clock before 1970 is broken. It counts as 0, when every token is issued in the future and so refused.
#[expect(clippy::disallowed_methods, reason = "this is the Clock that provides the time")]
fn since_epoch() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default()
}
