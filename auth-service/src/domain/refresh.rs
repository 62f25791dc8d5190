//! The refresh token: a session id, a generation and a MAC. Nothing is stored per token.
//!
//! `rt1.` + base64url(MAC key id, u32 ‖ session id, 16 bytes ‖ generation, u32 ‖ HMAC-SHA-256 tag, 32 bytes),
//! numbers in network byte order, the tag over everything before it including the prefix: 79 characters.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use secrecy::SecretString;

use super::session::{Generation, SessionId};

const PREFIX: &str = "rt1.";
const BODY: usize = 4 + 16 + 4;
const TAG: usize = 32;
const ENCODED: usize = (BODY + TAG) * 4 / 3 + 1;

/// The content of a refresh token, before or after the check of its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshClaims {
    /// The id of the MAC key.
    pub mac_key_id: u32,
    /// The session it belongs to.
    pub session_id: SessionId,
    /// The token's generation in the session.
    pub generation: Generation,
}

/// A well-formed token with an unchecked MAC.
#[derive(Debug)]
pub struct UncheckedRefreshToken {
    claims: RefreshClaims,
    tag: [u8; TAG],
}

impl UncheckedRefreshToken {
    /// Parses the token; `None` if it is malformed or not in its canonical spelling.
    pub fn parse(token: &str) -> Option<Self> {
        let encoded = token.strip_prefix(PREFIX).filter(|encoded| encoded.len() == ENCODED)?;
        let mut bytes = [0; BODY + TAG];
        URL_SAFE_NO_PAD.decode_slice(encoded, &mut bytes).ok()?;
        let (key_id, rest) = bytes.split_first_chunk::<4>()?;
        let (session_id, rest) = rest.split_first_chunk::<16>()?;
        let (generation, tag) = rest.split_first_chunk::<4>()?;
        let claims = RefreshClaims {
            mac_key_id: u32::from_be_bytes(*key_id),
            session_id: SessionId::from_bytes(*session_id),
            generation: u32::from_be_bytes(*generation),
        };
        Some(Self { claims, tag: tag.try_into().ok()? })
    }

    /// The id of the key to check the MAC with.
    pub fn mac_key_id(&self) -> u32 {
        self.claims.mac_key_id
    }

    /// The claims if the MAC is valid. Compares in constant time.
    pub fn check(&self, key: &hmac::Key) -> Option<RefreshClaims> {
        hmac::verify(key, &authenticated(&self.claims), &self.tag).ok().map(|()| self.claims)
    }
}

impl RefreshClaims {
    /// The token with these claims.
    pub fn seal(&self, key: &hmac::Key) -> SecretString {
        let authenticated = authenticated(self);
        let mut bytes = [0; BODY + TAG];
        bytes[..BODY].copy_from_slice(&authenticated[PREFIX.len()..]);
        bytes[BODY..].copy_from_slice(hmac::sign(key, &authenticated).as_ref());
        let mut token = String::with_capacity(PREFIX.len() + ENCODED);
        token.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut token);
        token.into()
    }

    /// The `jti` of the access token issued with this refresh token: base64url of 16 bytes, 22 characters. It
    /// is derived, so that a repeated request gets the same `jti`.
    pub fn token_id(&self, key: &hmac::Key) -> String {
        let mut input = [0; 3 + 16 + 4];
        input[..3].copy_from_slice(b"jti");
        input[3..19].copy_from_slice(self.session_id.as_bytes());
        input[19..].copy_from_slice(&self.generation.to_be_bytes());
        URL_SAFE_NO_PAD.encode(&hmac::sign(key, &input).as_ref()[..16])
    }
}

fn authenticated(claims: &RefreshClaims) -> [u8; PREFIX.len() + BODY] {
    let mut bytes = [0; PREFIX.len() + BODY];
    let parts: [&[u8]; 4] = [
        PREFIX.as_bytes(),
        &claims.mac_key_id.to_be_bytes(),
        claims.session_id.as_bytes(),
        &claims.generation.to_be_bytes(),
    ];
    let mut at = 0;
    for part in parts {
        bytes[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn key(byte: u8) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &[byte; 32])
    }

    fn claims() -> RefreshClaims {
        RefreshClaims { mac_key_id: 7, session_id: SessionId::from_random([3; 16]), generation: 0x0102_0304 }
    }

    #[test]
    fn round_trip_keeps_the_claims_and_the_documented_length() {
        let token = claims().seal(&key(1));
        assert_eq!(token.expose_secret().len(), 79);
        let parsed = UncheckedRefreshToken::parse(token.expose_secret()).unwrap();
        assert_eq!(parsed.mac_key_id(), 7);
        assert_eq!(parsed.check(&key(1)), Some(claims()));
        assert_eq!(parsed.check(&key(2)), None);
    }

    #[test]
    fn changed_characters_are_refused() {
        let token = claims().seal(&key(1)).expose_secret().to_owned();
        for at in 0..token.len() {
            for replacement in ['A', 'b', '0', '-', '=', '+'] {
                let mut changed: Vec<char> = token.chars().collect();
                if changed[at] == replacement {
                    continue;
                }
                changed[at] = replacement;
                let changed: String = changed.into_iter().collect();
                let accepted = UncheckedRefreshToken::parse(&changed).and_then(|token| token.check(&key(1)));
                assert_eq!(accepted, None, "position {at}, {replacement}");
            }
        }
    }

    #[test]
    fn malformed_tokens_are_refused() {
        let token = claims().seal(&key(1)).expose_secret().to_owned();
        for wrong in ["", "rt1.", &token[1..], &format!("{token}A"), &token.replace("rt1.", "rt2.")] {
            assert!(UncheckedRefreshToken::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn token_id_depends_on_session_and_generation() {
        let (a, b) = (claims(), RefreshClaims { generation: 5, ..claims() });
        assert_eq!(a.token_id(&key(1)), a.token_id(&key(1)));
        assert_ne!(a.token_id(&key(1)), b.token_id(&key(1)));
        assert_eq!(a.token_id(&key(1)).len(), 22);
    }
}
