//! Checks access tokens offline.

#[cfg(feature = "axum")]
mod axum;
mod base64url;
mod builder;
mod cache;
mod claims;
mod credential;
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
#[cfg(feature = "tower")]
mod tower;
mod verifier;
mod verify;
mod weak;

#[cfg(feature = "axum")]
pub use axum::Auth;
pub use builder::{BuildError, VerifierBuilder};
pub use claims::{AccessClaims, NoExtra};
pub use credential::{AuthError, bearer_token};
pub use error::{FetchError, Missing, Reason, VerifyError};
#[cfg(feature = "http")]
pub use http_source::HttpSource;
pub use jwk::{Algorithm, Jwk, JwkError, JwkSet, Kid, UnknownAlgorithm};
pub use key_set::{JwksError, KeySet, VerifyingKey};
pub use source::{FetchFuture, Fetched, JwksRequest, JwksSource};
#[cfg(feature = "testing")]
pub use time::ManualClock;
pub use time::{Clock, Seconds, SystemClock, UnixTime};
#[cfg(feature = "tower")]
pub use tower::{RequirePermission, RequirePermissionService, VerifyLayer, VerifyService};
pub use verifier::Verifier;
pub use verify::{Expected, Verified};
