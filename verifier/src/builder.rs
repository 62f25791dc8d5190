//! The builder of a `Verifier`, and the checks of its settings.

use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::core::error::{BuildError, JwksError};
use crate::core::feed::document::Rules;
use crate::core::jwk::JwkSet;
use crate::core::key_set::KeySet;
use crate::core::time::{Clock, Seconds};
use crate::core::token_cache::TokenCache;
use crate::core::verify::Expected;
use crate::feed;
use crate::feed::source::FeedSource;
use crate::keys::cache::JwksCache;
use crate::keys::source::JwksSource;
#[cfg(feature = "metrics")]
use crate::outcomes::Outcomes;
use crate::parts::Parts;
use crate::snapshot::Keeper;
use crate::verifier::Verifier;

/// Builds a [`Verifier`]. Start with [`Verifier::builder`].
///
/// ```
/// use verifier::{Seconds, Verifier};
/// # let jwks = verifier::testing::TestIssuer::new("https://auth.example.com", "orders-api").jwks();
///
/// let verifier = Verifier::builder("https://auth.example.com")
///     .audience("orders-api")
///     .leeway(Seconds(10))
///     .token_cache(1000)
/// #   .static_jwks(&jwks)
///     .build()?;
/// # Ok::<(), verifier::BuildError>(())
/// ```
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
    feed: Feed,
    deny_when_stale: Option<Seconds>,
    allow_stale_for: Option<Seconds>,
    snapshot_file: Option<PathBuf>,
}

#[derive(Debug)]
enum Keys {
    /// `<issuer>/.well-known/jwks.json`.
    ByConvention,
    #[cfg(feature = "http")]
    Url(String),
    Source(Arc<dyn JwksSource>),
    Fixed(Result<KeySet, JwksError>),
}

#[derive(Debug)]
enum Feed {
    /// Derived from the URL of the key set, if that ends in the usual path.
    ByConvention,
    #[cfg(feature = "http")]
    Url(String),
    Source(Arc<dyn FeedSource>),
    None,
}

/// The paths below the URL of the issuer.
#[cfg(feature = "http")]
const JWKS_PATH: &str = "/.well-known/jwks.json";
#[cfg(feature = "http")]
const FEED_PATH: &str = "/v1/revocations/stream";

impl Verifier {
    /// A builder for a verifier of the tokens of `issuer`, which is compared with `iss` as an exact string.
    pub fn builder(issuer: impl Into<String>) -> VerifierBuilder {
        VerifierBuilder::new(issuer.into())
    }
}

impl VerifierBuilder {
    fn new(issuer: String) -> Self {
        Self {
            issuer,
            audiences: Vec::new(),
            leeway: None,
            max_token_life: None,
            token_cache: None,
            clock: None,
            keys: Keys::ByConvention,
            feed: Feed::ByConvention,
            deny_when_stale: None,
            allow_stale_for: None,
            snapshot_file: None,
        }
    }

    /// Adds an audience: the name of this service at the issuer. At least one is required; a token needs to
    /// have one of them in `aud`.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// Sets the tolerated difference between the clocks: 30 s by default, at most 120 s. See
    /// [`Expected::with_leeway`].
    pub fn leeway(self, leeway: Seconds) -> Self {
        Self { leeway: Some(leeway), ..self }
    }

    /// Sets the longest accepted lifetime of a token: 1 h by default, which must be at least the maximum that
    /// the issuer uses. See [`Expected::with_max_token_life`].
    pub fn max_token_life(self, max_token_life: Seconds) -> Self {
        Self { max_token_life: Some(max_token_life), ..self }
    }

    /// Caches the last `capacity` valid tokens, rounded up to a power of two, so that their signature is not
    /// verified again. Off by default, and with 0.
    ///
    /// No token is accepted for longer: times, revocations and the key are checked each time, and a hit needs
    /// all bytes to be equal. Useful if clients send the same token many times; a capacity of twice the
    /// number of active tokens keeps them from displacing each other. An entry takes 1 to 4 KiB; tokens over
    /// 2 KiB are not cached.
    pub fn token_cache(self, capacity: usize) -> Self {
        Self { token_cache: Some(capacity), ..self }
    }

