//! The rules: plain functions of values and a time. Contains no HTTP, SQL or tasks.

pub mod access;
pub mod audit;
pub mod authority;
pub mod breached;
pub mod device;
pub mod key;
pub mod limit;
pub mod listener;
pub mod network;
pub mod password;
pub mod proof;
pub mod refresh;
pub mod replica;
pub mod revocation;
pub mod rfc3339;
pub mod session;
pub mod strength;
pub mod user;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use serde::{Deserialize, Deserializer};

use crate::entropy::{Entropy, EntropyError};

/// 16 random bytes, as for a UUID.
pub fn random_16(entropy: &dyn Entropy) -> Result<[u8; 16], EntropyError> {
    let mut bytes = [0; 16];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}

/// For `#[serde(default, deserialize_with = "not_null")]`: a member that may be absent, but not null.
pub fn not_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// The bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text
}

/// `prefix-` and 128 random bits, base64url.
pub fn random_name(prefix: &str, entropy: &dyn Entropy) -> Result<String, EntropyError> {
    Ok(format!("{prefix}-{}", URL_SAFE_NO_PAD.encode(random_16(entropy)?)))
}
