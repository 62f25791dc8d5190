//! Limits on guessing passwords and on logins.
//!
//! Each try is reserved under every limit that applies before the password is hashed, so that a burst of requests gets no
//! more tries than requests one after the other. A failure turns the reservation into a counted failure; a success, an
//! outage and a client that hangs up give it back. Nobody is locked out: the limits of one network do not affect others,
//! and every wait is at most a minute.

use verifier::{Seconds, UnixTime};

/// Failures are forgotten after this time without a new one.
pub const FORGET_AFTER: Seconds = Seconds(15 * 60);
/// A network from which a user logged in is known for this time.
pub const KNOWN_FOR: Seconds = Seconds(30 * 86_400);
/// The failures of a known device are kept for this time: as long as a browser keeps the device value.
pub const DEVICE_KEPT_FOR: Seconds = Seconds(400 * 86_400);
/// A reservation that was neither used nor given back, because a replica was killed, expires after one to two of these.
const RESERVED_FOR: Seconds = Seconds(10);

const LONGEST_WAIT: i64 = 60;

/// What is counted under one limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Failures, each less than [`FORGET_AFTER`] after the one before. For [`Limit::Rate`], the time at which the bucket is
    /// full again, in units of that limit.
    pub count: i64,
    /// Time of the last failure, or of the last try for [`Limit::OneASecond`] and [`Limit::Rate`].
    pub last_at: UnixTime,
    /// Tries that are under way.
    pub reserved: Reserved,
}

/// Reservations, counted by the time at which they were made, so that old ones expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// The current interval of ten seconds, counted from 1970.
    pub interval: i64,
    /// Reservations made in it.
    pub now: i64,
    /// Reservations made in the one before.
    pub before: i64,
}

/// A limit. Where several apply, a try must be within all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// After this many failures, the next try waits 1 s after the last failure, doubling up to 60 s. Tries that are under way
    /// count as failures.
    Failures(i64),
    /// As [`Failures`](Self::Failures), for networks that many users share: until there are `free` failures, `at_once` tries
    /// may be under way.
    Shared {
        /// Failures before a wait.
        free: i64,
        /// Tries under way.
        at_once: i64,
    },
    /// After this many failures, no further try, until a success.
    Void(i64),
    /// One try in each second.
    OneASecond,
    /// A token bucket: `burst` tries, refilled at `units` for each second, of which a try costs `cost`.
    Rate {
        /// Tries that a full bucket allows.
        burst: i64,
        /// Units that are refilled each second.
        units: i64,
        /// Units that a try costs.
        cost: i64,
        /// Whether a failed try costs nothing: what is limited are successes.
        is_of_successes: bool,
    },
}

/// Why a try is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Other tries are under way, whose outcome decides.
    Busy,
    /// No try may succeed before this time has passed; at least a second.
    Wait(Seconds),
}

impl Refusal {
    /// The wait until a try may succeed.
    pub fn wait(self) -> Seconds {
        match self {
            Self::Busy => Seconds(1),
            Self::Wait(wait) => wait,
        }
    }
}

impl Reserved {
    /// The reservations that have not expired at `now`.
    fn at(self, now: UnixTime) -> Self {
        let interval = now.0.div_euclid(RESERVED_FOR.0);
        match interval - self.interval {
            // The clock of the database was set back.
            ..=0 => self,
            1 => Self { interval, now: 0, before: self.now },
            _ => Self { interval, now: 0, before: 0 },
        }
    }

    fn count(self) -> i64 {
        self.now + self.before
    }

    /// Without a reservation that was made at `made_at`.
    fn without(self, made_at: UnixTime) -> Self {
        match self.interval - made_at.0.div_euclid(RESERVED_FOR.0) {
            ..=0 => Self { now: (self.now - 1).max(0), ..self },
            1 => Self { before: (self.before - 1).max(0), ..self },
            // It has expired.
            _ => self,
        }
    }
}

impl Limit {
    /// The counter with one more try under way, or why it is refused.
    pub fn reserve(self, counter: Counter, now: UnixTime) -> Result<Counter, Refusal> {
        let reserved = counter.reserved.at(now);
        let under_way = Counter { reserved: Reserved { now: reserved.now + 1, ..reserved }, ..counter };
        match self {
            Self::Failures(free) | Self::Shared { free, .. } => {
                let failures = counter.failures(now);
                let at_once = if let Self::Shared { at_once, .. } = self { at_once } else { free - failures };
                if failures < free {
                    return if reserved.count() < at_once { Ok(under_way) } else { Err(Refusal::Busy) };
                }
                match counter.wait(free, now) {
                    Seconds(..=0) if reserved.count() == 0 => Ok(under_way),
                    Seconds(..=0) => Err(Refusal::Busy),
                    wait => Err(Refusal::Wait(wait)),
                }
            }
            Self::Void(most) if counter.count + reserved.count() < most => Ok(under_way),
            Self::Void(most) if counter.count < most => Err(Refusal::Busy),
            Self::Void(_) => Err(Refusal::Wait(Seconds(LONGEST_WAIT))),
            Self::OneASecond if counter.last_at < now => Ok(Counter { last_at: now, ..counter }),
            Self::OneASecond => Err(Refusal::Wait(Seconds(1))),
            Self::Rate { burst, units, cost, .. } => {
                let full_at = counter.count.max(now.0 * units) + cost;
                let over = full_at - now.0 * units - burst * cost;
                if over > 0 {
                    return Err(Refusal::Wait(Seconds((over + units - 1) / units)));
                }
                Ok(Counter { count: full_at, last_at: now, ..counter })
            }
        }
    }

