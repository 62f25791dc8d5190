//! What a replica knows to be revoked, since when it knows it, and what the next document must say. No I/O, no waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use verifier::{Kid, Seconds, UnixTime};

use crate::domain::revocation::Revocation;
use crate::store::{Confirmation, RevocationTable};

/// A read of the whole table is tried so often, should a read have missed a row against all rules.
const READ_ALL_EVERY: Duration = Duration::from_mins(1);
/// How long a document may be passed on.
const DOCUMENT_LIFE: Seconds = Seconds(86_400);
/// A snapshot that is behind by less than this is sent again. One heartbeat makes up for it.
const SNAPSHOT_LIFE_MS: i64 = 2_000;

/// More does not fit into a document that verifiers accept: 16 MiB at 28.4 bytes a session, with room for some thousand keys.
pub const MOST_ENTRIES: usize = 580_000;

/// The live set of one replica, and how far its subscribers know it.
///
/// Entries come by reading and leave by time: by the shared clock, as the last read saw it.
#[derive(Debug, Default)]
pub struct Publisher {
    live: BTreeMap<Revocation, Option<UnixTime>>,
    seen: Option<Confirmation>,
    /// When the whole table was last asked for, with or without an answer.
    asked_all_at: Duration,
    /// Unix milliseconds before which everything committed has been read. It never goes back, and each addition moves it: were two
    /// additions known by one `as_of`, a subscriber that has the first could not tell that it lacks the second.
    as_of: Option<i64>,
    /// `as_of` of the last document with additions.
    changed_at: i64,
    published_as_of: Option<i64>,
    /// How many entries there were ever: tells whether a snapshot is still complete.
    additions: u64,
    unpublished: Vec<Revocation>,
    is_too_large: bool,
}