    /// Uses `clock` instead of the clock of the operating system.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Fetches keys from this URL instead of `<issuer>/.well-known/jwks.json`. It must be `https`, or `http`
    /// on a loopback address.
    #[cfg(feature = "http")]
    pub fn jwks_url(self, url: impl Into<String>) -> Self {
        Self { keys: Keys::Url(url.into()), ..self }
    }

    /// Fetches keys from `source` instead of by HTTP.
    pub fn source(self, source: impl JwksSource + 'static) -> Self {
        Self { keys: Keys::Source(Arc::new(source)), ..self }
    }

    /// Uses only these keys and fetches nothing. When the issuer rotates its keys, build a new verifier.
    pub fn static_jwks(self, jwks: &JwkSet) -> Self {
        Self { keys: Keys::Fixed(KeySet::from_jwks(jwks)), ..self }
    }

    /// As [`static_jwks`](Self::static_jwks), from a JWKS document.
    pub fn static_jwks_document(self, document: impl AsRef<[u8]>) -> Self {
        Self { keys: Keys::Fixed(KeySet::parse(document.as_ref())), ..self }
    }

    /// Sets how long keys are used without confirmation by the issuer: 24 h by default, at least a minute (or
    /// the freshness that the issuer declares), at most seven days. This is the longest outage of the issuer
    /// that goes unnoticed, and the longest time for which a key withdrawn meanwhile is still trusted.
    pub fn allow_stale_for(self, limit: Seconds) -> Self {
        Self { allow_stale_for: Some(limit), ..self }
    }

    /// Follows the revocation feed at this URL. It must be `https`, or `http` on a loopback address.
    ///
    /// The default is `<issuer>/v1/revocations/stream`. With a [`jwks_url`](Self::jwks_url) that ends in
    /// `/.well-known/jwks.json`, it is the same path below that base URL; with any other key source there is
    /// no feed.
    #[cfg(feature = "http")]
    pub fn feed_url(self, url: impl Into<String>) -> Self {
        Self { feed: Feed::Url(url.into()), ..self }
    }

    /// Follows the revocation feed from `source` instead of by HTTP.
    pub fn feed_source(self, source: impl FeedSource + 'static) -> Self {
        Self { feed: Feed::Source(Arc::new(source)), ..self }
    }

    /// Follows no revocation feed: tokens of an ended session are accepted until they expire.
    pub fn without_feed(self) -> Self {
        Self { feed: Feed::None, ..self }
    }

    /// Refuses valid tokens with [`VerifyError::Unavailable`](crate::VerifyError::Unavailable) while
    /// knowledge of revocations is older than `limit`, or if there never was any. By default they are
    /// accepted. Up to three seconds are normal, and a restart of an issuer's replica adds a few, so a limit
    /// below ten seconds can refuse tokens during an ordinary deployment.
    pub fn deny_when_stale(self, limit: Seconds) -> Self {
        Self { deny_when_stale: Some(limit), ..self }
    }

    /// Saves keys and revocations to this file, so that a process which starts while the issuer is
    /// unavailable can check tokens immediately. Each verifier needs its own file, in an existing folder that
    /// other users cannot write.
    ///
    /// The file is replaced atomically, at most every 5 s, with access only for its owner: write access
    /// decides which keys are trusted. A file that is damaged, has another issuer or owner, or is writable by
    /// others is ignored with a warning. Saving does not make anything fresher: the age of keys counts from
    /// the last confirmation by the issuer, by the wall clock, and that of revocations from their document.
    pub fn snapshot_file(self, path: impl Into<PathBuf>) -> Self {
        Self { snapshot_file: Some(path.into()), ..self }
    }

