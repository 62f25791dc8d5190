//! Why a verifier cannot be built.

use super::issuer::JwksError;

/// Why a [`Verifier`](crate::Verifier) cannot be built as described.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The issuer is empty, or there is none.
    #[error("issuer is empty")]
    NoIssuer,
    /// Two verifiers of one [`MultiVerifier`](crate::MultiVerifier) are for this issuer.
    #[error("two verifiers are for issuer {0:?}")]
    DuplicateIssuer(String),
    /// No audience was given, or an empty one. A token for another service must not be accepted (RFC 9068
    /// §4).
    #[error("audience is missing: name the service that this one is")]
    NoAudience,
    /// The URL of the key set or of the feed cannot be used.
    #[error("URL {url:?}: {cause}")]
    BadUrl {
        /// The URL as given or derived, without what stands before an `@`.
        url: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Without the feature `http` there is no built-in client.
    #[error("no source of keys: set `source` or `static_jwks`, or switch on the feature `http`")]
    NoSource,
    /// `deny_when_stale` without a feed would refuse every token.
    #[error("deny_when_stale without a feed: set `feed_url` or `feed_source`")]
    NoFeed,
    /// The static key set is none.
    #[error("static key set: {0}")]
    Jwks(#[from] JwksError),
    /// The static key set has no key that can be used.
    #[error("static key set has no usable key")]
    NoUsableKey,
}
