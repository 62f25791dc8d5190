//! Keeping the issuer's key set current.

pub(crate) mod cache;
pub(crate) mod freshness;
#[cfg(feature = "http")]
pub(crate) mod http_source;
pub(crate) mod saved;
pub(crate) mod source;
