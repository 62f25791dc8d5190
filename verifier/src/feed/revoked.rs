//! The revocations that a verifier knows, shared by the checks that read them and the feed that adds to them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::core::jwk::Kid;
use crate::core::revocation::{Entry, Revocations, SessionId, seconds};
use crate::core::time::{Clock, Seconds};
use crate::feed::saved::SavedRevocations;

/// The tolerated lead of the issuer's clock when a file is read, in milliseconds.
const CLOCK_LEAD: i64 = 2_000;
/// The longest time for which a session from a file is kept; no access token lives as long.
const KEPT_AT_MOST: Seconds = Seconds(24 * 3600);

const NEVER: i64 = i64::MIN;

/// The revocations of one issuer.
#[derive(Debug)]
pub(crate) struct Revoked {
    known: ArcSwap<Revocations>,
    /// `NEVER`, or Unix milliseconds.
    as_of: AtomicI64,
    merging: Mutex<()>,
    /// The number of additions.
    changed: watch::Sender<u64>,
}

impl Default for Revoked {
    fn default() -> Self {
        Self {
            known: ArcSwap::default(),
            as_of: AtomicI64::new(NEVER),
            merging: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }
}

impl Revoked {
    /// The current set. Does not wait.
    pub(crate) fn load(&self) -> Guard<Arc<Revocations>> {
        self.known.load()
    }

