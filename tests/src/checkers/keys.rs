//! L6: one signer at a time, published before it signs and until its last token expires, and never with
//! private members.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{Bounds, History, seconds};
use crate::keys::{Key, chain_faults};
use crate::ledger::{Call, Grant};

const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

pub(super) fn faults(history: &History<'_>, bounds: &Bounds) -> Vec<String> {
    let keys: Vec<Key> = history
        .entries
        .iter()
        .filter_map(|entry| match &entry.call {
            Call::Key(key) => Some(key.clone()),
            _ => None,
        })
        .collect();
    let mut faults = chain_faults(&keys);
    faults.extend(out_of_turn(history, bounds, &keys));
    faults.extend(changed(history));
    faults.extend(unpublished(history, bounds, &keys));
    faults
}

/// Tokens that a key signed outside of its signing time. L2 covers stolen keys.
fn out_of_turn(history: &History<'_>, bounds: &Bounds, keys: &[Key]) -> Vec<String> {
    if keys.is_empty() {
        return Vec::new();
    }
    let is_wrong = |grant: &Grant| {
        let Some(key) = keys.iter().find(|key| key.kid == grant.access.kid) else { return true };
        let early = seconds(grant.access.iat) + bounds.retry < seconds(key.activates_at);
        early || key.retires_at.is_some_and(|retires_at| grant.access.iat >= retires_at)
    };
    let grants = history.grants().map(|(_, grant)| grant);
    let signed = grants.filter(|grant| !history.compromised.contains_key(grant.access.kid.as_str()));
    signed
        .filter(|grant| is_wrong(grant))
        .map(|grant| format!("signed out of turn: {:?}", grant.access))
        .collect()
}

/// Key ids with more than one public key, and keys published with a private member.
fn changed(history: &History<'_>) -> Vec<String> {
    let mut published: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (_, _, keys) in key_sets(history) {
        for (kid, key) in keys {
            published.entry(kid).or_default().insert(key);
        }
    }
    let mut faults = Vec::new();
    for (kid, keys) in published {
        if keys.len() > 1 {
            faults.push(format!("{kid} named {keys:?}"));
        }
        let members = keys.into_iter().filter_map(|key| serde_json::from_str::<Value>(key).ok());
        if members.into_iter().any(|key| PRIVATE.iter().any(|member| key.get(member).is_some())) {
            faults.push(format!("{kid} was published with a private member"));
        }
    }
    faults
}

/// Key sets without a key that signs within `bounds.lead`, or without a key that has unexpired tokens.
///
/// Exceptions: the first key of an empty table and the successors of stolen keys may sign immediately.
fn unpublished(history: &History<'_>, bounds: &Bounds, keys: &[Key]) -> Vec<String> {
    let mut spans: BTreeMap<&str, (Duration, Duration)> = BTreeMap::new();
    for (entry, Grant { access, .. }) in history.grants() {
        // `iat` is truncated: the token may be up to a second younger.
        let signed = entry.answered.min(seconds(access.iat + 1));
        let span = spans.entry(&access.kid).or_insert((signed, seconds(access.exp)));
        *span = (span.0.min(signed), span.1.max(seconds(access.exp)));
    }
    let mut faults = Vec::new();
    for key in keys.iter().filter(|key| key.generation > 1) {
        let Some((first_signed, last_end)) = spans.get(key.kid.as_str()) else { continue };
        // A retry returns the `iat` of the first response, which may be older than the key.
        let first_signed = first_signed.max(&seconds(key.activates_at)).to_owned();
        let announced = first_signed.saturating_sub(bounds.lead);
        // A theft changes the schedule from then on.
        let is_hurried = history
            .compromised
            .values()
            .any(|end| end.asked_at + Duration::from_secs(2) >= announced && end.asked_at <= first_signed);
        if is_hurried || history.compromised.contains_key(key.kid.as_str()) {
            continue;
        }
        for (replica, at, set) in key_sets(history) {
            if (announced..*last_end).contains(&at) && !set.contains_key(&key.kid) {
                let kid = &key.kid;
                faults.push(format!(
                    "replica {replica} at {at:?} did not publish {kid}, which signed from {first_signed:?} until {last_end:?}"
                ));
            }
        }
    }
    faults
}

