//! The header of an access token, read strictly before anything else is believed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use crate::core::error::Reason;
use crate::core::json::{Skipped, Text, UnknownNames};
use crate::core::jwk::Algorithm;

/// The longest `kid` that is looked up, in bytes.
pub(crate) const MAX_KID: usize = 256;

/// What an access token says about its own signature; believed only as far as the key it names agrees.
///
/// `jwk`, `jku`, `x5u` and `x5c` are names like any unknown one: keys come from the configured issuer alone
/// (RFC 8725 §3.10).
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

    /// The header of a JWS whose `typ` is this media type, with or without its `application/`.
    pub(crate) fn parse_as(typ: &str, json: &'a [u8]) -> Result<Self, Reason> {
        let json = std::str::from_utf8(json).map_err(|_| Reason::BadHeader)?;
        let mut fault = Reason::BadHeader;
        let mut reader = serde_json::Deserializer::from_str(json);
        let found = Members { fault: &mut fault }
            .deserialize(&mut reader)
            .and_then(|found| reader.end().map(|()| found))
            .map_err(|_| fault)?;
        found.check(typ)
    }
}

#[derive(Default)]
struct Found<'a> {
    alg: Option<Text<'a>>,
    kid: Option<Text<'a>>,
    typ: Option<Text<'a>>,
    is_critical: bool,
}

impl<'a> Found<'a> {
    fn check(self, expected: &str) -> Result<Header<'a>, Reason> {
        if self.is_critical {
            return Err(Reason::CriticalHeader);
        }
        // Media types are compared without regard to case; `application/` may be left out (RFC 7515 §4.1.9).
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

struct Members<'r> {
    /// What to report should reading end in an error.
    fault: &'r mut Reason,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Found<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Found<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JOSE header")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Found<'de>, A::Error> {
        let mut found = Found::default();
        let mut unknown = UnknownNames::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let is_new = match &*name.0 {
                "alg" => found.alg.replace(map.next_value()?).is_none(),
                "kid" => found.kid.replace(map.next_value()?).is_none(),
                "typ" => found.typ.replace(map.next_value()?).is_none(),
                other => {
                    // `b64` must not be used without `crit` (RFC 7797 §6) nor in a JWT at all if false (§7).
                    found.is_critical |= matches!(other, "crit" | "b64");
                    map.next_value::<Skipped>()?;
                    unknown.insert(name)
                }
            };
            if !is_new {
                *self.fault = Reason::DuplicateName;
                return Err(A::Error::custom("a name stands twice"));
            }
        }
        Ok(found)
    }
}
