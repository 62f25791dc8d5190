//! Every check of an access token, as a pure function of token, keys and time.

use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::core::base64url::Scratch;
use crate::core::claims::AccessClaims;
use crate::core::error::{Reason, VerifyError};
use crate::core::header::Header;
use crate::core::jwk::Kid;
use crate::core::key_set::{KeySet, VerifyingKey};
use crate::core::revocation::Revocations;
use crate::core::time::{Seconds, UnixTime};
use crate::core::token::{self, Parts};
use crate::core::token_cache::{self, Entry};
use crate::core::verified::Verified;

const DEFAULT_LEEWAY: Seconds = Seconds(30);
const MAX_LEEWAY: Seconds = Seconds(120);
const DEFAULT_MAX_TOKEN_LIFE: Seconds = Seconds(3600);

/// The requirements on a token: issuer, audiences, leeway and lifetime.
///
/// ```
/// use verifier::{Expected, KeySet, NoExtra, Reason, UnixTime, VerifyError};
///
/// let expected = Expected::new("https://auth.example.com", ["orders-api"]);
/// let refused = expected.verify::<NoExtra>("not a token", &KeySet::default(), UnixTime(1_700_000_000));
/// assert_eq!(refused.unwrap_err(), VerifyError::Invalid(Reason::NotJws));
/// ```
#[derive(Clone, Debug)]
pub struct Expected {
    issuer: String,
    audiences: Vec<String>,
    leeway: Seconds,
    max_token_life: Seconds,
    accepts_expired: bool,
    accepts_any_audience: bool,
}

