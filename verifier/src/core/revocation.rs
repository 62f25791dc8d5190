//! A set of revocations: sessions until their tokens have expired, keys permanently.
//!
//! Entries are only added, and leave by time. Merging is idempotent and independent of order, so repeated,
//! late or reordered documents cannot remove a revocation. A lookup neither locks nor allocates.

use std::sync::Arc;
use std::time::Duration;

use crate::core::error::Reason;
use crate::core::jwk::Kid;

/// The 16 bytes of a session's UUID.
pub(crate) type SessionId = [u8; 16];

/// New entries are collected in a small list of up to this many entries, or a sixteenth of the large list, so
/// that adding one is cheap regardless of the size of the set.
const RECENT: usize = 512;
/// An immutable set of revocations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Revocations {
    /// Sorted by session, as is `recent`. A session is in only one of them.
    settled: Arc<[Entry]>,
    recent: Arc<[Entry]>,
    /// Sorted. There are few: each was an emergency.
    keys: Arc<[Kid]>,
}

/// 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) session: SessionId,
    /// Whole seconds of `Clock::monotonic`.
    pub(crate) forget_at: u32,
}

impl Revocations {
    /// Refuses a token of a revoked key or session. Only sessions whose id is a UUID can be revoked.
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

    /// The number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.settled.len() + self.recent.len()
    }

    /// The revoked keys.
    pub(crate) fn keys(&self) -> &[Kid] {
        &self.keys
    }

    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Entry> {
        self.settled.iter().chain(&*self.recent)
    }

    /// The set with these additions; `None` if it has all of them. A session that is in the set is kept until
    /// the later time.
    pub(crate) fn merged(
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
        let mut added: Vec<Entry> =
            sessions.into_iter().map(|session| Entry { session, forget_at }).collect();
        // Sorted first: lookups in order are faster.
        added.sort_unstable();
        added.retain(|one| self.lacks(one));
        if added.is_empty() && new_keys.is_empty() {
            return None;
        }
        // An extended session must not be in both lists. Snapshots extend sessions, at most once a minute;
        // deltas do not.
        let is_extended = added.iter().any(|one| self.has_session(&one.session));
        if is_extended || self.recent.len() + added.len() > RECENT.max(self.settled.len() / 16) {
            return Some(next.compacted(&added, now));
        }
        next.recent = union(&[&self.recent, &added], 0).into();
        Some(next)
    }

    fn lacks(&self, new: &Entry) -> bool {
        let lasts = |entries: &[Entry]| {
            let found = entries.binary_search_by(|entry| entry.session.cmp(&new.session));
            found.is_ok_and(|at| entries[at].forget_at >= new.forget_at)
        };
        !lasts(&self.recent) && !lasts(&self.settled)
    }

    /// All entries and `added` in one list, without the expired ones.
    pub(crate) fn compacted(&self, added: &[Entry], now: Duration) -> Self {
        let settled = union(&[&self.settled, &self.recent, added], seconds(now)).into();
        Self { settled, recent: Arc::default(), keys: Arc::clone(&self.keys) }
    }
}

/// The entries of all lists that expire after `now`, each session once, sorted.
fn union(lists: &[&[Entry]], now: u32) -> Vec<Entry> {
    let mut all = Vec::with_capacity(lists.iter().map(|list| list.len()).sum());
    for list in lists {
        all.extend(list.iter().filter(|entry| entry.forget_at > now));
    }
    // `sort_by` merges runs that are sorted. Of equal sessions, the one that expires last comes first.
    all.sort_by(|a: &Entry, b| a.session.cmp(&b.session).then(b.forget_at.cmp(&a.forget_at)));
    all.dedup_by_key(|entry| entry.session);
    all.shrink_to_fit();
    all
}

/// Rounded up, so that no entry leaves early. Saturates after 136 years.
pub(crate) fn seconds(at: Duration) -> u32 {
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
    fn entry_takes_twenty_bytes() {
        assert_eq!(size_of::<Entry>(), 20);
    }

    #[test]
    fn live_entry_takes_at_most_24_bytes_with_any_history() {
        // One snapshot; single additions; and the same snapshots repeatedly, so that entries move between the
        // lists.
        let histories: [Vec<(u64, u64)>; 3] = [
            vec![(0, 100_000)],
            (0..3000).map(|number| (number, number + 1)).collect(),
            (0..20).flat_map(|_| [(0, 20_000), (5000, 6000), (0, 500)]).collect(),
        ];
        for history in histories {
            let mut known = Revocations::default();
            for (time, (from, to)) in (0..).zip(&history) {
                let sessions = (*from..*to).map(session).collect();
                known = known.merged(sessions, &[], at(time), at(time) + HOUR).unwrap_or(known);
            }
            let live: std::collections::BTreeSet<_> = known.sessions().map(|entry| entry.session).collect();
            let bytes = size_of_val(&*known.settled) + size_of_val(&*known.recent);
            let small = RECENT * size_of::<Entry>();
            assert!(bytes <= live.len() * 24 + small, "{bytes} bytes for {}", live.len());
        }
    }
}
