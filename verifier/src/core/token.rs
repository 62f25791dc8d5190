//! Splits a compact JWS into its parts. Nothing is verified here.

use crate::core::error::Reason;

/// The longest accepted token, in bytes. Checked first, so that a longer one costs nothing.
const MAX_TOKEN: usize = 8 * 1024;

/// The parts of `header.claims.signature` (RFC 7515 §7.1), still encoded.
pub(crate) struct Parts<'a> {
    pub(crate) header: &'a str,
    pub(crate) claims: &'a str,
    pub(crate) signature: &'a str,
    /// The first two parts and the dot between them: the signed text.
    pub(crate) signed: &'a str,
}

pub(crate) fn split(token: &str) -> Result<Parts<'_>, Reason> {
    if token.len() > MAX_TOKEN {
        return Err(Reason::TooLong);
    }
    split_any(token)
}

/// As [`split`], for documents whose length was checked before.
pub(crate) fn split_any(token: &str) -> Result<Parts<'_>, Reason> {
    // Another dot stays in one of the parts, which then fails to decode.
    let (signed, signature) = token.rsplit_once('.').ok_or(Reason::NotJws)?;
    let (header, claims) = signed.split_once('.').ok_or(Reason::NotJws)?;
    Ok(Parts { header, claims, signature, signed })
}
