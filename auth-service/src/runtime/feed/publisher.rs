//! The revocations that a replica knows, and the content of the next document. No I/O, no waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use verifier::{Kid, Seconds, UnixTime};

use crate::domain::revocation::Revocation;
use crate::store::{Confirmation, RevocationTable};

/// Interval of reads of the whole table: a precaution, in case a read has missed a row.
const READ_ALL_INTERVAL: Duration = Duration::from_mins(1);
/// Lifetime of a document.
const DOCUMENT_LIFETIME: Seconds = Seconds(86_400);
/// A snapshot that is behind by less than this is sent again; the next heartbeat covers the difference.
const MAX_SNAPSHOT_AGE_MS: i64 = 2_000;

/// Maximum number of entries in a document that verifiers accept: 16 MiB at 28.4 bytes per session, with
/// space for some thousand keys.
pub const MAX_ENTRIES: usize = 580_000;

/// The revocations that one replica knows, and which of them its subscribers know.
///
/// Entries are added by reading, and removed when they expire by the database's clock as of the last read.
#[derive(Debug, Default)]
pub struct Publisher {
    live: BTreeMap<Revocation, Option<UnixTime>>,
    seen: Option<Confirmation>,
    /// When the last read of the whole table started, whether or not it succeeded.
    asked_all_at: Duration,
    /// Unix milliseconds before which everything committed has been read. It never decreases, and each
    /// addition increases it: if two additions had the same `as_of`, a subscriber with the first could not
    /// tell that it lacks the second.
    as_of: Option<i64>,
    /// `as_of` of the last document with additions.
    changed_at: i64,
    published_as_of: Option<i64>,
    /// Number of entries ever added, which shows whether a snapshot is still complete.
    additions: u64,
    unpublished: Vec<Revocation>,
    is_too_large: bool,
}

/// The content of a document that is not signed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Everything committed before this instant has been read; Unix milliseconds.
    pub as_of: i64,
    /// The instant after which the entries of a delta became known. `None` for a snapshot.
    pub since: Option<i64>,
    /// The ids of sessions, 16 bytes each, ascending.
    pub sids: Vec<u8>,
    /// The ids of keys.
    pub kids: Vec<Kid>,
    additions: u64,
    taken: usize,
}

/// The claims of a document.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    iss: String,
    iat: UnixTime,
    exp: UnixTime,
    as_of: i64,
    keep_for: Seconds,
    sids: String,
    kids: Vec<Kid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
}

impl Publisher {
    /// The start of the next read, as [`SqlStore::revocations`](crate::store::SqlStore::revocations) takes
    /// it; `None` reads everything. It is a time of the database's clock, so that a pause of this process
    /// leaves no gap.
    ///
    /// The first read is of everything, until one succeeds. Later reads of everything are only a precaution:
    /// one that fails is not repeated before it is due again, and blocks nothing.
    pub fn read_from(&mut self, monotonic: Duration) -> Option<UnixTime> {
        let is_due = monotonic.saturating_sub(self.asked_all_at) >= READ_ALL_INTERVAL;
        let from = self.seen.filter(|_| !is_due).map(|seen| seen.now);
        if from.is_none() {
            self.asked_all_at = monotonic;
        }
        from
    }

    /// Adds the revocations that were read. `asked_at` is the local wall clock just before the statement was
    /// sent, in Unix milliseconds; `None` if that clock is wrong. Then new revocations are still published,
    /// but `as_of` makes no claim about their age.
    pub fn learn(&mut self, table: RevocationTable, asked_at: Option<i64>) {
        let seen = table.seen;
        let is_new_second = self.seen.replace(seen).is_none_or(|before| before.now != seen.now);
        let mut added = Vec::new();
        for revoked in table.rows {
            if self.live.insert(revoked.what.clone(), revoked.forget_at).is_none() {
                added.push(revoked.what);
            }
        }
        // There may be half a million entries and twenty reads per second, so do this once per second.
        if is_new_second {
            self.live.retain(|_, forget_at| forget_at.is_none_or(|at| at > seen.now));
        }
        self.additions += added.len() as u64;
        match self.as_of {
            // No document was sent yet: subscribers start with a snapshot of all entries.
            None => {
                self.as_of = asked_at;
                self.changed_at = asked_at.unwrap_or_default();
            }
            Some(before) => {
                let least = if added.is_empty() { before } else { before + 1 };
                self.as_of = Some(asked_at.map_or(least, |asked_at| asked_at.max(least)));
                self.unpublished.append(&mut added);
            }
        }
    }

