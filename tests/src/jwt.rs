//! Reads the content of a token without verification, for the ledger.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The parts of an access token that the ledger keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peek {
    /// The key that signed it.
    pub kid: String,
    /// Its id.
    pub jti: String,
    /// Its session.
    pub sid: String,
    /// When it was issued, in seconds on the database's clock.
    pub iat: i64,
    /// When it expires.
    pub exp: i64,
}

impl Peek {
    /// A value that distinguishes tokens: a retry returns the same `jti`, but perhaps with a newer key.
    pub fn id(&self) -> String {
        format!("{}/{}", self.jti, self.kid.get(..8).unwrap_or(&self.kid))
    }

    /// Parses `token`; panics if it is not an access token of the service.
    pub fn into(token: &str) -> Self {
        let mut parts = token.split('.').map(decode);
        let (header, claims) = (parts.next().expect("a header"), parts.next().expect("claims"));
        let text = |value: &Value| value.as_str().expect("a string").to_owned();
        let seconds = |value: &Value| value.as_i64().expect("whole seconds");
        Self {
            kid: text(&header["kid"]),
            jti: text(&claims["jti"]),
            sid: text(&claims["sid"]),
            iat: seconds(&claims["iat"]),
            exp: seconds(&claims["exp"]),
        }
    }
}

/// The claims of `token`, unchecked.
pub fn claims(token: &str) -> Value {
    token.split('.').nth(1).map_or(Value::Null, decode)
}

fn decode(part: &str) -> Value {
    let bytes = URL_SAFE_NO_PAD.decode(part).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}
