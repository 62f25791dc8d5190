//! The pure part: parsing, signatures and every check, as functions of bytes, keys and times. No runtime, no
//! I/O, no clock.

pub(crate) mod base64url;
pub(crate) mod claims;
pub(crate) mod crypto;
pub(crate) mod error;
pub(crate) mod feed;
pub(crate) mod header;
pub(crate) mod json;
pub(crate) mod jwk;
pub(crate) mod key_set;
pub(crate) mod revocation;
mod spki;
pub(crate) mod time;
pub(crate) mod token;
pub(crate) mod token_cache;
pub(crate) mod verified;
pub(crate) mod verify;
pub(crate) mod weak;
