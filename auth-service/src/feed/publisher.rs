//! What a replica knows to be revoked, since when it knows it, and what the next document must say. No I/O, no waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use verifier::{Kid, Seconds, UnixTime};

use crate::domain::revocation::Revocation;
use crate::store::{Confirmation, RevocationTable};

/// The whole table is read so often, should a read have missed a row against all rules.
const READ_ALL_EVERY: Duration = Duration::from_mins(1);
/// How long a document may be passed on.
const DOCUMENT_LIFE: Seconds = Seconds(86_400);
/// A snapshot that is behind by less than this is sent again. One heartbeat makes up for it.
const SNAPSHOT_LIFE_MS: i64 = 2_000;

/// The live set of one replica, and how far its subscribers know it.
///
/// Entries come by reading and leave by time: by the shared clock, as the last read saw it.
#[derive(Debug, Default)]
pub struct Publisher {
    live: BTreeMap<Revocation, Option<UnixTime>>,
    seen: Option<Confirmation>,
    read_all_at: Duration,
    /// Unix milliseconds before which everything committed has been read. It never goes back, and each addition moves it: were two
    /// additions known by one `as_of`, a subscriber that has the first could not tell that it lacks the second.
    as_of: Option<i64>,
    /// `as_of` of the last document with additions.
    changed_at: i64,
    published_as_of: Option<i64>,
    /// How many entries there were ever: tells whether a snapshot is still complete.
    additions: u64,
    unpublished: Vec<Revocation>,
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
    pub fn read_from(&self, monotonic: Duration) -> Option<UnixTime> {
        let is_due = monotonic.saturating_sub(self.read_all_at) >= READ_ALL_EVERY;
        self.seen.filter(|_| !is_due).map(|seen| seen.now)
    }

    /// Takes in what was read from `from`. `asked_at` is our wall clock just before the question was sent, in Unix milliseconds;
    /// `None` when that clock is wrong: then what is new is passed on as ever, but no claim is made of how new it is.
    pub fn learn(&mut self, from: Option<UnixTime>, table: RevocationTable, asked_at: Option<i64>) {
        let seen = table.seen;
        if from.is_none() {
            self.read_all_at = seen.asked_at;
        }
        self.seen = Some(seen);
        let mut added = Vec::new();
        for revoked in table.rows {
            if self.live.insert(revoked.what.clone(), revoked.forget_at).is_none() {
                added.push(revoked.what);
            }
        }
        self.live.retain(|_, forget_at| forget_at.is_none_or(|at| at > seen.now));
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

    /// Whether a snapshot holds all there is, and is not much behind.
    pub fn is_current(&self, snapshot: &Draft) -> bool {
        snapshot.additions == self.additions
            && self.as_of.is_some_and(|as_of| as_of - snapshot.as_of < SNAPSHOT_LIFE_MS)
    }

    /// Whether there is something that subscribers have not heard of.
    pub fn has_news(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// What the last read saw.
    pub fn seen(&self) -> Option<Confirmation> {
        self.seen
    }

    /// Unix milliseconds before which everything committed has been read.
    pub fn as_of(&self) -> Option<i64> {
        self.as_of
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