    /// The counter without the try that was reserved at `reserved_at`, as if it had not been made.
    #[must_use]
    pub fn give_back(self, counter: Counter, reserved_at: UnixTime) -> Counter {
        match self {
            Self::Failures(_) | Self::Shared { .. } | Self::Void(_) => {
                Counter { reserved: counter.reserved.without(reserved_at), ..counter }
            }
            // The time has passed.
            Self::OneASecond => counter,
            Self::Rate { cost, .. } => Counter { count: counter.count - cost, ..counter },
        }
    }

    /// The counter after the try that was reserved at `reserved_at` failed.
    #[must_use]
    pub fn fail(self, counter: Counter, reserved_at: UnixTime, now: UnixTime) -> Counter {
        let given_back = self.give_back(counter, reserved_at);
        match self {
            Self::Failures(_) | Self::Shared { .. } => {
                Counter { count: counter.failures(now) + 1, last_at: now, ..given_back }
            }
            Self::Void(_) => Counter { count: counter.count + 1, last_at: now, ..given_back },
            Self::Rate { is_of_successes: false, .. } => counter,
            Self::OneASecond | Self::Rate { .. } => given_back,
        }
    }

    /// The counter after the try that was reserved at `reserved_at` succeeded. Failures of others still count.
    #[must_use]
    pub fn succeed(self, counter: Counter, reserved_at: UnixTime) -> Counter {
        match self {
            Self::Failures(_) | Self::Shared { .. } => self.give_back(counter, reserved_at),
            Self::Void(_) => Counter { count: 0, ..self.give_back(counter, reserved_at) },
            Self::OneASecond | Self::Rate { .. } => counter,
        }
    }
}

impl Counter {
    /// Failures that are not forgotten yet.
    fn failures(&self, now: UnixTime) -> i64 {
        if now - self.last_at >= FORGET_AFTER { 0 } else { self.count }
    }