/// What a document is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Everything committed before this instant has been read; Unix milliseconds.
    pub as_of: i64,
    /// A delta: what became known after this instant. A snapshot: `None`.
    pub since: Option<i64>,
    /// The ids of sessions, 16 bytes each, ascending.
    pub sids: Vec<u8>,
    /// The names of keys.
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
    /// From where to read: `None` is everything, else what [`SqlStore::revocations`](crate::store::SqlStore::revocations) takes.
    /// The shared clock decides, so that no pause of this process makes a gap.
    ///
    /// The first read is of everything, and the next one as long as that fails. Later ones of this kind are only a precaution: one
    /// that fails is not repeated before its time, and stops nothing.
    pub fn read_from(&mut self, monotonic: Duration) -> Option<UnixTime> {
        let is_due = monotonic.saturating_sub(self.asked_all_at) >= READ_ALL_EVERY;
        let from = self.seen.filter(|_| !is_due).map(|seen| seen.now);
        if from.is_none() {
            self.asked_all_at = monotonic;
        }
        from
    }

    /// Takes in what was read. `asked_at` is our wall clock just before the question was sent, in Unix milliseconds;
    /// `None` when that clock is wrong: then what is new is passed on as ever, but no claim is made of how new it is.
    pub fn learn(&mut self, table: RevocationTable, asked_at: Option<i64>) {
        let seen = table.seen;
        let is_another_second = self.seen.replace(seen).is_none_or(|before| before.now != seen.now);
        let mut added = Vec::new();
        for revoked in table.rows {
            if self.live.insert(revoked.what.clone(), revoked.forget_at).is_none() {
                added.push(revoked.what);
            }
        }
        // There may be half a million, and twenty reads a second.
        if is_another_second {
            self.live.retain(|_, forget_at| forget_at.is_none_or(|at| at > seen.now));
        }
        self.additions += added.len() as u64;
        match self.as_of {
            // Nobody has heard of anything yet: whoever subscribes starts with a snapshot of all this.
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

    /// The next delta: what is new, or that nothing is. `None` when not even that is new.
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

    /// Takes note that a delta was sent. `since` of the next one is the `as_of` of the last one with additions, not of the last one:
    /// so it fits every snapshot that was taken in between.
    pub fn sent(&mut self, delta: &Draft) {
        self.published_as_of = Some(delta.as_of);
        if delta.taken > 0 {
            self.unpublished.drain(..delta.taken);
            self.changed_at = delta.as_of;
        }
    }

    /// Everything that is still to be remembered. `None` before the first read.
    pub fn snapshot(&self) -> Option<Draft> {
        let (sids, kids) = split(self.live.keys());
        Some(Draft { as_of: self.as_of?, since: None, sids, kids, additions: self.additions, taken: 0 })
    }

    /// Whether a snapshot holds all there is, and the next delta continues it.
    pub fn is_complete(&self, snapshot: &Draft) -> bool {
        snapshot.additions == self.additions && snapshot.as_of >= self.changed_at
    }

    /// Whether it is, besides, not much behind.
    pub fn is_current(&self, snapshot: &Draft) -> bool {
        self.is_complete(snapshot)
            && self.as_of.is_some_and(|as_of| as_of - snapshot.as_of < SNAPSHOT_LIFE_MS)
    }

    /// Whether there is something that subscribers have not heard of.
    pub fn has_news(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// `Some` when it has just become true, or has just ceased to be, that verifiers refuse a snapshot for its size.
    pub fn outgrew(&mut self) -> Option<bool> {
        let is_too_large = self.live.len() > MOST_ENTRIES;
        let was_too_large = std::mem::replace(&mut self.is_too_large, is_too_large);
        (is_too_large != was_too_large).then_some(is_too_large)
    }

    /// What the last read saw.
    pub fn seen(&self) -> Option<Confirmation> {
        self.seen
    }

    /// Unix milliseconds before which everything committed has been read.
    pub fn as_of(&self) -> Option<i64> {
        self.as_of
    }

    /// Whether this was revoked and is still to be remembered. `None` before the first read.
    pub fn is_revoked(&self, what: &Revocation) -> Option<bool> {
        self.seen.map(|_| self.live.contains_key(what))
    }

    /// How much is to be remembered now.
    pub fn entries(&self) -> usize {
        self.live.len()
    }
}

impl Draft {
    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.sids.len() / 16 + self.kids.len()
    }

    /// The claims of the document, dated `iat`.
    pub fn claims(self, issuer: &str, iat: UnixTime, keep_for: Seconds) -> Claims {
        Claims {
            iss: issuer.to_owned(),
            iat,
            exp: iat + DOCUMENT_LIFE,
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
        let delta = publisher.delta().expect("there is something to say");
        publisher.sent(&delta);
        delta
    }

    #[test]
    fn what_the_first_read_finds_is_in_the_snapshot_and_in_no_delta() {
        let mut publisher = started(&[session(2, NOW + 9), session(1, NOW + 9)]);
        let snapshot = publisher.snapshot().unwrap();
        assert_eq!(snapshot.sids, [[1; 16], [2; 16]].concat(), "ascending");
        let delta = send(&mut publisher);
        assert_eq!((delta.since, delta.entries()), (Some(snapshot.as_of), 0));
        assert_eq!(publisher.delta(), None, "that was all");
    }

    #[test]
    fn a_row_that_is_read_again_is_no_news_and_one_that_appears_late_is() {
        let mut publisher = started(&[]);
        send(&mut publisher);
        let from = publisher.read_from(Duration::ZERO);
        assert_eq!(from, Some(UnixTime(NOW)));
        publisher.learn(table(NOW + 1, &[session(2, NOW + 9)]), Some(NOW * 1000 + 400));
        assert_eq!(send(&mut publisher).sids, [2; 16]);
        // Began before the other, committed after it.
        let both = [session(1, NOW + 8), session(2, NOW + 9)];
        publisher.learn(table(NOW + 1, &both), Some(NOW * 1000 + 800));
        assert_eq!(send(&mut publisher).sids, [1; 16]);
    }

    #[test]
    fn a_delta_continues_the_last_change_and_not_the_last_heartbeat() {
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
    fn every_addition_moves_as_of_whatever_the_clock_does() {
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
        assert_eq!(publisher.as_of(), Some(before), "and it never goes back");
        publisher.learn(table(NOW, &[]), None);
        assert_eq!(publisher.as_of(), Some(before), "a wrong clock claims nothing");
    }

    #[test]
    fn nothing_is_said_before_the_clock_was_right_once() {
        let mut publisher = Publisher::default();
        publisher.learn(table(NOW, &[session(1, NOW + 9)]), None);
        assert_eq!((publisher.snapshot(), publisher.delta()), (None, None));
        publisher.learn(table(NOW, &[]), Some(NOW * 1000));
        assert_eq!(publisher.snapshot().unwrap().sids, [1; 16]);
    }

    #[test]
    fn what_arrives_while_a_delta_is_signed_is_in_the_next_one() {
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
    fn an_entry_leaves_at_its_second_and_a_key_never() {
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
    fn everything_is_read_again_after_a_minute() {
        let mut publisher = started(&[]);
        let mut from = |ms| publisher.read_from(Duration::from_millis(ms));
        assert_eq!(from(59_999), Some(UnixTime(NOW)));
        assert_eq!(from(60_000), None);
        assert_eq!(from(119_999), Some(UnixTime(NOW)), "whether or not that read was answered");
        assert_eq!(from(120_000), None);
    }

    #[test]
    fn everything_is_read_first_and_nothing_else_until_that_is_answered() {
        let mut publisher = Publisher::default();
        for ms in [0, 400, 2_400, 90_000] {
            assert_eq!(publisher.read_from(Duration::from_millis(ms)), None, "{ms}");
        }
        publisher.learn(table(NOW, &[]), Some(NOW * 1000));
        assert_eq!(publisher.read_from(Duration::from_millis(90_400)), Some(UnixTime(NOW)));
    }

    #[test]
    fn outgrowing_what_verifiers_accept_is_said_once_and_so_is_its_end() {
        let most = u32::try_from(MOST_ENTRIES).unwrap();
        let entry = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            Revoked {
                what: Revocation::Session(SessionId::from_bytes(id)),
                forget_at: Some(UnixTime(NOW + 9)),
            }
        };
        let mut publisher = started(&(0..most).map(entry).collect::<Vec<_>>());
        assert_eq!(publisher.outgrew(), None);
        let bytes = |entries: usize| {
            let draft = Draft { sids: vec![0; entries * 16], ..publisher.snapshot().unwrap() };
            let claims =
                serde_json::to_vec(&draft.claims("https://auth.example.com", UnixTime(NOW), Seconds(3_730)));
            claims.unwrap().len() * 4 / 3
        };
        let (limit, rest) = (16 * 1024 * 1024, 200_000);
        assert!(bytes(MOST_ENTRIES) < limit - rest && bytes(MOST_ENTRIES + 10_000) > limit - rest);
        for expected in [Some(true), None] {
            publisher.learn(table(NOW, &[entry(most)]), None);
            assert_eq!(publisher.outgrew(), expected);
        }
        for expected in [Some(false), None] {
            publisher.learn(table(NOW + 9, &[]), None);
            assert_eq!(publisher.outgrew(), expected);
        }
    }

    #[test]
    fn a_snapshot_is_made_anew_when_it_lacks_something_or_is_two_seconds_behind() {
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
