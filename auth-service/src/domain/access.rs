//! The claims of an access token (RFC 9068 §2.2; docs/protocols.md, "Access token").

use serde::Serialize;
use serde_json::{Map, Value};
use verifier::{Seconds, UnixTime};

use super::key::KeySchedule;
use super::user::PermissionSet;

/// `client_id` of tokens from the service's own login endpoint.
pub const FIRST_PARTY: &str = "first-party";

/// The claims of an access token. Serialises to their form on the wire.
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the names are those of the claims, see docs/protocols.md, \"Access token\"")]
pub struct AccessClaims<'a> {
    pub iss: &'a str,
    pub sub: String,
    pub aud: &'a str,
    pub exp: UnixTime,
    pub iat: UnixTime,
    pub nbf: UnixTime,
    pub jti: String,
    pub sid: String,
    pub client_id: &'a str,
    pub scope: &'a str,
    pub roles: &'a [String],
    pub auth_time: UnixTime,
    pub amr: Vec<&'a str>,
    #[serde(flatten)]
    pub extra: &'a Map<String, Value>,
}

/// The permissions of a token: all permissions of the user, or only those requested at login.
pub fn granted(held: &PermissionSet, asked_for: Option<&PermissionSet>) -> PermissionSet {
    asked_for.map_or_else(|| held.clone(), |asked_for| held.intersection(asked_for))
}

/// The expiry of a token issued at `iat`: after `ttl`, but always before verifiers forget its key. The key's
/// end leaves room for every `ttl` (rule K2), unless the previous release announced it.
///
/// `margin` is the leeway plus twice the clock bound.
pub fn expiry(iat: UnixTime, ttl: Seconds, key: &KeySchedule, margin: Seconds) -> UnixTime {
    let exp = iat + ttl;
    key.end.map_or(exp, |end| exp.min(end.expires_at - margin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::key::KeyEnd;

    #[test]
    fn no_token_outlives_its_key() {
        let (iat, ttl, margin) = (UnixTime(1_000), Seconds(300), Seconds(40));
        let ends = |expires_at: Option<i64>| {
            let end = expires_at.map(|at| KeyEnd { retires_at: iat, expires_at: UnixTime(at) });
            (expiry(iat, ttl, &KeySchedule { activates_at: iat, end }, margin) - iat).0
        };
        assert_eq!((ends(None), ends(Some(1_340)), ends(Some(1_339))), (300, 300, 299));
    }
}
