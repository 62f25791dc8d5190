//! What has been revoked: sessions for as long as their tokens could live, keys for ever.
//!
//! The set only grows, and entries leave by time. Merging is idempotent and does not depend on the order, so
//! repeated, late or reordered news cannot spoil it. Asking neither locks nor allocates.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use crate::error::Reason;
use crate::jwk::Kid;
use crate::snapshot::SavedRevocations;
use crate::time::{Clock, Seconds};

/// The 16 bytes of a session's UUID.
pub(crate) type SessionId = [u8; 16];

/// News are gathered in a small list until it has this many entries or a sixteenth of the large one, so that
/// each of them costs little however many there are.
const RECENT: usize = 512;
/// The issuer's clock may be ahead of ours by so many milliseconds when a file is read.
const CLOCK_LEAD: i64 = 2_000;
/// No file makes us remember sessions for longer: no access token lives as long.
const KEPT_AT_MOST: Seconds = Seconds(24 * 3600);

const NEVER: i64 = i64::MIN;

/// The revocations of one issuer, shared by those who ask and the one who listens.
#[derive(Debug)]
pub(crate) struct Revoked {
    known: ArcSwap<Revocations>,
    /// `NEVER`, or Unix milliseconds.
    as_of: AtomicI64,
    merging: Mutex<()>,
    /// How often something was added.
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
    /// What is known now. Does not wait.
    pub(crate) fn load(&self) -> Guard<Arc<Revocations>> {
        self.known.load()
    }

    /// Adds sessions, to be kept until `forget_at` of `Clock::monotonic`, and keys, to be kept for ever.
    pub(crate) fn merge(&self, sessions: Vec<SessionId>, keys: &[Kid], now: Duration, forget_at: Duration) {
        let _turn = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if let Some(next) = known.merged(sessions, keys, now, forget_at) {
            self.known.store(Arc::new(next));
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// The instant of the issuer's clock up to which everything is known, in Unix milliseconds.
    pub(crate) fn as_of(&self) -> Option<i64> {
        let as_of = self.as_of.load(Ordering::Acquire);
        (as_of != NEVER).then_some(as_of)
    }

    /// Everything up to `as_of` has been merged. Only ever moves forward; `true` if it did.
    pub(crate) fn known_as_of(&self, as_of: i64) -> bool {
        self.as_of.fetch_max(as_of, Ordering::AcqRel) < as_of
    }

    /// How long ago everything was known, in milliseconds of the wall clock. Less than nothing is nothing: the
    /// issuer's clock may be ahead of ours by the leeway.
    pub(crate) fn staleness(&self, now_ms: i64) -> Option<i64> {
        self.as_of().map(|as_of| now_ms.saturating_sub(as_of).max(0))
    }

    /// Adds what was saved. As of an instant that is yet to come: a clock was set back, and how old this is
    /// cannot be told.
    pub(crate) fn restore(&self, saved: SavedRevocations, clock: &dyn Clock) {
        let (now, wall) = (clock.monotonic(), clock.now());
        // Times are rounded, so there are few of them.
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
            self.known_as_of(as_of);
        }
    }

    /// What is known now, for a file.
    pub(crate) fn saved(&self, clock: &dyn Clock) -> SavedRevocations {
        // Before the rest: what comes meanwhile may be in the file and need not be.
        let as_of = self.as_of();
        let (now, wall, known) = (seconds(clock.monotonic()), clock.now(), self.load());
        let forget_at = |entry: &Entry| wall + Seconds(i64::from(entry.forget_at.saturating_sub(now)));
        SavedRevocations {
            as_of,
            sessions: known.sessions().map(|entry| (entry.session, forget_at(entry))).collect(),
            keys: known.keys().to_vec(),
        }
    }

    /// Drops the sessions whose time is over.
    pub(crate) fn forget(&self, now: Duration) {
        let _turn = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load_full();
        if known.sessions().any(|entry| entry.forget_at <= seconds(now)) {
            self.known.store(Arc::new(known.compacted(&[], now)));
        }
    }

    /// Wakes up whenever something was added.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A set of revocations that does not change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    /// Sorted by session, as is `recent`. A session stands in one of them only.
    settled: Arc<[Entry]>,
    recent: Arc<[Entry]>,
    /// Sorted. Few: each of them was an emergency.
    keys: Arc<[Kid]>,
}

/// 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    session: SessionId,
    /// Whole seconds of `Clock::monotonic`.
    forget_at: u32,
}

