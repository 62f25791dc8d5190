//! How a `Verifier` is described, and what is refused before it exists.

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
    feed: Feed,
    deny_when_stale: Option<Seconds>,
    allow_stale_for: Option<Seconds>,
    snapshot_file: Option<PathBuf>,
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

#[derive(Debug)]
enum Feed {
    /// Beside the key set, if that is where it is by convention.
    ByConvention,
    #[cfg(feature = "http")]
    Url(String),
    Source(Arc<dyn FeedSource>),
    None,
}

/// What follows the issuer's URL.
#[cfg(feature = "http")]
const JWKS_PATH: &str = "/.well-known/jwks.json";
#[cfg(feature = "http")]
const FEED_PATH: &str = "/v1/revocations/stream";

impl Verifier {
    /// Starts to describe a verifier for the tokens of `issuer`, compared as an exact string with `iss`.
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

    /// Uses the keys in hand for this long without the issuer confirming them: 24 h by default, at least a minute
    /// (or what the issuer calls fresh), at most seven days. It is how long an outage of the issuer may last, and
    /// how long a key that was withdrawn meanwhile goes on being trusted.
    pub fn allow_stale_for(self, limit: Seconds) -> Self {
        Self { allow_stale_for: Some(limit), ..self }
    }

    /// Follows the revocation feed at this URL. It must be `https`, or `http` to the machine itself.
    ///
    /// Without this, the feed is at `<issuer>/v1/revocations/stream`; with [`jwks_url`](Self::jwks_url), beside
    /// the key set if that URL ends in `/.well-known/jwks.json`, else nowhere; with
    /// [`source`](Self::source) or static keys nowhere.
    #[cfg(feature = "http")]
    pub fn feed_url(self, url: impl Into<String>) -> Self {
        Self { feed: Feed::Url(url.into()), ..self }
    }

    /// Follows the revocation feed from `source` instead of by HTTP.
    pub fn feed_source(self, source: impl FeedSource + 'static) -> Self {
        Self { feed: Feed::Source(Arc::new(source)), ..self }
    }

    /// Follows no revocation feed: a session that was ended goes on until its tokens expire.
    pub fn without_feed(self) -> Self {
        Self { feed: Feed::None, ..self }
    }

    /// Refuses good tokens with [`VerifyError::Unavailable`](crate::VerifyError::Unavailable) while it is longer
    /// ago than `limit` that everything about revocations was known, or if it never was. By default nothing is
    /// refused for that. Up to three seconds are normal; a replica of the issuer that is stopped may cost a few
    /// more, so below ten seconds an ordinary deploy may show.
    pub fn deny_when_stale(self, limit: Seconds) -> Self {
        Self { deny_when_stale: Some(limit), ..self }
    }

    /// Keeps keys and revocations in this file, so that a process which starts while the issuer is away can check
    /// tokens at once. Each verifier needs a file of its own, in a folder that exists and is not shared with others.
    ///
    /// The file is replaced as a whole, at most every 5 s, and readable by its owner only: whoever may write it
    /// decides which keys are trusted. One that is damaged, of another issuer, of another owner, or writable by others is not
    /// used, and a warning says so. What it holds is no younger for having been saved: keys count from the moment at which the
    /// issuer last confirmed them, by the wall clock, and revocations are as stale as they are.
    pub fn snapshot_file(self, path: impl Into<PathBuf>) -> Self {
        Self { snapshot_file: Some(path.into()), ..self }
    }

    /// The verifier. Does no I/O, except that it reads the [`snapshot_file`](Self::snapshot_file) if one is named.
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

/// The issuer's URL, which may end in a slash.
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