    /// Adds sessions, kept until `forget_at` of `Clock::monotonic`, and keys, kept permanently.
    pub(crate) fn merge(&self, sessions: Vec<SessionId>, keys: &[Kid], now: Duration, forget_at: Duration) {
        let _turn = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if let Some(next) = known.merged(sessions, keys, now, forget_at) {
            self.known.store(Arc::new(next));
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// The instant up to which all revocations are known, in Unix milliseconds of the issuer's clock.
    pub(crate) fn as_of(&self) -> Option<i64> {
        let as_of = self.as_of.load(Ordering::Acquire);
        (as_of != NEVER).then_some(as_of)
    }

    /// Records that all revocations up to `as_of` were merged. Returns whether that is later than before.
    pub(crate) fn advance_as_of(&self, as_of: i64) -> bool {
        self.as_of.fetch_max(as_of, Ordering::AcqRel) < as_of
    }

    /// How long ago all revocations were known, in milliseconds of the wall clock. Not negative, although the
    /// clock of the issuer may be ahead.
    pub(crate) fn staleness(&self, now_ms: i64) -> Option<i64> {
        self.as_of().map(|as_of| now_ms.saturating_sub(as_of).max(0))
    }

    /// Adds saved revocations. An `as_of` in the future is ignored: a clock was set back, so the age is
    /// unknown.
    pub(crate) fn restore(&self, saved: SavedRevocations, clock: &dyn Clock) {
        let (now, wall) = (clock.monotonic(), clock.now());
        // Times are rounded, so there are few different ones.
        let mut by_time = BTreeMap::<Seconds, Vec<SessionId>>::new();
        for (session, forget_at) in saved.sessions {
            by_time.entry((forget_at - wall).min(KEPT_AT_MOST)).or_default().push(session);
        }
        for (left, sessions) in by_time.split_off(&Seconds(1)) {
            self.merge(sessions, &[], now, now.saturating_add(left.into()));
        }
        self.merge(Vec::new(), &saved.keys, now, now);
        if let Some(as_of) =
            saved.as_of.filter(|as_of| *as_of <= clock.unix_millis().saturating_add(CLOCK_LEAD))
        {
            self.advance_as_of(as_of);
        }
    }

    /// The current revocations, to be saved.
    pub(crate) fn saved(&self, clock: &dyn Clock) -> SavedRevocations {
        // Before the rest: a revocation that arrives meanwhile may be missing from the file.
        let as_of = self.as_of();
        let (now, wall, known) = (seconds(clock.monotonic()), clock.now(), self.load());
        let forget_at = |entry: &Entry| wall + Seconds(i64::from(entry.forget_at.saturating_sub(now)));
        SavedRevocations {
            as_of,
            sessions: known.sessions().map(|entry| (entry.session, forget_at(entry))).collect(),
            keys: known.keys().to_vec(),
        }
    }

    /// Drops expired sessions.
    pub(crate) fn forget(&self, now: Duration) {
        let _turn = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if known.sessions().any(|entry| entry.forget_at <= seconds(now)) {
            self.known.store(Arc::new(known.compacted(&[], now)));
        }
    }

    /// Notifies of additions.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Distinct, and spread like random ones.
    fn session(number: u64) -> SessionId {
        let mixed = u128::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        mixed.to_be_bytes()
    }

    #[test]
    fn everything_merged_is_found_and_nothing_else() {
        let revoked = Revoked::default();
        // Batches of many sizes, so that both lists and the passage between them are used.
        let mut next = 0;
        for size in [1, 0, 3, 500, 20, 1, 700, 5000, 1, 400, 400, 2] {
            let batch: Vec<_> = (next..next + size).map(session).collect();
            revoked.merge(batch, &[], at(0), HOUR);
            next += size;
            let known = revoked.load();
            assert_eq!(known.len(), usize::try_from(next).unwrap());
            assert!((0..next).all(|number| known.has_session(&session(number))));
            assert!((next..next + 1000).all(|number| !known.has_session(&session(number))));
        }
    }

    #[test]
    fn merging_again_or_in_another_order_changes_nothing() {
        let (one, other) = (Revoked::default(), Revoked::default());
        let batches: Vec<Vec<_>> = (0..20).map(|n| (n * 37..n * 37 + 60).map(session).collect()).collect();
        for batch in &batches {
            one.merge(batch.clone(), &["a".into()], at(0), HOUR);
        }
        for batch in batches.iter().rev().chain(&batches) {
            other.merge(batch.clone(), &["a".into(), "a".into()], at(0), HOUR);
        }
        let sorted = |revoked: &Revoked| {
            let known = revoked.load();
            let mut ids: Vec<_> = known.sessions().map(|entry| entry.session).collect();
            ids.sort_unstable();
            (ids, known.keys().to_vec())
        };
        assert_eq!(sorted(&one), sorted(&other));
        assert_eq!(one.load().keys().len(), 1);
    }

    #[test]
    fn session_leaves_at_its_latest_time_and_key_never() {
        let revoked = Revoked::default();
        revoked.merge(vec![session(1), session(2)], &["stolen".into()], at(0), at(100));
        revoked.merge(vec![session(2)], &[], at(0), at(200));
        revoked.merge(vec![session(2)], &[], at(0), at(150));
        for (now, expected) in [(99, 2), (100, 1), (199, 1), (200, 0)] {
            revoked.forget(at(now));
            let known = revoked.load();
            let found = (1..=2).filter(|number| known.has_session(&session(*number))).count();
            assert_eq!(found, expected, "at {now}");
        }
        assert_eq!(revoked.load().len(), 0);
        assert!(revoked.load().has_key("stolen"));
    }

    #[test]
    fn session_whose_time_is_extended_counts_once_with_its_later_time() {
        let revoked = Revoked::default();
        revoked.merge((0..2000).map(session).collect(), &[], at(0), at(100));
        revoked.merge((2000..2100).map(session).collect(), &[], at(0), at(100));
        revoked.merge(vec![session(7), session(2007), session(2007)], &[], at(60), at(160));
        let known = revoked.load();
        assert_eq!(known.len(), 2100);
        let mut ids: Vec<_> = known.sessions().map(|entry| entry.session).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), known.sessions().count());
        for (number, expected) in [(7, 160), (8, 100), (2007, 160), (2008, 100)] {
            let times: Vec<_> = known.sessions().filter(|entry| entry.session == session(number)).collect();
            assert_eq!(times, [&Entry { session: session(number), forget_at: expected }]);
        }
        revoked.forget(at(100));
        assert_eq!(revoked.load().len(), 2);
    }

    #[test]
    fn only_additions_notify() {
        let revoked = Revoked::default();
        let mut changes = revoked.changes();
        revoked.merge(vec![session(1)], &[], at(0), HOUR);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        revoked.merge(vec![session(1)], &[], at(0), HOUR);
        assert!(!changes.has_changed().unwrap());
        revoked.merge(vec![], &["stolen".into()], at(0), HOUR);
        assert!(changes.has_changed().unwrap());
    }
}
