//! The difference between this replica's clock and the database's, which all replicas share.

use std::sync::atomic::{AtomicI64, Ordering};

use verifier::{Clock, Seconds};

use crate::store::Confirmation;

/// Compares the local clock with the database's, each time a statement returns the database's time.
#[derive(Debug, Default)]
pub struct ClockGuard {
    /// Seconds by which the local clock is certainly ahead; negative if it is behind.
    offset: AtomicI64,
}

impl ClockGuard {
    /// Records the database's time. The statement ran at some instant between `asked_at` and now, and both
    /// clocks are truncated to seconds; only a larger difference counts.
    pub fn observe(&self, seen: &Confirmation, clock: &dyn Clock) {
        let returned_at = clock.now();
        let took = clock.monotonic().saturating_sub(seen.asked_at);
        let took = Seconds(i64::try_from(took.as_secs()).unwrap_or(i64::MAX) + 1);
        let (earliest, latest) = (returned_at - took - Seconds(1), returned_at + Seconds(1));
        let offset = if seen.now < earliest {
            earliest - seen.now
        } else if seen.now > latest {
            latest - seen.now
        } else {
            Seconds(0)
        };
        self.offset.store(offset.0, Ordering::Release);
    }

    /// The difference, if it exceeds `bound`.
    pub fn off_by(&self, bound: Seconds) -> Option<Seconds> {
        let offset = self.offset.load(Ordering::Acquire);
        (offset.abs() > bound.0).then_some(Seconds(offset))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use verifier::{ManualClock, UnixTime};

    use super::*;

    fn off_by(database: i64, took: i64) -> Option<i64> {
        let clock = ManualClock::new(UnixTime(1_000));
        let asked_at = clock.monotonic();
        clock.advance(Seconds(took));
        let guard = ClockGuard::default();
        guard.observe(&Confirmation { now: UnixTime(database), keys_version: 0, asked_at }, &clock);
        assert!(clock.monotonic() >= asked_at + Duration::from_secs(took.unsigned_abs()));
        guard.off_by(Seconds(5)).map(|offset| offset.0)
    }

    #[test]
    fn clock_just_beyond_the_bound_is_refused() {
        // Truncation of both clocks and of the duration leaves a tolerance of 2 s behind and 1 s ahead.
        assert_eq!((off_by(993, 0), off_by(992, 0)), (None, Some(6)));
        assert_eq!((off_by(1_006, 0), off_by(1_007, 0)), (None, Some(-6)));
    }

    #[test]
    fn slow_statement_is_not_mistaken_for_a_wrong_clock() {
        assert_eq!(off_by(1_000, 30), None);
        assert_eq!(off_by(1_030, 30), None);
    }
}
