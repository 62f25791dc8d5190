//! What a request may use, built once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use verifier::{Clock, Expected, Seconds};

use crate::config::{ADMIN_AUDIENCE, Config, Settings};
use crate::entropy::Entropy;
use crate::keys::keyring::KeyRing;
use crate::runtime::drain::Drain;
use crate::runtime::feed::Feed;
use crate::runtime::hashing::HashPool;
use crate::runtime::settings::LiveSettings;
use crate::store::{Confirmation, SqlStore};

/// The parts of a running replica.
#[derive(Clone, Debug)]
pub struct App {
    /// Checked at start, never changed.
    pub config: Arc<Config>,
    /// What operators may change; see [`settings`](Self::settings).
    pub settings: Arc<LiveSettings>,
    /// The shared database.
    pub store: SqlStore,
    /// The keys.
    pub keyring: Arc<KeyRing>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Hashes passwords on threads of its own.
    pub hashing: Arc<HashPool>,
    /// How far our clock is from the database's.
    pub clock_guard: Arc<ClockGuard>,
    /// Tells resource servers what was revoked.
    pub feed: Arc<Feed>,
    /// Whether this replica leaves the rotation.
    pub drain: Arc<Drain>,
}

/// Which tokens an endpoint accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// The public listener: tokens for any configured audience.
    Public,
    /// The admin listener: tokens for `auth-admin` only.
    Admin,
}

impl App {
    /// The settings of this moment. A flow takes them once and uses them to its end.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.now()
    }

    /// What a token must say to pass a door.
    pub fn expected(&self, door: Door) -> Expected {
        let admin = [ADMIN_AUDIENCE.to_owned()];
        match door {
            Door::Admin => self.expected_for(&admin),
            Door::Public => self.expected_for(&[&self.settings().audiences[..], &admin].concat()),
        }
    }

    /// What a token must say to be one for these audiences.
    pub fn expected_for(&self, audiences: &[String]) -> Expected {
        Expected::new(self.config.issuer.as_str(), audiences).with_leeway(self.config.leeway)
    }

    /// Why this replica must not be given requests that issue tokens; empty when it is ready.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.drain.is_on() {
            reasons.push("draining".to_owned());
        }
        if let Some(problem) = self.keyring.problem() {
            reasons.push(problem.to_string());
        }
        if !self.keyring.is_fresh() {
            reasons.push("the key table was not read recently".to_owned());
        }
        if !self.feed.is_read() {
            reasons.push("revocations have not been read yet".to_owned());
        }
        if let Some(off_by) = self.clock_guard.off_by(self.config.clock_bound) {
            reasons.push(format!("this replica's clock is {} s away from the database's", off_by.0));
        }
        if !self.keyring.snapshot().has_signer(self.clock.now()) {
            reasons.push("no signing key is active".to_owned());
        }
        reasons
    }
}

/// Compares our clock with the database's, each time a statement tells it.
#[derive(Debug, Default)]
pub struct ClockGuard {
    /// Seconds that our clock surely is ahead (or behind: negative).
    offset: AtomicI64,
}

impl ClockGuard {
    /// Takes note of the database's time. The statement ran at some instant between the question and now, and both clocks are
    /// truncated to seconds; only what is beyond that counts.
    pub fn observe(&self, seen: &Confirmation, clock: &dyn Clock) {
        let answered_at = clock.now();
        let took = clock.monotonic().saturating_sub(seen.asked_at);
        let took = Seconds(i64::try_from(took.as_secs()).unwrap_or(i64::MAX) + 1);
        let (earliest, latest) = (answered_at - took - Seconds(1), answered_at + Seconds(1));
        let offset = if seen.now < earliest {
            earliest - seen.now
        } else if seen.now > latest {
            latest - seen.now
        } else {
            Seconds(0)
        };
        self.offset.store(offset.0, Ordering::Release);
    }

    /// The difference, when it is beyond `bound`.
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
        guard.observe(&Confirmation { now: UnixTime(database), changes: 0, asked_at }, &clock);
        assert!(clock.monotonic() >= asked_at + Duration::from_secs(took.unsigned_abs()));
        guard.off_by(Seconds(5)).map(|offset| offset.0)
    }

    #[test]
    fn clock_is_refused_just_beyond_the_bound() {
        // Truncation of both clocks and of the duration leaves 2 s of doubt behind us and 1 s ahead.
        assert_eq!((off_by(993, 0), off_by(992, 0)), (None, Some(6)));
        assert_eq!((off_by(1_006, 0), off_by(1_007, 0)), (None, Some(-6)));
    }

    #[test]
    fn slow_answer_is_not_taken_for_a_wrong_clock() {
        assert_eq!(off_by(1_000, 30), None);
        assert_eq!(off_by(1_030, 30), None);
    }
}
