//! Adapters that put the verifier in front of handlers: tower, axum, tonic.

#[cfg(feature = "axum")]
pub(crate) mod axum;
pub(crate) mod credential;
#[cfg(feature = "tonic")]
pub(crate) mod grpc;
#[cfg(feature = "tower")]
pub(crate) mod identity;
#[cfg(feature = "tower")]
pub(crate) mod permission;
#[cfg(feature = "tower")]
pub(crate) mod tower;