fn key_sets<'h>(
    history: &'h History<'_>,
) -> impl Iterator<Item = (usize, Duration, &'h BTreeMap<String, String>)> {
    history.entries.iter().filter_map(|entry| match &entry.call {
        Call::KeySet { replica, keys } => Some((*replica, entry.sent, keys)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::made_up::*;
    use super::*;
    use crate::ledger::Entry;

    fn key(generation: i64, activates_at: i64, retires_at: Option<i64>) -> Entry {
        let key = Key {
            kid: format!("kid-{generation}"),
            alg: "ES256".into(),
            generation,
            activates_at: 1000 + activates_at,
            retires_at: retires_at.map(|second| 1000 + second),
        };
        ok(99, Call::Key(key))
    }

    fn signed(second: i64, kid: &str) -> Entry {
        ok(second, Call::Login(Some(grant(second, &format!("r{second}"), kid))))
    }

    fn published(second: i64, kids: &[&str]) -> Entry {
        let keys = kids.iter().map(|kid| ((*kid).to_owned(), format!(r#"{{"kid":"{kid}"}}"#))).collect();
        ok(second, Call::KeySet { replica: 0, keys })
    }

    /// Two keys, the second announced 10 s before it signs.
    fn rotation() -> Vec<Entry> {
        vec![
            key(1, 0, Some(20)),
            key(2, 20, None),
            signed(0, "kid-1"),
            published(5, &["kid-1"]),
            published(10, &["kid-1", "kid-2"]),
            signed(19, "kid-1"),
            signed(20, "kid-2"),
            published(21, &["kid-1", "kid-2"]),
        ]
    }

    #[test]
    fn announced_rotation_has_no_violation() {
        assert_eq!(violations(&rotation()), []);
    }

    #[test]
    fn second_signer_is_detected() {
        let mut entries = rotation();
        entries[0] = key(1, 0, Some(21));
        assert_eq!(violations(&entries), [("L6", 1)]);
    }

    #[test]
    fn signatures_by_retired_pending_and_unknown_keys_are_detected() {
        for wrong in [signed(20, "kid-1"), signed(5, "kid-9")] {
            let mut entries = rotation();
            entries.push(wrong);
            assert_eq!(violations(&entries), [("L6", 1)]);
        }
        let mut entries = rotation();
        entries.retain(|entry| !matches!(entry.call, Call::KeySet { .. }));
        entries.push(signed(9, "kid-2"));
        assert_eq!(violations(&entries), [("L6", 1)]);
    }

    #[test]
    fn key_set_without_a_pending_or_retiring_key_is_detected() {
        for second in [14, 15, 25, 39] {
            let mut entries = rotation();
            entries.push(published(second, &["kid-1"]));
            assert_eq!(violations(&entries), [("L6", 1)], "{second}");
        }
        let mut entries = rotation();
        entries.push(published(40, &["kid-2"]));
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn retry_signed_by_a_newer_key_than_its_date_is_accepted() {
        let mut entries = rotation();
        let mut retry = signed(22, "kid-2");
        let Call::Login(Some(grant)) = &mut retry.call else { unreachable!("it is one") };
        grant.access.iat -= 8;
        entries.push(retry);
        entries.insert(4, published(9, &["kid-1"]));
        assert_eq!(violations(&entries), []);
    }

    #[test]
    fn reused_kid_and_private_member_are_detected() {
        for key in [r#"{"kid":"kid-1","x":"2"}"#, r#"{"kid":"kid-1","d":"3"}"#] {
            let mut entries = rotation();
            let keys = BTreeMap::from([("kid-1".to_owned(), key.to_owned())]);
            entries.push(ok(2, Call::KeySet { replica: 0, keys }));
            assert!(!violations(&entries).is_empty(), "{key}");
        }
    }
}
