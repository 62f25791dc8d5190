//! The claims of an access token.

use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::core::error::Reason;
use crate::core::json::{self, Member, Object};
use crate::core::time::UnixTime;

/// The claims of RFC 9068 §2.2, with `sid`. Read other claims with a type of your own.
///
/// Parsing is strict: a claim of the wrong type is an error and never counts as absent, and so is a duplicate
/// claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessClaims {
    /// The issuer, a URL.
    pub iss: String,
    /// The subject: the id of a user or client.
    pub sub: String,
    /// The audiences: the resource servers that may accept the token. One string or an array on the wire.
    #[serde(serialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When the token expires; it is invalid from this second on.
    pub exp: UnixTime,
    /// When the token was issued.
    pub iat: UnixTime,
    /// When the token becomes valid; `iat` if the token has no `nbf`.
    pub nbf: UnixTime,
    /// The id of the token.
    pub jti: String,
    /// The session of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The application that acts for the subject.
    pub client_id: String,
    /// The granted permissions, separated by spaces; empty if the token has no `scope`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The roles of the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When the user last authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<UnixTime>,
    /// How the user was authenticated (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

/// No custom claims. Deserializing it reads nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoExtra;

impl<'de> Deserialize<'de> for NoExtra {
    /// Does not read the input: the claims were parsed before, to their end.
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

impl AccessClaims {
    /// Parses the claims, or returns the first fault in them.
    pub(crate) fn parse(json: &str) -> Result<Self, Reason> {
        json::parse::<FoundClaims>(json)?.complete()
    }
}

impl<'de> Deserialize<'de> for AccessClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        json::deserialize::<FoundClaims, D>(deserializer)?.complete().map_err(D::Error::custom)
    }
}

fn one_or_many<S: Serializer>(audiences: &Vec<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match audiences.as_slice() {
        [one] => serializer.serialize_str(one),
        many => many.serialize(serializer),
    }
}

#[derive(Default)]
struct FoundClaims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audiences>,
    exp: Option<NumericDate>,
    iat: Option<NumericDate>,
    nbf: Option<NumericDate>,
    jti: Option<String>,
    sid: Option<String>,
    client_id: Option<String>,
    scope: Option<String>,
    roles: Option<Vec<String>>,
    auth_time: Option<NumericDate>,
    amr: Option<Vec<String>>,
}

impl<'de> Object<'de> for FoundClaims {
    const WHAT: &'static str = "the claims of an access token";
    const MALFORMED: Reason = Reason::BadClaims;

    fn take<A: MapAccess<'de>>(&mut self, member: Member<'_, 'de, A>) -> Result<(), A::Error> {
        match member.name() {
            "iss" => member.read_into(&mut self.iss, Reason::BadClaim("iss")),
            "sub" => member.read_into(&mut self.sub, Reason::BadClaim("sub")),
            "aud" => member.read_into(&mut self.aud, Reason::BadClaim("aud")),
            "exp" => member.read_into(&mut self.exp, Reason::BadClaim("exp")),
            "iat" => member.read_into(&mut self.iat, Reason::BadClaim("iat")),
            "nbf" => member.read_into(&mut self.nbf, Reason::BadClaim("nbf")),
            "jti" => member.read_into(&mut self.jti, Reason::BadClaim("jti")),
            "sid" => member.read_into(&mut self.sid, Reason::BadClaim("sid")),
            "client_id" => member.read_into(&mut self.client_id, Reason::BadClaim("client_id")),
            "scope" => member.read_into(&mut self.scope, Reason::BadClaim("scope")),
            "roles" => member.read_into(&mut self.roles, Reason::BadClaim("roles")),
            "auth_time" => member.read_into(&mut self.auth_time, Reason::BadClaim("auth_time")),
            "amr" => member.read_into(&mut self.amr, Reason::BadClaim("amr")),
            _ => member.skip(),
        }
    }
}

impl FoundClaims {
    /// Checks that the claims required by RFC 9068 §2.2 are present and not empty.
    fn complete(self) -> Result<AccessClaims, Reason> {
        fn text(name: &'static str, found: Option<String>) -> Result<String, Reason> {
            found.filter(|text| !text.is_empty()).ok_or(Reason::MissingClaim(name))
        }
        fn date(name: &'static str, found: Option<NumericDate>) -> Result<UnixTime, Reason> {
            found.map(|date| date.0).ok_or(Reason::MissingClaim(name))
        }
        let iat = date("iat", self.iat)?;
        Ok(AccessClaims {
            iss: text("iss", self.iss)?,
            sub: text("sub", self.sub)?,
            aud: self.aud.ok_or(Reason::MissingClaim("aud"))?.0,
            exp: date("exp", self.exp)?,
            iat,
            nbf: self.nbf.map_or(iat, |date| date.0),
            jti: text("jti", self.jti)?,
            sid: self.sid,
            client_id: text("client_id", self.client_id)?,
            scope: self.scope.unwrap_or_default(),
            roles: self.roles.unwrap_or_default(),
            auth_time: self.auth_time.map(|date| date.0),
            amr: self.amr.unwrap_or_default(),
        })
    }
}

/// Seconds, possibly with a fraction (RFC 7519 §2), rounded up. Rounding does not change `t < exp` or `nbf <=
/// t` for a whole second t.
pub(crate) struct NumericDate(pub(crate) UnixTime);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// From here on a double cannot represent every second.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        // `Number`, unlike i64, does not depend on the features of serde_json in the build.
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = number.as_i64().or_else(|| {
            let up = number.as_f64()?.ceil();
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a whole number within the range checked before it"
            )]
            (up.abs() < EXACT).then_some(up as i64)
        });
        whole.map(|whole| Self(UnixTime(whole))).ok_or_else(|| D::Error::custom("seconds out of range"))
    }
}

struct Audiences(Vec<String>);

impl<'de> Deserialize<'de> for Audiences {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Audiences;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: Error>(self, one: &str) -> Result<Audiences, E> {
                Ok(Audiences(vec![one.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Audiences, A::Error> {
                let mut many = Vec::new();
                while let Some(one) = seq.next_element()? {
                    many.push(one);
                }
                Ok(Audiences(many))
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}
