//! Checks access tokens offline.

mod base64url;
mod builder;
mod cache;
mod claims;
mod error;
mod freshness;
mod header;
#[cfg(feature = "http")]
mod http_source;
mod json;
mod jwk;
mod key_set;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod token;
mod verifier;
mod verify;
mod weak;

pub use builder::{BuildError, VerifierBuilder};
pub use claims::{AccessClaims, NoExtra};
pub use error::{FetchError, Missing, Reason, VerifyError};
#[cfg(feature = "http")]
pub use http_source::HttpSource;
pub use jwk::{Algorithm, Jwk, JwkError, JwkSet, Kid, UnknownAlgorithm};
pub use key_set::{JwksError, KeySet, VerifyingKey};
pub use source::{FetchFuture, Fetched, JwksRequest, JwksSource};
#[cfg(feature = "testing")]
pub use time::ManualClock;
pub use time::{Clock, Seconds, SystemClock, UnixTime};
pub use verifier::Verifier;
pub use verify::{Expected, Verified};
