//! Whole seconds, and the clock as a trait.

use std::ops::{Add, Div, Mul, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Seconds since 1970-01-01T00:00:00Z; `NumericDate` without a fraction (RFC 7519 §2).
///
/// Arithmetic saturates, so a hostile `exp` cannot wrap around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixTime(pub i64);

/// A duration in whole seconds; may be negative. Arithmetic saturates, and division by zero returns zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seconds(pub i64);

impl Add<Seconds> for UnixTime {
    type Output = Self;
    fn add(self, rhs: Seconds) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub<Seconds> for UnixTime {
    type Output = Self;
    fn sub(self, rhs: Seconds) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl Sub for UnixTime {
    type Output = Seconds;
    fn sub(self, rhs: Self) -> Seconds {
        Seconds(self.0.saturating_sub(rhs.0))
    }
}

impl Add for Seconds {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl Sub for Seconds {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl Mul<i64> for Seconds {
    type Output = Self;
    fn mul(self, rhs: i64) -> Self {
        Self(self.0.saturating_mul(rhs))
    }
}

impl Div<i64> for Seconds {
    type Output = Self;
    fn div(self, rhs: i64) -> Self {
        if rhs == 0 { Self(0) } else { Self(self.0.saturating_div(rhs)) }
    }
}

/// A negative duration becomes zero.
impl From<Seconds> for Duration {
    fn from(seconds: Seconds) -> Self {
        Self::from_secs(u64::try_from(seconds.0).unwrap_or(0))
    }
}

/// A source of time. Tests pass their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The wall clock. It decides whether a token is valid.
    fn now(&self) -> UnixTime;
    /// The wall clock in milliseconds since 1970. The default has whole seconds only; ages measured with it
    /// can be up to a second too small.
    fn unix_millis(&self) -> i64 {
        self.now().0.saturating_mul(1000)
    }
    /// Monotonic time since an arbitrary instant in this process. It decides how old a key set is, because a
    /// jump of the wall clock must neither freeze nor empty the cache.
    fn monotonic(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(UnixTime(i64::MAX) + Seconds(1), UnixTime(i64::MAX));
        assert_eq!(UnixTime(i64::MIN) - Seconds(1), UnixTime(i64::MIN));
        assert_eq!(UnixTime(i64::MIN) - UnixTime(i64::MAX), Seconds(i64::MIN));
        assert_eq!(Seconds(i64::MAX) * 2, Seconds(i64::MAX));
        assert_eq!(Seconds(i64::MIN) / -1, Seconds(i64::MAX));
        assert_eq!(Seconds(7) / 0, Seconds(0));
        assert_eq!(Duration::from(Seconds(-3)), Duration::ZERO);
    }
}
