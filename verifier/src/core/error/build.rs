//! Why a verifier cannot be built.

use super::issuer::JwksError;

/// Why a [`Verifier`](crate::Verifier) cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is empty; for a [`MultiVerifier`](crate::MultiVerifier), there are no verifiers.
    #[error("empty issuer")]
    NoIssuer,
    /// Two verifiers of a [`MultiVerifier`](crate::MultiVerifier) have this issuer.
    #[error("two verifiers for issuer {0:?}")]
    DuplicateIssuer(String),
    /// No audience was given, or an empty one. A token for another service must not be accepted (RFC 9068
    /// §4).
    #[error("missing audience: set the name of this service with `audience`")]
    NoAudience,
    /// The URL of the key set or of the feed cannot be used.
    #[error("URL {url:?}: {cause}")]
    BadUrl {
        /// The URL as given or derived, without user name and password.
        url: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// There is no source of keys: without the feature `http` there is no built-in client.
    #[error("no source of keys: call `source` or `static_jwks`, or enable the feature `http`")]
    NoSource,
    /// `deny_when_stale` without a feed would refuse every token.
    #[error("deny_when_stale without a feed: call `feed_url` or `feed_source`")]
    NoFeed,
    /// The static key set is malformed.
    #[error("static key set: {0}")]
    Jwks(#[from] JwksError),
    /// The static key set has no usable key.
    #[error("static key set has no usable key")]
    NoUsableKey,
}
