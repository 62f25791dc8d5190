//! The header of an access token. It is parsed strictly, before anything else of the token is used.

use std::borrow::Cow;

use serde::de::MapAccess;

use crate::core::error::Reason;
use crate::core::json::{self, Member, Object, Text};
use crate::core::jwk::Algorithm;

/// The longest accepted `kid`, in bytes.
pub(crate) const MAX_KID: usize = 256;

/// The algorithm and key that a token names. The algorithm is only compared with that of the key.
///
/// `jwk`, `jku`, `x5u` and `x5c` are ignored like any unknown member: keys come only from the configured
/// issuer (RFC 8725 §3.10).
#[derive(Debug)]
pub(crate) struct Header<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Cow<'a, str>,
}

impl<'a> Header<'a> {
    /// The header of an access token (RFC 9068 §4).
    pub(crate) fn parse(json: &'a [u8]) -> Result<Self, Reason> {
        Self::parse_as("at+jwt", json)
    }

    /// The header of a JWS whose `typ` is this media type, with or without `application/`.
    pub(crate) fn parse_as(typ: &str, json: &'a [u8]) -> Result<Self, Reason> {
        let json = std::str::from_utf8(json).map_err(|_| Reason::BadHeader)?;
        json::parse::<FoundHeader<'_>>(json)?.check(typ)
    }
}

#[derive(Default)]
struct FoundHeader<'a> {
    alg: Option<Text<'a>>,
    kid: Option<Text<'a>>,
    typ: Option<Text<'a>>,
    is_critical: bool,
}

impl<'a> FoundHeader<'a> {
    fn check(self, expected: &str) -> Result<Header<'a>, Reason> {
        if self.is_critical {
            return Err(Reason::CriticalHeader);
        }
        // Media types are case-insensitive; `application/` may be left out (RFC 7515 §4.1.9).
        let is_expected = |typ: &str| match typ.split_once('/') {
            Some((tree, name)) => {
                tree.eq_ignore_ascii_case("application") && name.eq_ignore_ascii_case(expected)
            }
            None => typ.eq_ignore_ascii_case(expected),
        };
        if !self.typ.is_some_and(|typ| is_expected(&typ.0)) {
            return Err(Reason::WrongType);
        }
        let algorithm =
            self.alg.and_then(|alg| Algorithm::from_wire(&alg.0)).ok_or(Reason::UnsupportedAlgorithm)?;
        let kid = self.kid.ok_or(Reason::MissingKid)?.0;
        if kid.is_empty() || kid.len() > MAX_KID {
            return Err(Reason::BadHeader);
        }
        Ok(Header { algorithm, kid })
    }
}

impl<'de> Object<'de> for FoundHeader<'de> {
    const WHAT: &'static str = "a JOSE header";
    const MALFORMED: Reason = Reason::BadHeader;

    fn take<A: MapAccess<'de>>(&mut self, member: Member<'_, 'de, A>) -> Result<(), A::Error> {
        match member.name() {
            "alg" => member.read_into(&mut self.alg, Reason::BadHeader),
            "kid" => member.read_into(&mut self.kid, Reason::BadHeader),
            "typ" => member.read_into(&mut self.typ, Reason::BadHeader),
            // `b64` must not be used without `crit` (RFC 7797 §6) nor in a JWT at all if false (§7).
            "crit" | "b64" => {
                self.is_critical = true;
                member.skip()
            }
            _ => member.skip(),
        }
    }
}
