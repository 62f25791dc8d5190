//! Keeps the key set of the issuer current.

pub(crate) mod cache;
pub(crate) mod freshness;
pub(crate) mod held;
#[cfg(feature = "http")]
pub(crate) mod http_source;
pub(crate) mod saved;
pub(crate) mod schedule;
pub(crate) mod source;