    /// The next delta; it is empty if only `as_of` has changed. `None` if nothing has.
    pub fn delta(&self) -> Option<Draft> {
        let as_of = self.as_of?;
        if self.unpublished.is_empty() && self.published_as_of == Some(as_of) {
            return None;
        }
        let mut new: Vec<&Revocation> = self.unpublished.iter().collect();
        new.sort_unstable();
        let (sids, kids) = split(new.into_iter());
        let (since, taken) = (Some(self.changed_at), self.unpublished.len());
        Some(Draft { as_of, since, sids, kids, additions: self.additions, taken })
    }

    /// Records that a delta was sent. `since` of the next delta is the `as_of` of the last delta with
    /// additions, not of the last one, so that it continues every snapshot that was taken in between.
    pub fn sent(&mut self, delta: &Draft) {
        self.published_as_of = Some(delta.as_of);
        if delta.taken > 0 {
            self.unpublished.drain(..delta.taken);
            self.changed_at = delta.as_of;
        }
    }

    /// All revocations that have not expired. `None` before the first read.
    pub fn snapshot(&self) -> Option<Draft> {
        let (sids, kids) = split(self.live.keys());
        Some(Draft { as_of: self.as_of?, since: None, sids, kids, additions: self.additions, taken: 0 })
    }

    /// Whether a snapshot contains every entry, and the next delta continues it.
    pub fn is_complete(&self, snapshot: &Draft) -> bool {
        snapshot.additions == self.additions && snapshot.as_of >= self.changed_at
    }

    /// Whether a snapshot is complete and less than two seconds behind.
    pub fn is_current(&self, snapshot: &Draft) -> bool {
        self.is_complete(snapshot)
            && self.as_of.is_some_and(|as_of| as_of - snapshot.as_of < MAX_SNAPSHOT_AGE_MS)
    }

    /// Whether there are revocations that were not sent to subscribers yet.
    pub fn has_news(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// Checks whether verifiers refuse a snapshot because of its size. Returns `Some` if that has changed.
    pub fn update_size(&mut self) -> Option<bool> {
        let is_too_large = self.live.len() > MAX_ENTRIES;
        let was_too_large = std::mem::replace(&mut self.is_too_large, is_too_large);
        (is_too_large != was_too_large).then_some(is_too_large)
    }

    /// The confirmation of the last read.
    pub fn seen(&self) -> Option<Confirmation> {
        self.seen
    }

    /// Unix milliseconds before which everything committed has been read.
    pub fn as_of(&self) -> Option<i64> {
        self.as_of
    }

    /// Whether this was revoked and has not expired. `None` before the first read.
    pub fn is_revoked(&self, what: &Revocation) -> Option<bool> {
        self.seen.map(|_| self.live.contains_key(what))
    }

    /// The number of entries.
    pub fn entries(&self) -> usize {
        self.live.len()
    }
}

impl Draft {
    /// The number of entries.
    pub fn entries(&self) -> usize {
        self.sids.len() / 16 + self.kids.len()
    }

