//! The wait after failed logins, per name and per address. It is limited: with a permanent lock, an attacker
//! could lock out any user.

use verifier::{Seconds, UnixTime};

/// Failed logins with one name or from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// The number of failures in a row, each less than [`FORGET_AFTER`] after the one before.
    pub count: i64,
    /// The time of the last failure.
    pub last_at: UnixTime,
}

/// Failures are forgotten after this time without a new one.
pub const FORGET_AFTER: Seconds = Seconds(15 * 60);
/// Failures with one presented name before a wait is imposed.
pub const FREE_BY_NAME: i64 = 5;
/// Failures from one address before a wait is imposed: many users can share an address.
pub const FREE_BY_ADDRESS: i64 = 20;

const LONGEST_WAIT: i64 = 60;

impl Failures {
    /// The remaining wait: none for fewer than `free` failures, then 1 s, doubling up to 60 s. `None`: no
    /// wait.
    pub fn wait(&self, free: i64, now: UnixTime) -> Option<Seconds> {
        let beyond = self.count - free;
        if beyond < 0 || now - self.last_at >= FORGET_AFTER {
            return None;
        }
        let delay = 1_i64.checked_shl(u32::try_from(beyond).unwrap_or(u32::MAX)).unwrap_or(i64::MAX);
        let left = self.last_at + Seconds(delay.clamp(1, LONGEST_WAIT)) - now;
        (left > Seconds(0)).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(count: i64, after: i64) -> Option<i64> {
        let failures = Failures { count, last_at: UnixTime(1_000) };
        failures.wait(FREE_BY_NAME, UnixTime(1_000 + after)).map(|wait| wait.0)
    }

    #[test]
    fn wait_starts_after_free_failures_and_doubles_to_a_minute() {
        let waits: Vec<Option<i64>> = (3..14).map(|count| wait(count, 0)).collect();
        let expected = [
            None,
            None,
            Some(1),
            Some(2),
            Some(4),
            Some(8),
            Some(16),
            Some(32),
            Some(60),
            Some(60),
            Some(60),
        ];
        assert_eq!(waits, expected);
        assert_eq!(wait(i64::MAX, 0), Some(60));
    }

    #[test]
    fn wait_ends_to_the_second_and_failures_are_forgotten() {
        assert_eq!((wait(7, 3), wait(7, 4)), (Some(1), None));
        assert_eq!(wait(100, 899), None);
    }
}
