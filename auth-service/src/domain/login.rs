//! How long a name or an address has to wait after failed logins. Never for ever: a lock would let anyone lock anyone out.

use verifier::{Seconds, UnixTime};

/// Failures of one name or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many in a row, none of them older than [`FORGET_AFTER`] when the next came.
    pub count: i64,
    /// When the last one was.
    pub last_at: UnixTime,
}

/// Failures are forgotten when none was added for this long.
pub const FORGET_AFTER: Seconds = Seconds(15 * 60);
/// Failures of one presented name that cost nothing.
pub const FREE_BY_NAME: i64 = 5;
/// Failures from one address that cost nothing: many people share one.
pub const FREE_BY_ADDRESS: i64 = 20;

const LONGEST_WAIT: i64 = 60;

impl Failures {
    /// How long the next attempt has to wait, beyond the first `free` failures: 1 s, doubling to 60 s. `None`: not at all.
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
    fn first_failures_are_free_then_the_wait_doubles_to_a_minute() {
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
    fn wait_ends_to_the_second_and_is_forgotten() {
        assert_eq!((wait(7, 3), wait(7, 4)), (Some(1), None));
        assert_eq!(wait(100, 899), None);
    }
}