impl Revocations {
    /// Refuses a token of a revoked key or session. A session that is not named by a UUID cannot have been
    /// revoked.
    pub(crate) fn check(&self, kid: &Kid, sid: Option<&str>) -> Result<(), Reason> {
        if self.has_key(kid.as_str()) {
            return Err(Reason::RevokedKey);
        }
        match sid.and_then(parse_session) {
            Some(session) if self.has_session(&session) => Err(Reason::RevokedSession),
            _ => Ok(()),
        }
    }

    pub(crate) fn has_key(&self, kid: &str) -> bool {
        self.keys.binary_search_by(|key| key.as_str().cmp(kid)).is_ok()
    }

    pub(crate) fn has_session(&self, session: &SessionId) -> bool {
        let has = |entries: &[Entry]| entries.binary_search_by(|entry| entry.session.cmp(session)).is_ok();
        has(&self.recent) || has(&self.settled)
    }

    /// How many sessions are in the set.
    pub(crate) fn len(&self) -> usize {
        self.settled.len() + self.recent.len()
    }

    /// The keys in the set.
    pub(crate) fn keys(&self) -> &[Kid] {
        &self.keys
    }

    fn sessions(&self) -> impl Iterator<Item = &Entry> {
        self.settled.iter().chain(&*self.recent)
    }

    /// The set with news, if they are any. A session that is known is kept until the later of both times.
    fn merged(
        &self,
        sessions: Vec<SessionId>,
        keys: &[Kid],
        now: Duration,
        forget_at: Duration,
    ) -> Option<Self> {
        let new_keys: Vec<&Kid> = keys.iter().filter(|key| !self.has_key(key.as_str())).collect();
        let mut next = self.clone();
        if !new_keys.is_empty() {
            let mut all: Vec<Kid> = self.keys.iter().chain(new_keys.iter().copied()).cloned().collect();
            all.sort_unstable();
            all.dedup();
            next.keys = all.into();
        }
        let forget_at = seconds(forget_at);
        let mut news: Vec<Entry> = sessions.into_iter().map(|session| Entry { session, forget_at }).collect();
        // Sorted first: what is looked up in order is found faster.
        news.sort_unstable();
        news.retain(|one| self.lacks(one));
        if news.is_empty() && new_keys.is_empty() {
            return None;
        }
        // A session that now lasts longer must not stand in both lists. Snapshots tell of it again, at most once a
        // minute with a new time, and deltas do not.
        let is_extended = news.iter().any(|one| self.has_session(&one.session));
        if is_extended || self.recent.len() + news.len() > RECENT.max(self.settled.len() / 16) {
            return Some(next.compacted(&news, now));
        }
        next.recent = union(&[&self.recent, &news], 0).into();
        Some(next)
    }

    fn lacks(&self, new: &Entry) -> bool {
        let lasts = |entries: &[Entry]| {
            let found = entries.binary_search_by(|entry| entry.session.cmp(&new.session));
            found.is_ok_and(|at| entries[at].forget_at >= new.forget_at)
        };
        !lasts(&self.recent) && !lasts(&self.settled)
    }

    /// Everything and `news` in one list, without what may be forgotten.
    fn compacted(&self, news: &[Entry], now: Duration) -> Self {
        let settled = union(&[&self.settled, &self.recent, news], seconds(now)).into();
        Self { settled, recent: Arc::default(), keys: Arc::clone(&self.keys) }
    }
}