    /// Builds the verifier. Does no I/O, except to read the [`snapshot_file`](Self::snapshot_file) if one is
    /// set.
    ///
    /// # Errors
    /// [`BuildError`]: a setting is missing or invalid, or two contradict each other.
    pub fn build(self) -> Result<Verifier, BuildError> {
        if self.issuer.is_empty() {
            return Err(BuildError::NoIssuer);
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err(BuildError::NoAudience);
        }
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let feed = self.feed.into_source(&self.issuer, &self.keys)?;
        if feed.is_none() && self.deny_when_stale.is_some() {
            return Err(BuildError::NoFeed);
        }
        let mut cache = self.keys.into_cache(&self.issuer, Arc::clone(&clock))?;
        if let Some(limit) = self.allow_stale_for {
            cache = cache.keeping_for(limit);
        }
        let mut expected = Expected::new(self.issuer, self.audiences);
        if let Some(leeway) = self.leeway {
            expected = expected.with_leeway(leeway);
        }
        if let Some(max_token_life) = self.max_token_life {
            expected = expected.with_max_token_life(max_token_life);
        }
        let (cache, revoked) = (Arc::new(cache), Arc::default());
        let rules = Rules { issuer: expected.issuer().to_owned(), leeway: expected.leeway() };
        let feed = feed::Feed::new(rules, feed, Arc::clone(&cache), Arc::clone(&revoked), Arc::clone(&clock));
        let deny_when_stale = self.deny_when_stale;
        let tokens = self.token_cache.filter(|capacity| *capacity > 0).map(TokenCache::new);
        let snapshot = self.snapshot_file.map(|path| {
            let (cache, revoked, clock) = (Arc::clone(&cache), Arc::clone(&revoked), Arc::clone(&clock));
            Keeper::open(path, expected.issuer(), cache, revoked, clock)
        });
        Ok(Verifier::new(Parts {
            expected,
            cache,
            revoked,
            feed,
            deny_when_stale,
            tokens,
            snapshot,
            #[cfg(feature = "metrics")]
            outcomes: Outcomes::default(),
            #[cfg(feature = "metrics")]
            reporter: crate::background::Background::default(),
            clock,
        }))
    }
}

impl Feed {
    fn into_source(self, issuer: &str, keys: &Keys) -> Result<Option<Arc<dyn FeedSource>>, BuildError> {
        #[cfg(feature = "http")]
        let http = |url: &str| -> Result<Option<Arc<dyn FeedSource>>, BuildError> {
            Ok(Some(Arc::new(feed::http::HttpFeed::new(url)?)))
        };
        match self {
            Self::Source(source) => Ok(Some(source)),
            Self::None => Ok(None),
            #[cfg(feature = "http")]
            Self::Url(url) => http(&url),
            #[cfg(feature = "http")]
            Self::ByConvention => match keys {
                Keys::ByConvention => http(&format!("{}{FEED_PATH}", base(issuer))),
                Keys::Url(url) => {
                    let base = url.strip_suffix(JWKS_PATH);
                    base.map_or(Ok(None), |base| http(&format!("{base}{FEED_PATH}")))
                }
                Keys::Source(_) | Keys::Fixed(_) => Ok(None),
            },
            #[cfg(not(feature = "http"))]
            Self::ByConvention => {
                let _ = (issuer, keys);
                Ok(None)
            }
        }
    }
}

/// The URL of the issuer without a trailing slash.
#[cfg(feature = "http")]
fn base(issuer: &str) -> &str {
    issuer.strip_suffix('/').unwrap_or(issuer)
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
            Self::ByConvention => Arc::new(crate::HttpSource::new(&format!("{}{JWKS_PATH}", base(issuer)))?),
            #[cfg(not(feature = "http"))]
            Self::ByConvention => {
                let _ = issuer;
                return Err(BuildError::NoSource);
            }
        };
        Ok(JwksCache::new(source, clock))
    }
}
