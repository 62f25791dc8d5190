//! The only place that reads the machine's clocks.
//!
//! End-to-end tests run against real processes, so real time is the only time there is.

#![expect(clippy::disallowed_methods, reason = "real processes run on real time")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point of monotonic time, for measuring how long something took.
pub fn instant() -> Instant {
    Instant::now()
}

/// Time since 1970-01-01T00:00:00Z.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock is past 1970")
}

/// Whole seconds since the epoch, comparable with `iat` and `exp`.
pub fn unix_seconds() -> i64 {
    i64::try_from(since_epoch().as_secs()).expect("seconds fit for a very long time")
}
