//! What was issued, published and verified, and what must be true of it afterwards.
//!
//! Tests write down what they saw while it happens and ask the checkers at the end. A checker returns one line for
//! each violation, so that a failure shows all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;

use crate::client::Tokens;
use crate::clock;
use crate::jwt::Peek;
use crate::keys::Key;

/// An append-only record, shared by the tasks of one test.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    issued: Vec<Issued>,
    published: Vec<Published>,
    refused: Vec<Refused>,
    verified: usize,
    failed: Vec<String>,
}

#[derive(Debug)]
struct Issued {
    presented: Option<String>,
    refresh: String,
    access: Peek,
    at: Duration,
}

#[derive(Debug)]
struct Published {
    replica: usize,
    /// Names and public keys.
    keys: BTreeMap<String, String>,
    at: Duration,
}

#[derive(Debug)]
struct Refused {
    token: Peek,
    reason: String,
    at: Duration,
}

impl Ledger {
    /// `tokens` came as the answer to a login, or to a refresh that showed `presented`.
    pub fn issued(&self, presented: Option<&str>, tokens: &Tokens) -> Peek {
        let access = Peek::into(&tokens.access);
        self.lock().issued.push(Issued {
            presented: presented.map(str::to_owned),
            refresh: tokens.refresh.clone(),
            access: access.clone(),
            at: clock::since_epoch(),
        });
        access
    }

