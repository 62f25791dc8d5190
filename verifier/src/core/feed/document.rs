//! A signed revocation document, checked as strictly as a token.

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess};

use crate::core::base64url;
use crate::core::claims::NumericDate;
use crate::core::error::Reason;
use crate::core::header::{Header, MAX_KID};
use crate::core::json::{self, Member, Object, Text};
use crate::core::jwk::Kid;
use crate::core::key_set::KeySet;
use crate::core::revocation::{Revocations, SessionId};
use crate::core::time::{Seconds, UnixTime};
use crate::core::token;

/// The largest accepted document, in bytes: enough for half a million sessions.
pub(crate) const MAX_DOCUMENT: usize = 16 * 1024 * 1024;

/// How far ahead the issuer's clock may be, in addition to the leeway. Documents are checked right after they
/// are made: with a leeway of zero, an issuer a few milliseconds ahead, or a clock with whole seconds only,
/// would cause every document to be refused.
const TOLERANCE: Seconds = Seconds(2);

/// The requirements on a document.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) issuer: String,
    pub(crate) leeway: Seconds,
}

/// A document that passed every check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Document {
    /// Every revocation before this instant, in Unix milliseconds, is known to the replica that made the
    /// document.
    pub(crate) as_of: i64,
    /// For a delta: it contains only revocations after this instant. `None` for a snapshot, which contains
    /// all.
    pub(crate) since: Option<i64>,
    pub(crate) keep_for: Seconds,
    pub(crate) sessions: Vec<SessionId>,
    pub(crate) keys: Vec<Kid>,
}

impl Rules {
    /// Checks a document at `now_ms`, in Unix milliseconds. The order of checks is that of tokens, except
    /// that a revoked key is refused before its signature is verified.
    pub(crate) fn read(
        &self,
        document: &str,
        keys: &KeySet,
        revoked: &Revocations,
        now_ms: i64,
    ) -> Result<Document, Reason> {
        let parts = token::split_any(document)?;
        let claims = base64url::decode(parts.claims).ok_or(Reason::NotJws)?;
        let signature = base64url::decode(parts.signature).ok_or(Reason::NotJws)?;
        let header = base64url::decode(parts.header).ok_or(Reason::NotJws)?;
        let header = Header::parse_as("revocations+jwt", &header)?;
        if revoked.has_key(&header.kid) {
            return Err(Reason::RevokedKey);
        }
        let key = keys.find(&header.kid).ok_or(Reason::UnknownKey)?;
        if key.algorithm() != header.algorithm {
            return Err(Reason::WrongAlgorithm);
        }
        if !key.has_signed(parts.signed.as_bytes(), &signature) {
            return Err(Reason::BadSignature);
        }
        let claims = std::str::from_utf8(&claims).map_err(|_| Reason::BadClaims)?;
        self.check(json::parse(claims)?, now_ms)
    }

    fn check(&self, found: FoundDocument<'_>, now_ms: i64) -> Result<Document, Reason> {
        let iss = found.iss.ok_or(Reason::MissingClaim("iss"))?.0;
        let iat = found.iat.ok_or(Reason::MissingClaim("iat"))?.0;
        let exp = found.exp.ok_or(Reason::MissingClaim("exp"))?.0;
        let as_of = found.as_of.ok_or(Reason::MissingClaim("as_of"))?.0;
        let keep_for = found.keep_for.ok_or(Reason::MissingClaim("keep_for"))?.0;
        let sids = found.sids.ok_or(Reason::MissingClaim("sids"))?.0;
        let kids = found.kids.ok_or(Reason::MissingClaim("kids"))?;
        let since = found.since.map(|since| since.0);

        if iss != self.issuer {
            return Err(Reason::WrongIssuer);
        }
        let now = UnixTime(now_ms.div_euclid(1000));
        if now >= exp + self.leeway {
            return Err(Reason::Expired { exp, now });
        }
        let ahead = self.leeway + TOLERANCE;
        if iat > now + ahead {
            return Err(Reason::IssuedInFuture { iat, now });
        }
        // An `as_of` in the future would hide that the documents stop.
        if as_of > now_ms.saturating_add((ahead * 1000).0) {
            return Err(Reason::IssuedInFuture { iat: UnixTime(as_of.div_euclid(1000)), now });
        }
        for (name, number) in [("as_of", as_of), ("keep_for", keep_for), ("since", since.unwrap_or(0))] {
            if number < 0 {
                return Err(Reason::BadClaim(name));
            }
        }
        let sessions = sessions(&sids).ok_or(Reason::BadClaim("sids"))?;
        if kids.iter().any(|kid| kid.is_empty() || kid.len() > MAX_KID) {
            return Err(Reason::BadClaim("kids"));
        }
        let keys = kids.into_iter().map(Kid::from).collect();
        Ok(Document { as_of, since, keep_for: Seconds(keep_for), sessions, keys })
    }
}

/// Splits concatenated ids of 16 bytes.
fn sessions(sids: &str) -> Option<Vec<SessionId>> {
    let bytes = base64url::decode(sids)?;
    let (ids, rest) = bytes.as_chunks();
    rest.is_empty().then(|| ids.to_vec())
}

#[derive(Default)]
struct FoundDocument<'a> {
    iss: Option<Text<'a>>,
    iat: Option<NumericDate>,
    exp: Option<NumericDate>,
    as_of: Option<Whole>,
    keep_for: Option<Whole>,
    sids: Option<Text<'a>>,
    kids: Option<Vec<String>>,
    since: Option<Whole>,
}

impl<'de> Object<'de> for FoundDocument<'de> {
    const WHAT: &'static str = "the claims of a revocation document";
    const MALFORMED: Reason = Reason::BadClaims;

    fn take<A: MapAccess<'de>>(&mut self, member: Member<'_, 'de, A>) -> Result<(), A::Error> {
        match member.name() {
            "iss" => member.read_into(&mut self.iss, Reason::BadClaim("iss")),
            "iat" => member.read_into(&mut self.iat, Reason::BadClaim("iat")),
            "exp" => member.read_into(&mut self.exp, Reason::BadClaim("exp")),
            "as_of" => member.read_into(&mut self.as_of, Reason::BadClaim("as_of")),
            "keep_for" => member.read_into(&mut self.keep_for, Reason::BadClaim("keep_for")),
            "sids" => member.read_into(&mut self.sids, Reason::BadClaim("sids")),
            "kids" => member.read_into(&mut self.kids, Reason::BadClaim("kids")),
            "since" => member.read_into(&mut self.since, Reason::BadClaim("since")),
            _ => member.skip(),
        }
    }
}

/// An integer.
struct Whole(i64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        number.as_i64().map(Self).ok_or_else(|| D::Error::custom("not an integer"))
    }
}