    /// The remaining wait: none for fewer than `free` failures, then 1 s, doubling up to 60 s.
    fn wait(&self, free: i64, now: UnixTime) -> Seconds {
        let beyond = self.failures(now) - free;
        if beyond < 0 {
            return Seconds(0);
        }
        let delay = 1_i64.checked_shl(u32::try_from(beyond).unwrap_or(u32::MAX)).unwrap_or(i64::MAX);
        (self.last_at + Seconds(delay.clamp(1, LONGEST_WAIT)) - now).max(Seconds(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);
    const FIVE: Limit = Limit::Failures(5);

    fn at(offset: i64) -> UnixTime {
        NOW + Seconds(offset)
    }

    fn failed(count: i64) -> Counter {
        Counter { count, last_at: NOW, ..Counter::default() }
    }

    /// Reserves as often as `limit` allows at `now`.
    fn burst(limit: Limit, mut counter: Counter, now: UnixTime) -> (usize, Counter) {
        let mut tries = 0;
        while let Ok(next) = limit.reserve(counter, now) {
            (tries, counter) = (tries + 1, next);
            assert!(tries < 10_000, "no limit");
        }
        (tries, counter)
    }

    #[test]
    fn wait_starts_after_free_failures_and_doubles_to_a_minute() {
        let wait = |count| FIVE.reserve(failed(count), NOW).err().map(|refusal| refusal.wait().0);
        let waits: Vec<Option<i64>> = (3..14).map(wait).collect();
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
        assert_eq!(wait(i64::MAX), Some(60));
    }

    #[test]
    fn wait_ends_to_the_second_and_failures_are_forgotten() {
        assert_eq!(FIVE.reserve(failed(7), at(3)), Err(Refusal::Wait(Seconds(1))));
        assert!(FIVE.reserve(failed(7), at(4)).is_ok());
        let forgotten = |after| burst(FIVE, failed(100), at(after)).0;
        assert_eq!((forgotten(899), forgotten(900)), (1, 5));
    }

    #[test]
    fn burst_gets_the_free_tries_and_after_a_wait_exactly_one() {
        assert_eq!(burst(FIVE, Counter::default(), NOW).0, 5);
        assert_eq!(burst(FIVE, failed(2), NOW).0, 3);
        assert_eq!(burst(FIVE, failed(5), NOW).0, 0);
        assert_eq!(burst(FIVE, failed(5), at(1)).0, 1);
        // Whoever comes next waits for the outcome of those, and not for a time.
        for (counter, now) in [(Counter::default(), NOW), (failed(2), NOW), (failed(5), at(1))] {
            assert_eq!(FIVE.reserve(burst(FIVE, counter, now).1, now), Err(Refusal::Busy));
        }
    }

    #[test]
    fn shared_network_has_more_tries_under_way_until_it_has_failed() {
        let shared = Limit::Shared { free: 20, at_once: 100 };
        assert_eq!(burst(shared, Counter::default(), NOW).0, 100);
        assert_eq!((burst(shared, failed(19), NOW).0, burst(shared, failed(20), NOW).0), (100, 0));
        assert_eq!(burst(shared, failed(20), at(1)).0, 1);
    }

    #[test]
    fn failure_counts_and_what_is_given_back_does_not() {
        let (_, mut counter) = burst(FIVE, Counter::default(), NOW);
        for _ in 0..5 {
            counter = FIVE.give_back(counter, NOW);
        }
        assert_eq!(burst(FIVE, counter, NOW).0, 5, "as new");
        let (_, mut counter) = burst(FIVE, Counter::default(), NOW);
        for _ in 0..5 {
            counter = FIVE.fail(counter, NOW, at(1));
        }
        assert_eq!((counter.count, counter.reserved.count()), (5, 0));
        assert_eq!((burst(FIVE, counter, at(1)).0, burst(FIVE, counter, at(2)).0), (0, 1));
    }

    #[test]
    fn lost_reservation_expires_between_ten_and_twenty_seconds_later() {
        let start = UnixTime(1_800_000_005);
        let (_, counter) = burst(FIVE, Counter::default(), start);
        let tries = |after| burst(FIVE, counter, start + Seconds(after)).0;
        assert_eq!((tries(0), tries(14), tries(15)), (0, 0, 5));
        // Giving it back then changes nothing.
        let (_, next) = burst(FIVE, counter, start + Seconds(15));
        assert_eq!(FIVE.give_back(next, start), next);
    }

    #[test]
    fn device_is_void_after_its_failures_however_long_ago() {
        let limit = Limit::Void(5);
        assert_eq!(burst(limit, failed(4), at(1_000_000)).0, 1);
        assert_eq!(burst(limit, failed(5), at(1_000_000)).0, 0);
        assert_eq!(limit.fail(failed(4), NOW, NOW).count, 5);
    }

    #[test]
    fn one_try_in_each_second() {
        let limit = Limit::OneASecond;
        let (tries, counter) = burst(limit, Counter::default(), NOW);
        assert_eq!(tries, 1);
        assert_eq!((burst(limit, counter, NOW).0, burst(limit, counter, at(1)).0), (0, 1));
        assert_eq!(limit.give_back(counter, NOW), counter, "a second that has passed does not come back");
    }

    #[test]
    fn bucket_allows_a_burst_and_then_its_rate() {
        for (limit, per_minute) in [
            (Limit::Rate { burst: 60, units: 1, cost: 6, is_of_successes: true }, 10),
            (Limit::Rate { burst: 500, units: 50, cost: 1, is_of_successes: false }, 3_000),
        ] {
            let Limit::Rate { burst: most, .. } = limit else { unreachable!() };
            let (tries, counter) = burst(limit, Counter::default(), NOW);
            assert_eq!(i64::try_from(tries), Ok(most));
            let wait = limit.reserve(counter, NOW).unwrap_err().wait();
            assert!(limit.reserve(counter, NOW + wait - Seconds(1)).is_err());
            assert!(limit.reserve(counter, NOW + wait).is_ok());
            assert_eq!(i64::try_from(burst(limit, counter, at(60)).0), Ok(per_minute.min(most)));
            let left = |counter| burst(limit, counter, NOW).0;
            assert_eq!((left(limit.give_back(counter, NOW)), left(limit.succeed(counter, NOW))), (1, 0));
            let Limit::Rate { is_of_successes, .. } = limit else { unreachable!() };
            assert_eq!(left(limit.fail(counter, NOW, NOW)), usize::from(is_of_successes));
        }
    }

    #[test]
    fn success_clears_the_failures_of_a_device_and_not_those_of_a_network() {
        let counter = |limit: Limit| limit.reserve(failed(4), NOW).unwrap();
        assert_eq!(FIVE.succeed(counter(FIVE), NOW).count, 4);
        let void = Limit::Void(5);
        let after = void.succeed(counter(void), NOW);
        assert_eq!((after.count, after.reserved.count()), (0, 0));
    }
}
