//! How a `Verifier` is described, and what is refused before it exists.

use std::sync::Arc;

use crate::cache::JwksCache;
use crate::jwk::JwkSet;
use crate::key_set::{JwksError, KeySet};
use crate::source::JwksSource;
use crate::time::{Clock, Seconds, SystemClock};
use crate::token_cache::TokenCache;
use crate::verifier::{Parts, Verifier};
use crate::verify::Expected;

/// Describes a [`Verifier`]. Start with [`Verifier::builder`].
#[derive(Debug)]
#[must_use]
pub struct VerifierBuilder {
    issuer: String,
    audiences: Vec<String>,
    leeway: Option<Seconds>,
    max_token_life: Option<Seconds>,
    token_cache: Option<usize>,
    clock: Option<Arc<dyn Clock>>,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    /// The issuer's URL and `/.well-known/jwks.json`.
    ByConvention,
    #[cfg(feature = "http")]
    Url(String),
    Source(Arc<dyn JwksSource>),
    Fixed(Result<KeySet, JwksError>),
}

/// Why a [`Verifier`] cannot be built as described.
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
    /// The URL of the key set cannot be used.
    #[error("key set URL {url:?}: {cause}")]
    BadUrl {
        /// The URL as given or derived, without what stands before an `@`.
        url: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// Without the feature `http` there is no built-in client.
    #[error("no source of keys: set `source` or `static_jwks`, or switch on the feature `http`")]
    NoSource,
    /// The static key set is none.
    #[error("static key set: {0}")]
    Jwks(#[from] JwksError),
    /// The static key set has no key that can be used.
    #[error("static key set has no usable key")]
    NoUsableKey,
}

impl VerifierBuilder {
    pub(crate) fn new(issuer: String) -> Self {
        Self {
            issuer,
            audiences: Vec::new(),
            leeway: None,
            max_token_life: None,
            token_cache: None,
            clock: None,
            keys: Keys::ByConvention,
        }
    }

    /// The name under which the issuer knows this service. Required; call it again for a service with several
    /// names.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// See [`Expected::with_leeway`].
    pub fn leeway(self, leeway: Seconds) -> Self {
        Self { leeway: Some(leeway), ..self }
    }

    /// See [`Expected::with_max_token_life`].
    pub fn max_token_life(self, max_token_life: Seconds) -> Self {
        Self { max_token_life: Some(max_token_life), ..self }
    }

    /// Remembers the last `capacity` good tokens, rounded up to a power of two: whoever shows one of them again
    /// is spared the signature. Off by default, and with 0.
    ///
    /// Nothing is accepted longer for it: times, revocations and the key are looked at each time, and a token is
    /// only ever found by all of its bytes. Worth it where clients send the same token many times; room for
    /// twice as many tokens as are in use keeps them from displacing each other. An entry takes 1 to 4 KiB;
    /// tokens over 2 KiB are not remembered.
    pub fn token_cache(self, capacity: usize) -> Self {
        Self { token_cache: Some(capacity), ..self }
    }

    /// Takes the time from `clock` instead of the operating system.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Fetches keys from this URL instead of `<issuer>/.well-known/jwks.json`. It must be `https`, or `http`
    /// to the machine itself.
    #[cfg(feature = "http")]
    pub fn jwks_url(self, url: impl Into<String>) -> Self {
        Self { keys: Keys::Url(url.into()), ..self }
    }

    /// Fetches keys from `source` instead of by HTTP.
    pub fn source(self, source: impl JwksSource + 'static) -> Self {
        Self { keys: Keys::Source(Arc::new(source)), ..self }
    }

    /// Uses these keys for ever and fetches nothing. When the issuer rotates its keys, build a new verifier.
    pub fn static_jwks(self, jwks: &JwkSet) -> Self {
        Self { keys: Keys::Fixed(KeySet::from_jwks(jwks)), ..self }
    }

    /// As [`static_jwks`](Self::static_jwks), from a JWKS document.
    pub fn static_jwks_document(self, document: impl AsRef<[u8]>) -> Self {
        Self { keys: Keys::Fixed(KeySet::parse(document.as_ref())), ..self }
    }

    /// The verifier. Does no I/O.
    ///
    /// # Errors
    /// The description is incomplete or contradicts itself; see [`BuildError`].
    pub fn build(self) -> Result<Verifier, BuildError> {
        if self.issuer.is_empty() {
            return Err(BuildError::NoIssuer);
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(BuildError::NoAudience);
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let cache = self.keys.into_cache(&self.issuer, Arc::clone(&clock))?;
        let mut expected = Expected::new(self.issuer, self.audiences);
        if let Some(leeway) = self.leeway {
            expected = expected.with_leeway(leeway);
        }
        if let Some(max_token_life) = self.max_token_life {
            expected = expected.with_max_token_life(max_token_life);
        }
        let tokens = self.token_cache.filter(|capacity| *capacity > 0).map(TokenCache::new);
        Ok(Verifier::new(Parts { expected, cache: Arc::new(cache), revoked: Arc::default(), tokens, clock }))
    }
}

impl Keys {
    fn into_cache(self, issuer: &str, clock: Arc<dyn Clock>) -> Result<JwksCache, BuildError> {
        let source: Arc<dyn JwksSource> = match self {
            Self::Fixed(keys) => {
                let keys = keys?;
                let usable = if keys.is_empty() { Err(BuildError::NoUsableKey) } else { Ok(keys) };
                return usable.map(|keys| JwksCache::fixed(keys, clock));
            }
            Self::Source(source) => source,
            #[cfg(feature = "http")]
            Self::Url(url) => Arc::new(crate::HttpSource::new(&url)?),
            #[cfg(feature = "http")]
            Self::ByConvention => {
                let base = issuer.strip_suffix('/').unwrap_or(issuer);
                Arc::new(crate::HttpSource::new(&format!("{base}/.well-known/jwks.json"))?)
            }
            #[cfg(not(feature = "http"))]
            Self::ByConvention => {
                let _ = issuer;
                return Err(BuildError::NoSource);
            }
        };
        Ok(JwksCache::new(source, clock))
    }
}
