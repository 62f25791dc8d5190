//! Checks access tokens (RFC 9068) inside your own process: no network call per request, no shared store, and
//! it keeps working while the issuer is down.
//!
//! # Quick start
//!
//! ```
//! # #[cfg(feature = "axum")] {
//! use axum::{Router, routing::get};
//! use verifier::{Auth, RequirePermission, Verifier};
//!
//! async fn list(Auth(user): Auth) -> String {
//!     format!("orders of {}", user.subject())
//! }
//!
//! # fn build() -> Result<(), verifier::BuildError> {
//! let verifier = Verifier::builder("https://auth.example.com").audience("orders-api").build()?;
//! let app: Router = Router::new()
//!     .route("/orders", get(list).layer(RequirePermission::all(["orders:read"])))
//!     .layer(verifier.layer());
//! # Ok(()) }
//! # build().unwrap();
//! # }
//! ```
//!
//! Without a framework, call [`Verifier::verify`] with the token; it returns [`Verified`] or [`VerifyError`].
//!
//! # From the inside out
//!
//! - [`Expected::verify`] is a pure function of token, keys and time. It makes every check.
//! - [`KeySet`] holds public keys, each bound to one [`Algorithm`].
//! - [`Verifier`] (feature `live`) adds a clock, a cache that keeps the key set current through a
//!   [`JwksSource`], and the revocation feed.
//! - [`MultiVerifier`] combines several, one for each issuer. Adapters take either.
//! - `VerifyLayer`, `RequirePermission` (feature `tower`), `Auth`, `Scoped` (feature `axum`), `Grpc` and
//!   `VerifyInterceptor` (feature `tonic`) put it in front of handlers.
//! - [`Guard`] ends a connection that outlives its request, a WebSocket or an event stream, together with the
//!   token.
//!
//! # What is checked
//!
//! In this order: size and shape; header; key by `kid` and algorithm; signature; types and presence of
//! claims; issuer and audience; times; revocations; your own claims; permissions, where you require them. The
//! first check that fails gives the [`Reason`]; its [`label`](Reason::label) is stable between releases.
//! [`guide::checks`] lists all checks with their reasons. Unknown members of header and claims are ignored.
//! Keys come only from the configured issuer, whatever the token contains (`jku`, `x5u`, `jwk`, `iss`).
//!
//! # Revocation
//!
//! A signature stays valid until the token expires, so the issuer publishes which sessions have ended and
//! which keys were stolen: a stream of signed documents, which the verifier follows in the background. A
//! revocation takes effect within a second. While the feed is unavailable, revocations received before stay
//! in effect, and [`Verifier::status`] returns their age. By default tokens are still accepted then; with
//! [`VerifierBuilder::deny_when_stale`] they are refused.
//!
//! # When the issuer is unavailable
//!
//! The last key set is used for up to 24 h. After that, and before the first key set has arrived, checks
//! return [`VerifyError::Unavailable`]: 503 and not 401, because a client that mistakes an outage for an
//! invalid token discards its session. With [`VerifierBuilder::snapshot_file`], a process that starts during
//! the outage uses the keys and revocations that the previous process saved.
//!
//! # Monitoring
//!
//! [`Verifier::status`] returns the state of keys and feed; [`Verifier::ready`] waits for keys at start-up.
//! The feature `metrics` reports the same figures, and the outcome of every check, to the recorder of the
//! process. Log events go to `tracing` and contain no part of a token. Coming from another crate? See
//! [`guide::migrating`].
//!
//! # Without a runtime
//!
//! Without the feature `live` the crate has no tasks, no clock and no Tokio: call [`Expected::verify`] with a
//! [`KeySet`] and a time of your own.

mod adapters;
#[cfg(feature = "live")]
mod background;
#[cfg(feature = "live")]
mod builder;
mod clock;
#[cfg_attr(not(feature = "live"), expect(dead_code, reason = "the feature uses the rest"))]
mod core;
#[cfg(feature = "live")]
mod feed;
#[cfg(feature = "live")]
mod guard;
pub mod guide;
#[cfg(feature = "http")]
mod http_client;
#[cfg(feature = "live")]
mod keys;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "live")]
mod multi;
#[cfg(feature = "metrics")]
mod outcomes;
#[cfg(feature = "live")]
mod parts;
#[cfg(feature = "live")]
mod snapshot;
#[cfg(feature = "live")]
mod status;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(feature = "live")]
mod verifier;

pub use crate::core::claims::{AccessClaims, NoExtra};
pub use crate::core::error::{BuildError, FeedError, FetchError, JwksError, Missing, Reason, VerifyError};
pub use crate::core::jwk::{Algorithm, Jwk, JwkError, JwkSet, Kid, UnknownAlgorithm};
pub use crate::core::key_set::{KeySet, VerifyingKey};
pub use crate::core::time::{Clock, Seconds, UnixTime};
pub use crate::core::verified::Verified;
pub use crate::core::verify::Expected;
#[cfg(feature = "axum")]
pub use adapters::axum::{Auth, Needed, Permissions, Scoped};
pub use adapters::credential::{AuthError, bearer_token, take_websocket_token};
#[cfg(feature = "tonic")]
pub use adapters::grpc::{Grpc, VerifyInterceptor};
#[cfg(feature = "tower")]
pub use adapters::identity::{caller, guard};
#[cfg(feature = "tower")]
pub use adapters::permission::{RequirePermission, RequirePermissionService};
#[cfg(feature = "tower")]
pub use adapters::tower::{Answer, Problem, VerifyLayer, VerifyService};
#[cfg(feature = "live")]
pub use builder::VerifierBuilder;
pub use clock::SystemClock;
#[cfg(feature = "http")]
pub use feed::http::HttpFeed;
#[cfg(feature = "live")]
pub use feed::source::{ChunkFuture, ConnectFuture, FeedBody, FeedSource};
#[cfg(feature = "live")]
pub use guard::{Guard, RenewError};
#[cfg(feature = "http")]
pub use keys::http_source::HttpSource;
#[cfg(feature = "live")]
pub use keys::source::{FetchFuture, Fetched, JwksRequest, JwksSource};
#[cfg(feature = "live")]
pub use multi::MultiVerifier;
#[cfg(feature = "live")]
pub use status::{FeedState, FeedStatus, KeysState, KeysStatus, Status};
#[cfg(feature = "testing")]
pub use testing::clock::ManualClock;
#[cfg(feature = "live")]
pub use verifier::Verifier;

/// The README's example, compiled.
#[cfg(all(doctest, feature = "http", feature = "axum"))]
#[doc = include_str!("../README.md")]
struct Readme;