/// The entries of all lists that last beyond `now`, each session once, sorted.
fn union(lists: &[&[Entry]], now: u32) -> Vec<Entry> {
    let mut all = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
    for list in lists {
        all.extend(list.iter().filter(|entry| entry.forget_at > now));
    }
    // Runs that are sorted already are merged, not sorted anew. Of equal sessions the one that lasts longest comes first.
    all.sort_by(|a: &Entry, b| a.session.cmp(&b.session).then(b.forget_at.cmp(&a.forget_at)));
    all.dedup_by_key(|entry| entry.session);
    all.shrink_to_fit();
    all
}

/// Rounded up: an entry must not leave early. After 136 years of uptime, never.
fn seconds(at: Duration) -> u32 {
    let up = at.as_secs().saturating_add(u64::from(at.subsec_nanos() > 0));
    u32::try_from(up).unwrap_or(u32::MAX)
}

/// A UUID in its hyphenated form (RFC 9562 §4), in either case.
pub(crate) fn parse_session(text: &str) -> Option<SessionId> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    let mut session = SessionId::default();
    let mut digits = text.iter().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
    if [8, 13, 18, 23].iter().any(|at: &usize| text[*at] != b'-') {
        return None;
    }
    let mut nibble = || {
        let (_, digit) = digits.next()?;
        let value = char::from(*digit).to_digit(16)?;
        u8::try_from(value).ok()
    };
    for byte in &mut session {
        *byte = nibble()? << 4 | nibble()?;
    }
    Some(session)
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
    fn sessions_are_read_in_their_one_form() {
        let bytes = [0x5e, 0x55, 0x10, 0x9d, 0, 1, 0x42, 3, 0x84, 5, 6, 7, 8, 9, 0xAB, 0xff];
        assert_eq!(parse_session("5e55109d-0001-4203-8405-06070809abff"), Some(bytes));
        assert_eq!(parse_session("5E55109D-0001-4203-8405-06070809ABFF"), Some(bytes));
        for bad in [
            "",
            "session-1",
            "5e55109d000142038405060708 09abff",
            "5e55109d-0001-4203-8405-06070809abf",
            "5e55109d-0001-4203-8405-06070809abff0",
            "5e55109d-0001-4203-8405-06070809abfg",
            "5e55109d-0001-4203-8405006070809abff",
            "+e55109d-0001-4203-8405-06070809abff",
        ] {
            assert_eq!(parse_session(bad), None, "{bad}");
        }
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
    fn entry_takes_twenty_bytes() {
        assert_eq!(size_of::<Entry>(), 20);
    }

    #[test]
    fn live_entry_takes_at_most_24_bytes_however_it_came() {
        // One snapshot; news one by one; and time after time the same snapshot a little later, so that entries
        // move from one list to the other.
        let histories: [Vec<(u64, u64)>; 3] = [
            vec![(0, 100_000)],
            (0..3000).map(|number| (number, number + 1)).collect(),
            (0..20).flat_map(|_| [(0, 20_000), (5000, 6000), (0, 500)]).collect(),
        ];
        for history in histories {
            let revoked = Revoked::default();
            for (time, (from, to)) in (0..).zip(&history) {
                let sessions = (*from..*to).map(session).collect();
                revoked.merge(sessions, &[], at(time), at(time) + HOUR);
            }
            let known = revoked.load();
            let live: std::collections::BTreeSet<_> = known.sessions().map(|entry| entry.session).collect();
            let bytes = size_of_val(&*known.settled) + size_of_val(&*known.recent);
            let small = RECENT * size_of::<Entry>();
            assert!(bytes <= live.len() * 24 + small, "{bytes} bytes for {}", live.len());
        }
    }

    #[test]
    fn only_news_wake_those_who_wait() {
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
