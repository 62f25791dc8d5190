//! The claims of an access token.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::core::error::Reason;
use crate::core::json::{Skipped, Text, UnknownNames};
use crate::core::time::UnixTime;

/// The claims that RFC 9068 §2.2 defines, and ours. Other claims are read with a type of your own.
///
/// Reading is strict: a claim of the wrong type is an error and never counts as absent, and no name may stand
/// twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccessClaims {
    /// The issuer's URL.
    pub iss: String,
    /// Whom the token speaks for: a user or a client.
    pub sub: String,
    /// The resource servers the token is for; one string or an array on the wire.
    #[serde(serialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// When the token ends; at this second it is no longer valid.
    pub exp: UnixTime,
    /// When the token was issued.
    pub iat: UnixTime,
    /// When the token starts; `iat` if the wire has none.
    pub nbf: UnixTime,
    /// The token's own id.
    pub jti: String,
    /// The session the token belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The application that acts.
    pub client_id: String,
    /// The permissions granted, separated by spaces; empty if the wire has none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The roles of the user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// When the user last gave a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<UnixTime>,
    /// How the user was authenticated (RFC 8176).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub amr: Vec<String>,
}

/// No claims beside the registered ones: reads nothing, costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoExtra;

impl<'de> Deserialize<'de> for NoExtra {
    /// Does not touch the input. The claims were read to their end before anyone asks for custom ones.
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

impl AccessClaims {
    /// Reads the claims, telling what is wrong with them.
    pub(crate) fn parse(json: &str) -> Result<Self, Reason> {
        let mut fault = Reason::BadClaims;
        let mut reader = serde_json::Deserializer::from_str(json);
        Members { fault: &mut fault }
            .deserialize(&mut reader)
            .and_then(|claims| reader.end().map(|()| claims))
            .map_err(|_| fault)
    }
}

impl<'de> Deserialize<'de> for AccessClaims {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Members { fault: &mut Reason::BadClaims }.deserialize(deserializer)
    }
}

fn one_or_many<S: Serializer>(audiences: &Vec<String>, serializer: S) -> Result<S::Ok, S::Error> {
    match audiences.as_slice() {
        [one] => serializer.serialize_str(one),
        many => many.serialize(serializer),
    }
}

/// One pass over the claims.
struct Members<'r> {
    /// What to report should reading end in an error here.
    fault: &'r mut Reason,
}

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = AccessClaims;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AccessClaims, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl Members<'_> {
    fn read<'de, A, T>(
        &mut self,
        name: &'static str,
        slot: &mut Option<T>,
        map: &mut A,
    ) -> Result<(), A::Error>
    where
        A: MapAccess<'de>,
        T: Deserialize<'de>,
    {
        if slot.is_some() {
            return Err(self.fail(Reason::DuplicateName));
        }
        *self.fault = Reason::BadClaim(name);
        *slot = Some(map.next_value()?);
        *self.fault = Reason::BadClaims;
        Ok(())
    }

    fn fail<E: Error>(&mut self, reason: Reason) -> E {
        let error = E::custom(&reason);
        *self.fault = reason;
        error
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = AccessClaims;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the claims of an access token")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<AccessClaims, A::Error> {
        let mut found = Found::default();
        let mut unknown = UnknownNames::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            match &*name.0 {
                "iss" => self.read("iss", &mut found.iss, &mut map)?,
                "sub" => self.read("sub", &mut found.sub, &mut map)?,
                "aud" => self.read("aud", &mut found.aud, &mut map)?,
                "exp" => self.read("exp", &mut found.exp, &mut map)?,
                "iat" => self.read("iat", &mut found.iat, &mut map)?,
                "nbf" => self.read("nbf", &mut found.nbf, &mut map)?,
                "jti" => self.read("jti", &mut found.jti, &mut map)?,
                "sid" => self.read("sid", &mut found.sid, &mut map)?,
                "client_id" => self.read("client_id", &mut found.client_id, &mut map)?,
                "scope" => self.read("scope", &mut found.scope, &mut map)?,
                "roles" => self.read("roles", &mut found.roles, &mut map)?,
                "auth_time" => self.read("auth_time", &mut found.auth_time, &mut map)?,
                "amr" => self.read("amr", &mut found.amr, &mut map)?,
                _ => {
                    map.next_value::<Skipped>()?;
                    if !unknown.insert(name) {
                        return Err(self.fail(Reason::DuplicateName));
                    }
                }
            }
        }
        found.complete().map_err(|reason| self.fail(reason))
    }
}

#[derive(Default)]
struct Found {
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

impl Found {
    /// Holds the claims to RFC 9068 §2.2. A name that is there and empty names nobody.
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

/// Seconds, maybe with a fraction (RFC 7519 §2), rounded up. For a whole second t, both `t < exp` and `nbf <=
/// t` are then the same question as before rounding.
pub(crate) struct NumericDate(pub(crate) UnixTime);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Beyond this a double no longer tells seconds apart.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        // `Number`, unlike i64, reads the same whichever features of serde_json the rest of the build has
        // switched on.
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