    /// Replica number `replica` published this JWKS. A member that belongs to a private key is a failure.
    pub fn published(&self, replica: usize, jwks: &Value) {
        let keys = jwks["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
        if keys.iter().any(|key| private.iter().any(|member| key.get(member).is_some())) {
            self.failed(format!("replica {replica} published a private member"));
        }
        let keys =
            keys.iter().map(|key| (key["kid"].as_str().unwrap_or_default().to_owned(), key.to_string()));
        let published = Published { replica, keys: keys.collect(), at: clock::since_epoch() };
        self.lock().published.push(published);
    }

    /// A resource server took a token.
    pub fn accepted(&self) {
        self.lock().verified += 1;
    }

    /// A resource server refused a token, or could not tell.
    pub fn refused(&self, token: &Peek, reason: impl Into<String>) {
        let refused = Refused { token: token.clone(), reason: reason.into(), at: clock::since_epoch() };
        self.lock().refused.push(refused);
    }

    /// Something that must always work did not.
    pub fn failed(&self, what: impl Into<String>) {
        self.lock().failed.push(what.into());
    }

    /// How many tokens were taken.
    pub fn accepted_count(&self) -> usize {
        self.lock().verified
    }

    /// How many tokens were issued.
    pub fn issued_count(&self) -> usize {
        self.lock().issued.len()
    }

    /// The names of all keys that signed something.
    pub fn kids(&self) -> BTreeSet<String> {
        self.lock().issued.iter().map(|issued| issued.access.kid.clone()).collect()
    }

    /// Everything reported by [`Ledger::failed`].
    pub fn failures(&self) -> Vec<String> {
        self.lock().failed.clone()
    }

    /// Tokens that were refused more than `margin` before their end.
    pub fn false_refusals(&self, margin: Duration) -> Vec<String> {
        let entries = self.lock();
        let early = entries.refused.iter().filter(|refused| refused.at + margin < at(refused.token.exp));
        early.map(|Refused { token, reason, at }| format!("{reason} at {at:?}: {token:?}")).collect()
    }

    /// Refresh tokens that were answered with more than one successor.
    ///
    /// Only for tests in which no retry comes later than the grace: a later one recovers with a new successor.
    pub fn forks(&self) -> Vec<String> {
        let entries = self.lock();
        let mut successors: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for issued in &entries.issued {
            if let Some(presented) = &issued.presented {
                successors.entry(presented).or_default().insert(&issued.refresh);
            }
        }
        let forks = successors.into_iter().filter(|(_, successors)| successors.len() > 1);
        forks.map(|(presented, successors)| format!("{presented} has successors {successors:?}")).collect()
    }

    /// Keys that signed less than `lead` after some replica began to publish them, but for `first`, the key that
    /// found an empty table and may sign at once.
    ///
    /// A replica that was never seen to publish a key did so too late, too.
    pub fn late_publications(&self, replicas: usize, lead: Duration, first: &str) -> Vec<String> {
        let entries = self.lock();
        let mut faults = Vec::new();
        for (kid, signed) in first_times(&entries.issued) {
            if kid == first {
                continue;
            }
            for replica in 0..replicas {
                let seen = entries.published.iter().filter(|published| published.replica == replica);
                let seen = seen
                    .filter(|published| published.keys.contains_key(kid))
                    .map(|published| published.at)
                    .min();
                if seen.is_none_or(|seen| seen + lead > signed) {
                    faults.push(format!(
                        "{kid} signed at {signed:?}, replica {replica} published it at {seen:?}"
                    ));
                }
            }
        }
        faults
    }

    /// Names under which more than one public key was published.
    pub fn changed_keys(&self) -> Vec<String> {
        let entries = self.lock();
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (kid, key) in entries.published.iter().flat_map(|published| &published.keys) {
            keys.entry(kid).or_default().insert(key);
        }
        let changed = keys.into_iter().filter(|(_, keys)| keys.len() > 1);
        changed.map(|(kid, keys)| format!("{kid} named {keys:?}")).collect()
    }

    /// Tokens signed by a key outside the time in which it may sign.
    ///
    /// `retry` is the time for which a replica may answer a retry with the old `iat` and a newer key.
    pub fn signed_out_of_turn(&self, keys: &[Key], retry: i64) -> Vec<String> {
        let entries = self.lock();
        let wrong = entries.issued.iter().filter(|issued| {
            let key = keys.iter().find(|key| key.kid == issued.access.kid);
            key.is_none_or(|key| {
                let early = issued.access.iat + retry < key.activates_at;
                early || key.retires_at.is_some_and(|retires_at| issued.access.iat >= retires_at)
            })
        });
        wrong.map(|issued| format!("signed out of turn: {:?} at {:?}", issued.access, issued.at)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("nobody panics with this lock")
    }
}

/// When each key signed for the first time: the earlier of what the token says and of when it arrived.
fn first_times(issued: &[Issued]) -> BTreeMap<&str, Duration> {
    let mut times = BTreeMap::new();
    for issued in issued {
        // `iat` has lost its fraction: the token may be up to a second younger than it says.
        let signed = issued.at.min(at(issued.access.iat + 1));
        let first: &mut Duration = times.entry(issued.access.kid.as_str()).or_insert(signed);
        *first = signed.min(*first);
    }
    times
}

fn at(seconds: i64) -> Duration {
    Duration::from_secs(seconds.try_into().unwrap_or_default())
}

/// Panics with all `violations`, at most 20 of them in full.
#[track_caller]
pub fn none(what: &str, violations: &[String]) {
    let shown = &violations[..violations.len().min(20)];
    assert!(violations.is_empty(), "{what}: {} violations\n{}", violations.len(), shown.join("\n"));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn peek(kid: &str, iat: i64) -> Peek {
        Peek { kid: kid.into(), jti: "j".into(), sid: "s".into(), iat, exp: iat + 60 }
    }

    fn ledger(issued: Vec<(Option<&str>, &str, Peek)>) -> Ledger {
        let ledger = Ledger::default();
        for (presented, refresh, access) in issued {
            let at = at(access.iat + 1);
            let presented = presented.map(str::to_owned);
            ledger.lock().issued.push(Issued { presented, refresh: refresh.into(), access, at });
        }
        ledger
    }

    #[test]
    fn one_token_with_two_successors_is_a_fork() {
        let fork = ledger(vec![(Some("a"), "b", peek("k", 1)), (Some("a"), "c", peek("k", 1))]);
        assert_eq!(fork.forks().len(), 1);
        let retry = ledger(vec![(Some("a"), "b", peek("k", 1)), (Some("a"), "b", peek("k", 1))]);
        assert_eq!(retry.forks().len(), 0);
    }

    #[test]
    fn refusal_before_the_end_is_false_and_after_it_is_not() {
        let ledger = Ledger::default();
        let now = clock::unix_seconds();
        ledger.refused(&peek("k", now), "because");
        ledger.refused(&peek("k", now - 100), "expired");
        assert_eq!(ledger.false_refusals(Duration::from_secs(5)).len(), 1);
    }

    #[test]
    fn key_must_be_published_by_every_replica_long_enough_before_it_signs() {
        let ledger = ledger(vec![(None, "a", peek("first", 100)), (None, "b", peek("second", 109))]);
        for (replica, seconds) in [(0, 100), (1, 103)] {
            let keys = BTreeMap::from([("second".to_owned(), String::new())]);
            ledger.lock().published.push(Published { replica, keys, at: at(seconds) });
        }
        assert_eq!(ledger.late_publications(2, Duration::from_secs(7), "first").len(), 0);
        assert_eq!(ledger.late_publications(2, Duration::from_secs(8), "first").len(), 1);
        assert_eq!(ledger.late_publications(3, Duration::from_secs(7), "first").len(), 1);
        assert_eq!(ledger.late_publications(2, Duration::from_secs(7), "none").len(), 2);
    }

    #[test]
    fn name_for_two_keys_and_a_private_member_are_found() {
        let ledger = Ledger::default();
        ledger.published(0, &json!({ "keys": [{ "kid": "a", "x": "1" }] }));
        ledger.published(1, &json!({ "keys": [{ "kid": "a", "x": "1" }] }));
        assert_eq!((ledger.changed_keys().len(), ledger.failures().len()), (0, 0));
        ledger.published(1, &json!({ "keys": [{ "kid": "a", "x": "2", "d": "3" }] }));
        assert_eq!((ledger.changed_keys().len(), ledger.failures().len()), (1, 1));
    }

    #[test]
    fn retired_and_pending_keys_sign_out_of_turn() {
        let schedule = |kid: &str, activates_at, retires_at| Key {
            kid: kid.into(),
            alg: "ES256".into(),
            generation: 1,
            activates_at,
            retires_at,
        };
        let keys = [schedule("old", 0, Some(10)), schedule("new", 10, None)];
        let good = ledger(vec![(None, "a", peek("old", 9)), (None, "b", peek("new", 10))]);
        assert_eq!(good.signed_out_of_turn(&keys, 0).len(), 0);
        let bad = ledger(vec![
            (None, "a", peek("old", 10)),
            (None, "b", peek("new", 9)),
            (None, "c", peek("?", 9)),
        ]);
        assert_eq!(bad.signed_out_of_turn(&keys, 0).len(), 3);
        assert_eq!(bad.signed_out_of_turn(&keys, 1).len(), 2);
    }
}
