//! Checks access tokens (RFC 9068) inside your own process: no call per request, no shared store, and no
//! outage of the issuer in the way.
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
//! Without a framework, [`Verifier::verify`] takes the token and answers [`Verified`] or [`VerifyError`].
//!
//! # From the inside out
//!
//! - [`Expected::verify`] is a pure function of token, keys and time. Every check is there.
//! - [`KeySet`] holds public keys that are ready to use, each bound to one [`Algorithm`].
//! - [`Verifier`] adds a clock and a cache that keeps the key set current through a [`JwksSource`].
//! - [`MultiVerifier`] is several of them, for several issuers. Adapters take either.
//! - `VerifyLayer`, `RequirePermission` (feature `tower`), `Auth`, `Scoped` (feature `axum`), `Grpc` and
//!   `VerifyInterceptor` (feature `tonic`) put it in front of handlers.
//! - [`Guard`] ends what outlives a request, a WebSocket or an event stream, together with the token.
//!
//! # What is checked
//!
//! In this order: size and shape; header; key by `kid`, for this algorithm; signature; claims typed and complete;
//! issuer and audience; times; what has been revoked; your own claims; permissions, where you ask for them. The
//! first check that fails is the [`Reason`], and its [`label`](Reason::label) stays the same from release to release.
//! [`guide::checks`] is the whole list with its reasons. Unknown names in header and claims are accepted. Whatever a
//! token names (`jku`, `x5u`, `jwk`, `iss`), keys come from the configured issuer alone.
//!
//! # What has been revoked
//!
//! A signed token stays good until it expires, so the issuer tells which sessions have ended and which keys were
//! stolen: a stream of signed documents that the verifier follows in the background. What it says acts within a
//! second; when it is away, what was heard stays known, and [`Verifier::status`] says how old that is. By
//! default no token is refused for that; with [`VerifierBuilder::deny_when_stale`] all of them are.
//!
//! # When the issuer is away
//!
//! Keys in hand are used for up to 24 h. Only then, or before the first key set has arrived, the answer is
//! [`VerifyError::Unavailable`]: 503, never 401, because a client that takes an outage for a bad token throws its session
//! away. With [`VerifierBuilder::snapshot_file`], a process that starts during the outage takes over what the one before
//! it knew.
//!
//! # Watching it
//!
//! [`Verifier::status`] tells the state of keys and feed; [`Verifier::ready`] is a gate for start-up. With the feature
//! `metrics` the same figures, and the outcome of every check, go to the recorder of the process. Events go to `tracing`,
//! and contain no part of a token. Coming from another crate? See [`guide::migrating`].

mod adapters;
#[cfg(feature = "live")]
mod background;
#[cfg(feature = "live")]
mod builder;
mod clock;
#[cfg_attr(
    not(feature = "live"),
    expect(dead_code, reason = "the rest serves what keeps a verifier current")
)]
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
