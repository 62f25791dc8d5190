//! When a key set is fetched again, as functions of durations.
//!
//! `spread` is a random number in [-1, 1), drawn for each use, so that processes that started together do not
//! fetch at the same time.

use std::time::Duration;

use crate::core::time::Seconds;

/// How long a key set is trusted without confirmation by the issuer, by default.
pub(crate) const KEPT_ON_ERRORS: Duration = Duration::from_secs(24 * 3600);
/// The bounds of that setting. A verifier without a connection may trust a stolen and withdrawn key for this
/// long.
pub(crate) const KEPT_ON_ERRORS_BOUNDS: (Seconds, Seconds) = (Seconds(60), Seconds(7 * 24 * 3600));
/// The minimum time between fetches for unknown keys, from start to start, whether they succeed or not.
pub(crate) const FORCED_COOLDOWN: Duration = Duration::from_secs(10);

/// The minimum time between fetches that the revocation feed requests.
pub(crate) const REFRESH_COOLDOWN: Duration = Duration::from_secs(1);

const FRESH_BY_DEFAULT: Duration = Duration::from_secs(300);
const FRESH_AT_MOST: Duration = Duration::from_secs(3600);
const BETWEEN_FETCHES: Duration = Duration::from_secs(1);

/// How long a response is fresh (RFC 9111 §4.2), within bounds.
pub(crate) fn fresh_for(max_age: Option<Seconds>, age: Option<Seconds>) -> Duration {
    // `Age` reduces `max-age`; without `max-age` it has nothing to reduce.
    max_age.map_or(FRESH_BY_DEFAULT, |max_age| {
        let left = max_age - Seconds(age.unwrap_or_default().0.max(0));
        Duration::from(left).min(FRESH_AT_MOST)
    })
}

/// The time from a response to the next fetch: 80 % of its freshness, ± 10 % of that.
pub(crate) fn refresh_after(fresh: Duration, spread: f64) -> Duration {
    fresh.mul_f64(0.8 * (1.0 + 0.1 * spread)).max(BETWEEN_FETCHES)
}

/// The time from the `failures`-th failure in a row to the next fetch. It is shorter without keys, because
/// then every request waits for them.
pub(crate) fn retry_after(failures: u32, has_keys: bool, spread: f64) -> Duration {
    let (first, most) = if has_keys { (10.0, 60.0) } else { (1.0, 4.0) };
    let doubled = f64::min(first * f64::from(1_u32 << failures.saturating_sub(1).min(10)), most);
    // The spread only lengthens it, so the cooldown above holds here, too.
    Duration::from_secs_f64(doubled * (1.0 + 0.1 * spread.abs()))
}

/// A number in [-1, 1), good enough to spread load.
pub(crate) fn spread() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Each RandomState has random keys, so the hash of nothing is random.
    let random = std::hash::RandomState::new().build_hasher().finish();
    #[expect(clippy::cast_precision_loss, reason = "jitter does not need 64 bits")]
    let unit = (random >> 12) as f64 / (1_u64 << 52) as f64;
    2.0 * unit - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(max_age: Option<i64>, age: Option<i64>) -> u64 {
        fresh_for(max_age.map(Seconds), age.map(Seconds)).as_secs()
    }

    #[test]
    fn freshness_is_max_age_less_age_within_bounds() {
        assert_eq!(fresh(None, None), 300);
        assert_eq!(fresh(None, Some(1000)), 300);
        assert_eq!(fresh(Some(60), None), 60);
        assert_eq!(fresh(Some(60), Some(20)), 40);
        assert_eq!(fresh(Some(60), Some(61)), 0);
        assert_eq!(fresh(Some(60), Some(-20)), 60);
        assert_eq!(fresh(Some(-1), None), 0);
        assert_eq!(fresh(Some(3600), None), 3600);
        assert_eq!(fresh(Some(3601), None), 3600);
        assert_eq!(fresh(Some(i64::MAX), Some(7200)), 3600);
    }

    #[test]
    fn refresh_comes_before_the_end_of_freshness_and_never_sooner_than_a_second() {
        let at = |fresh, spread| refresh_after(Duration::from_secs(fresh), spread).as_secs_f64();
        assert!((at(100, 0.0) - 80.0).abs() < 1e-6);
        assert!((at(100, -1.0) - 72.0).abs() < 1e-6);
        assert!((at(100, 1.0) - 88.0).abs() < 1e-6);
        assert!((at(0, -1.0) - 1.0).abs() < 1e-6);
        assert!((at(1, -1.0) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn retries_back_off_and_respect_the_cooldown_while_there_are_keys() {
        for failures in 0..100 {
            for spread in [-1.0, 0.0, 0.99] {
                let (with, without) =
                    (retry_after(failures, true, spread), retry_after(failures, false, spread));
                assert!(with >= FORCED_COOLDOWN && with.as_secs() <= 66, "{failures} {with:?}");
                assert!(without >= BETWEEN_FETCHES && without.as_secs_f64() < 5.0, "{failures} {without:?}");
            }
        }
    }

    #[test]
    fn spread_stays_in_its_interval_and_spreads() {
        let drawn: Vec<f64> = (0..1000).map(|_| spread()).collect();
        assert!(drawn.iter().all(|one| (-1.0..1.0).contains(one)));
        assert!(drawn.iter().any(|one| *one < -0.5) && drawn.iter().any(|one| *one > 0.5));
    }
}