impl Expected {
    /// Requires tokens of `issuer`, compared as an exact string, for at least one of `audiences`. Without
    /// audiences no token is accepted.
    pub fn new(issuer: impl Into<String>, audiences: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            issuer: issuer.into(),
            audiences: audiences.into_iter().map(Into::into).collect(),
            leeway: DEFAULT_LEEWAY,
            max_token_life: DEFAULT_MAX_TOKEN_LIFE,
            accepts_expired: false,
            accepts_any_audience: false,
        }
    }

    /// Tolerates this difference between the clocks of issuer and verifier: 30 s by default, at most 120 s.
    #[must_use]
    pub fn with_leeway(self, leeway: Seconds) -> Self {
        Self { leeway: leeway.clamp(Seconds(0), MAX_LEEWAY), ..self }
    }

    /// Refuses tokens whose lifetime (`exp` − `iat`) exceeds this: 1 h by default.
    ///
    /// It must be at least the longest lifetime of the issuer's access tokens (1 h for `auth-service`),
    /// otherwise those are refused with [`Reason::LivesTooLong`]. Unless it is raised here, 1 h is a hard
    /// ceiling, whatever the issuer signs.
    #[must_use]
    pub fn with_max_token_life(self, max_token_life: Seconds) -> Self {
        Self { max_token_life, ..self }
    }

    /// Accepts expired tokens. For logging out with an old token, never for granting access.
    #[must_use]
    pub fn danger_accept_expired(self) -> Self {
        Self { accepts_expired: true, ..self }
    }

    /// Accepts tokens for any audience. For logging out of a session whose audience is no longer known, never
    /// for granting access.
    #[must_use]
    pub fn danger_accept_any_audience(self) -> Self {
        Self { accepts_any_audience: true, ..self }
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Checks `token` with `keys` at `now`. Revocations are not checked here; a [`Verifier`](crate::Verifier)
    /// knows them.
    ///
    /// The order is fixed: size and shape, header, key by `kid` and algorithm, signature, types and presence
    /// of claims, issuer, audience, times, and last the custom claims `C`. Claims are not parsed before the
    /// signature was verified.
    ///
    /// # Errors
    /// Always [`VerifyError::Invalid`], with the [`Reason`] of the first check that failed.
    pub fn verify<C: DeserializeOwned>(
        &self,
        token: &str,
        keys: &KeySet,
        now: UnixTime,
    ) -> Result<Verified<C>, VerifyError> {
        self.check(token, keys, &Revocations::default(), now)
    }

    /// As [`verify`](Self::verify), and checks revocations after the times and before the custom claims.
    pub(crate) fn check<C: DeserializeOwned>(
        &self,
        token: &str,
        keys: &KeySet,
        revoked: &Revocations,
        now: UnixTime,
    ) -> Result<Verified<C>, VerifyError> {
        // Large enough for the tokens of `auth-service`; longer parts go to the heap.
        let (mut claims_room, mut signature_room) = (Scratch::<1024>::new(), Scratch::<512>::new());
        let parts = token::split(token)?;
        let claims = claims_room.decode(parts.claims).ok_or(Reason::NotJws)?;
        let signature = signature_room.decode(parts.signature).ok_or(Reason::NotJws)?;

        let key = find_key(&parts, keys)?;
        if !key.has_signed(parts.signed.as_bytes(), signature) {
            return Err(Reason::BadSignature.into());
        }

        // RFC 8725 §3.7: UTF-8 only.
        let json = std::str::from_utf8(claims).map_err(|_| Reason::BadClaims)?;
        let registered = AccessClaims::parse(json)?;
        self.check_parties(&registered)?;
        self.check_standing(&registered, key.kid(), revoked, now)?;
        let custom = read_custom(json)?;
        Ok(Verified::new(Arc::new(registered), key.kid().clone(), custom))
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn audiences(&self) -> &[String] {
        &self.audiences
    }

    pub(crate) fn leeway(&self) -> Seconds {
        self.leeway
    }

    /// As [`check`](Self::check), for a token that passed it before and whose key is still in the key set.
    pub(crate) fn check_known<C: DeserializeOwned>(
        &self,
        known: &Entry,
        revoked: &Revocations,
        now: UnixTime,
    ) -> Result<Verified<C>, VerifyError> {
        self.check_standing(&known.registered, &known.kid, revoked, now)?;
        let custom = token_cache::without_input().map_or_else(
            || {
                let mut room = Scratch::<1024>::new();
                let json = room.decode(known.claims()).and_then(|claims| std::str::from_utf8(claims).ok());
                read_custom(json.ok_or(Reason::BadClaims)?)
            },
            Ok,
        )?;
        Ok(Verified::new(Arc::clone(&known.registered), known.kid.clone(), custom))
    }

    /// Checks what can change during the lifetime of a token: times and revocations.
    pub(crate) fn check_standing(
        &self,
        claims: &AccessClaims,
        kid: &Kid,
        revoked: &Revocations,
        now: UnixTime,
    ) -> Result<(), Reason> {
        self.check_times(claims, now)?;
        revoked.check(kid, claims.sid.as_deref())
    }

    /// The second from which the token is no longer accepted.
    pub(crate) fn ends_at(&self, claims: &AccessClaims) -> UnixTime {
        claims.exp + self.leeway
    }

    pub(crate) fn check_parties(&self, claims: &AccessClaims) -> Result<(), Reason> {
        if claims.iss != self.issuer {
            return Err(Reason::WrongIssuer);
        }
        let is_for_us = claims.aud.iter().any(|audience| self.audiences.contains(audience));
        if !is_for_us && !self.accepts_any_audience {
            return Err(Reason::WrongAudience);
        }
        Ok(())
    }

    /// A token is valid in `[nbf, exp)`, extended by the leeway on both sides, and not before `iat`.
    fn check_times(&self, claims: &AccessClaims, now: UnixTime) -> Result<(), Reason> {
        let &AccessClaims { exp, iat, nbf, .. } = claims;
        let (limit, latest_start) = (self.max_token_life, now + self.leeway);
        if now >= self.ends_at(claims) && !self.accepts_expired {
            return Err(Reason::Expired { exp, now });
        }
        if nbf > latest_start {
            return Err(Reason::NotYetValid { nbf, now });
        }
        if iat > latest_start {
            return Err(Reason::IssuedInFuture { iat, now });
        }
        if exp - iat > limit {
            return Err(Reason::LivesTooLong { life: exp - iat, limit });
        }
        Ok(())
    }
}

fn read_custom<C: DeserializeOwned>(json: &str) -> Result<C, Reason> {
    C::deserialize(&mut serde_json::Deserializer::from_str(json)).map_err(|_| Reason::CustomClaims)
}

/// The key with the `kid` of the token, if it is for its `alg` (RFC 8725 §3.1).
fn find_key<'k>(parts: &Parts<'_>, keys: &'k KeySet) -> Result<&'k VerifyingKey, Reason> {
    if let Some(key) = keys.find_by_header(parts.header) {
        return Ok(key);
    }
    let mut room = Scratch::<512>::new();
    let json = room.decode(parts.header).ok_or(Reason::NotJws)?;
    let header = Header::parse(json)?;
    let key = keys.find(&header.kid).ok_or(Reason::UnknownKey)?;
    if key.algorithm() == header.algorithm { Ok(key) } else { Err(Reason::WrongAlgorithm) }
}
