//! Checks access tokens offline.

mod base64url;
mod claims;
mod error;
mod header;
mod json;
mod jwk;
mod key_set;
mod time;
mod token;
mod verify;
mod weak;

pub use claims::{AccessClaims, NoExtra};
pub use error::{FetchError, Missing, Reason, VerifyError};
pub use jwk::{Algorithm, Jwk, JwkError, JwkSet, Kid, UnknownAlgorithm};
pub use key_set::{JwksError, KeySet, VerifyingKey};
#[cfg(feature = "testing")]
pub use time::ManualClock;
pub use time::{Clock, Seconds, SystemClock, UnixTime};
pub use verify::{Expected, Verified};
