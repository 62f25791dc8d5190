//! The schedules of the signing keys in the admin API.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::{Answer, Client};
use crate::wait;

/// One signing key and the seconds at which its phases begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// Its key id.
    pub kid: String,
    /// Its algorithm.
    pub alg: String,
    /// Its place in the chain of its algorithm.
    pub generation: i64,
    /// When it starts to sign.
    pub activates_at: i64,
    /// When it stops signing; `None` while it has no successor.
    pub retires_at: Option<i64>,
}

/// The keys in a response to `GET /admin/v1/keys`, in the order of their chains.
pub fn listed(answer: &Answer) -> Vec<Key> {
    let body = answer.json();
    let keys = body["keys"].as_array().unwrap_or_else(|| panic!("no keys in {answer}"));
    let mut keys: Vec<Key> = keys.iter().map(read).collect();
    keys.sort_by(|a, b| (&a.alg, a.generation).cmp(&(&b.alg, b.generation)));
    keys
}

/// All keys from all pages of the admin API.
pub async fn all(admin: &Client) -> Vec<Key> {
    let (mut keys, mut path) = (Vec::new(), "/admin/v1/keys?limit=200".to_owned());
    loop {
        let answer = wait::until("the keys are listed", Duration::from_secs(10), async || {
            let answer = admin.get(&path).await.ok()?;
            (!answer.status.is_server_error()).then_some(answer)
        })
        .await;
        keys.extend(listed(&answer));
        let Some(next) = answer.json()["next"].as_str().map(str::to_owned) else { break };
        path = format!("/admin/v1/keys?limit=200&after={}", next.replace(' ', "%20"));
    }
    keys.sort_by(|a, b| (&a.alg, a.generation).cmp(&(&b.alg, b.generation)));
    keys
}

/// The faults of a chain: seconds with two signers or none.
///
/// Keys of one algorithm must be continuous in number and time, and only the last one may have no end.
pub fn chain_faults(keys: &[Key]) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in keys.windows(2) {
        let [this, next] = pair else { continue };
        if this.alg != next.alg {
            continue;
        }
        if next.generation != this.generation + 1 {
            faults.push(format!("generation {} is followed by {}", this.generation, next.generation));
        }
        if this.retires_at != Some(next.activates_at) {
            faults.push(format!("{this:?} does not hand over to {next:?}"));
        }
    }
    let last_of_chain = keys
        .iter()
        .enumerate()
        .filter(|(place, key)| keys.get(place + 1).is_none_or(|next| next.alg != key.alg));
    faults.extend(
        last_of_chain
            .filter(|(_, key)| key.retires_at.is_some())
            .map(|(_, key)| format!("nobody follows {key:?}")),
    );
    faults
}

fn read(key: &Value) -> Key {
    let text = |field: &str| key[field].as_str().unwrap_or_else(|| panic!("{field} in {key}")).to_owned();
    Key {
        kid: text("kid"),
        alg: text("alg"),
        generation: key["generation"].as_i64().unwrap_or_else(|| panic!("generation in {key}")),
        activates_at: seconds(&text("activates_at")),
        retires_at: key["retires_at"].as_str().map(seconds),
    }
}

/// Seconds since the epoch of `2026-01-31T23:59:59Z`.
fn seconds(text: &str) -> i64 {
    let number = |from: usize, to: usize| -> i64 {
        text.get(from..to)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or_else(|| panic!("RFC 3339: {text}"))
    };
    assert!(text.ends_with('Z'), "UTC: {text}");
    // Years begin in March here, so that the leap day is the last one.
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + number(11, 13) * 3_600 + number(14, 16) * 60 + number(17, 19)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(generation: i64, activates_at: i64, retires_at: Option<i64>) -> Key {
        Key { kid: format!("k{generation}"), alg: "ES256".into(), generation, activates_at, retires_at }
    }

    #[test]
    fn times_are_parsed_to_the_second() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), 0);
        assert_eq!(seconds("2000-02-29T12:00:01Z"), 951_825_601);
        assert_eq!(seconds("2026-03-01T00:00:00Z"), 1_772_323_200);
    }

    #[test]
    fn continuous_chain_has_no_fault() {
        assert_eq!(chain_faults(&[key(1, 0, Some(10)), key(2, 10, Some(20)), key(3, 20, None)]), [""; 0]);
    }

    #[test]
    fn gaps_overlaps_and_ends_are_faults() {
        assert_eq!(chain_faults(&[key(1, 0, Some(10)), key(2, 11, None)]).len(), 1);
        assert_eq!(chain_faults(&[key(1, 0, Some(10)), key(2, 9, None)]).len(), 1);
        assert_eq!(chain_faults(&[key(1, 0, Some(10)), key(3, 10, None)]).len(), 1);
        assert_eq!(chain_faults(&[key(1, 0, None), key(2, 10, None)]).len(), 1);
        assert_eq!(chain_faults(&[key(1, 0, Some(10))]).len(), 1);
    }
}