    /// The claims of the document, dated `iat`.
    pub fn claims(self, issuer: &str, iat: UnixTime, keep_for: Seconds) -> Claims {
        Claims {
            iss: issuer.to_owned(),
            iat,
            exp: iat + DOCUMENT_LIFETIME,
            as_of: self.as_of,
            keep_for,
            sids: URL_SAFE_NO_PAD.encode(&self.sids),
            kids: self.kids,
            since: self.since,
        }
    }
}

fn split<'r>(revocations: impl Iterator<Item = &'r Revocation>) -> (Vec<u8>, Vec<Kid>) {
    let (mut sids, mut kids) = (Vec::new(), Vec::new());
    for revocation in revocations {
        match revocation {
            Revocation::Session(id) => sids.extend_from_slice(id.as_bytes()),
            Revocation::Key(kid) => kids.push(kid.clone()),
        }
    }
    (sids, kids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::revocation::Revoked;
    use crate::domain::session::SessionId;

    const NOW: i64 = 1_800_000_000;

    fn session(number: u8, forget_at: i64) -> Revoked {
        let what = Revocation::Session(SessionId::from_bytes([number; 16]));
        Revoked { what, forget_at: Some(UnixTime(forget_at)) }
    }

    fn table(now: i64, rows: &[Revoked]) -> RevocationTable {
        let seen = Confirmation { now: UnixTime(now), keys_version: 0, asked_at: Duration::ZERO };
        RevocationTable { rows: rows.to_vec(), seen, settings: 0 }
    }

    /// A publisher that read `rows` at `NOW`.
    fn started(rows: &[Revoked]) -> Publisher {
        let mut publisher = Publisher::default();
        publisher.learn(table(NOW, rows), Some(NOW * 1000));
        publisher
    }

    fn send(publisher: &mut Publisher) -> Draft {
        let delta = publisher.delta().expect("something has changed");
        publisher.sent(&delta);
        delta
    }

    #[test]
    fn entries_of_the_first_read_are_in_the_snapshot_and_in_no_delta() {
        let mut publisher = started(&[session(2, NOW + 9), session(1, NOW + 9)]);
        let snapshot = publisher.snapshot().unwrap();
        assert_eq!(snapshot.sids, [[1; 16], [2; 16]].concat(), "ascending");
        let delta = send(&mut publisher);
        assert_eq!((delta.since, delta.entries()), (Some(snapshot.as_of), 0));
        assert_eq!(publisher.delta(), None, "that was all");
    }

    #[test]
    fn only_rows_that_were_not_read_before_are_new() {
        let mut publisher = started(&[]);
        send(&mut publisher);
        let from = publisher.read_from(Duration::ZERO);
        assert_eq!(from, Some(UnixTime(NOW)));
        publisher.learn(table(NOW + 1, &[session(2, NOW + 9)]), Some(NOW * 1000 + 400));
        assert_eq!(send(&mut publisher).sids, [2; 16]);
        // Its transaction began before the other one, and committed after it.
        let both = [session(1, NOW + 8), session(2, NOW + 9)];
        publisher.learn(table(NOW + 1, &both), Some(NOW * 1000 + 800));
        assert_eq!(send(&mut publisher).sids, [1; 16]);
    }

    #[test]
    fn delta_continues_the_last_change_and_not_the_last_heartbeat() {
        let mut publisher = started(&[]);
        let at = |offset: i64| Some(NOW * 1000 + offset);
        publisher.learn(table(NOW, &[]), at(400));
        assert_eq!(send(&mut publisher).since, at(0));
        publisher.learn(table(NOW, &[session(1, NOW + 9)]), at(800));
        assert_eq!(send(&mut publisher).since, at(0));
        publisher.learn(table(NOW, &[]), at(1200));
        let heartbeat = send(&mut publisher);
        assert_eq!((heartbeat.since, Some(heartbeat.as_of)), (at(800), at(1200)));
    }

    #[test]
    fn every_addition_increases_as_of_even_if_the_clock_is_wrong() {
        let mut publisher = started(&[]);
        let mut before = send(&mut publisher).as_of;
        let asked = [Some(NOW * 1000), Some(NOW * 1000 - 3_600_000), None, None, Some(NOW * 1000 + 1)];
        for (number, asked_at) in (1..).zip(asked) {
            publisher.learn(table(NOW, &[session(number, NOW + 9)]), asked_at);
            let delta = send(&mut publisher);
            assert_eq!((delta.as_of, delta.since), (before + 1, Some(before)), "{asked_at:?}");
            assert_eq!(delta.sids, [number; 16]);
            before = delta.as_of;
        }
        publisher.learn(table(NOW, &[]), Some(NOW * 1000 - 3_600_000));
        assert_eq!(publisher.as_of(), Some(before), "it never decreases");
        publisher.learn(table(NOW, &[]), None);
        assert_eq!(publisher.as_of(), Some(before), "a wrong clock does not change it");
    }

    #[test]
    fn there_is_no_document_until_the_clock_was_right_once() {
        let mut publisher = Publisher::default();
        publisher.learn(table(NOW, &[session(1, NOW + 9)]), None);
        assert_eq!((publisher.snapshot(), publisher.delta()), (None, None));
        publisher.learn(table(NOW, &[]), Some(NOW * 1000));
        assert_eq!(publisher.snapshot().unwrap().sids, [1; 16]);
    }

    #[test]
    fn entry_that_arrives_during_signing_is_in_the_next_delta() {
        let mut publisher = started(&[]);
        publisher.learn(table(NOW, &[session(1, NOW + 9)]), Some(NOW * 1000 + 1));
        let first = publisher.delta().unwrap();
        publisher.learn(table(NOW, &[session(2, NOW + 9)]), Some(NOW * 1000 + 1));
        publisher.sent(&first);
        let second = send(&mut publisher);
        assert_eq!((first.sids, second.sids), (vec![1; 16], vec![2; 16]));
        assert_eq!(second.since, Some(first.as_of));
        assert!(second.as_of > first.as_of);
    }

    #[test]
    fn session_expires_at_its_second_and_a_key_never() {
        let key = Revoked { what: Revocation::Key(Kid::from("stolen")), forget_at: None };
        let mut publisher = started(&[session(1, NOW + 9), key]);
        publisher.learn(table(NOW + 8, &[]), Some(NOW * 1000 + 8_000));
        assert_eq!(publisher.entries(), 2);
        publisher.learn(table(NOW + 9, &[]), Some(NOW * 1000 + 9_000));
        let snapshot = publisher.snapshot().unwrap();
        assert_eq!((snapshot.sids.len(), snapshot.kids), (0, vec![Kid::from("stolen")]));
        publisher.learn(table(i64::MAX, &[]), None);
        assert_eq!(publisher.entries(), 1);
    }

    #[test]
    fn everything_is_read_every_minute() {
        let mut publisher = started(&[]);
        let mut from = |ms| publisher.read_from(Duration::from_millis(ms));
        assert_eq!(from(59_999), Some(UnixTime(NOW)));
        assert_eq!(from(60_000), None);
        assert_eq!(from(119_999), Some(UnixTime(NOW)), "whether or not that read succeeded");
        assert_eq!(from(120_000), None);
    }

    #[test]
    fn first_read_is_of_everything_until_it_succeeds() {
        let mut publisher = Publisher::default();
        for ms in [0, 400, 2_400, 90_000] {
            assert_eq!(publisher.read_from(Duration::from_millis(ms)), None, "{ms}");
        }
        publisher.learn(table(NOW, &[]), Some(NOW * 1000));
        assert_eq!(publisher.read_from(Duration::from_millis(90_400)), Some(UnixTime(NOW)));
    }

    #[test]
    fn too_large_a_snapshot_is_reported_once_and_so_is_its_end() {
        let most = u32::try_from(MAX_ENTRIES).unwrap();
        let entry = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            Revoked {
                what: Revocation::Session(SessionId::from_bytes(id)),
                forget_at: Some(UnixTime(NOW + 9)),
            }
        };
        let mut publisher = started(&(0..most).map(entry).collect::<Vec<_>>());
        assert_eq!(publisher.update_size(), None);
        let bytes = |entries: usize| {
            let draft = Draft { sids: vec![0; entries * 16], ..publisher.snapshot().unwrap() };
            let claims =
                serde_json::to_vec(&draft.claims("https://auth.example.com", UnixTime(NOW), Seconds(3_730)));
            claims.unwrap().len() * 4 / 3
        };
        let (limit, rest) = (16 * 1024 * 1024, 200_000);
        assert!(bytes(MAX_ENTRIES) < limit - rest && bytes(MAX_ENTRIES + 10_000) > limit - rest);
        for expected in [Some(true), None] {
            publisher.learn(table(NOW, &[entry(most)]), None);
            assert_eq!(publisher.update_size(), expected);
        }
        for expected in [Some(false), None] {
            publisher.learn(table(NOW + 9, &[]), None);
            assert_eq!(publisher.update_size(), expected);
        }
    }

    #[test]
    fn snapshot_is_renewed_when_incomplete_or_two_seconds_behind() {
        let mut publisher = started(&[]);
        let snapshot = publisher.snapshot().unwrap();
        publisher.learn(table(NOW, &[]), Some(NOW * 1000 + 1_999));
        assert!(publisher.is_current(&snapshot));
        publisher.learn(table(NOW, &[]), Some(NOW * 1000 + 2_000));
        assert!(publisher.is_complete(&snapshot) && !publisher.is_current(&snapshot));
        let snapshot = publisher.snapshot().unwrap();
        publisher.learn(table(NOW, &[session(1, NOW + 9)]), Some(NOW * 1000 + 2_001));
        assert!(!publisher.is_complete(&snapshot));
    }
}
