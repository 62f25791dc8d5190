//! The key set in use, and what is known about its age.

use std::sync::Arc;
use std::time::Duration;

use crate::core::error::FetchError;
use crate::core::key_set::KeySet;
use crate::keys::freshness;
use crate::keys::source::Fetched;

/// The key set in use. Times are those of `Clock::monotonic`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(super) keys: Arc<KeySet>,
    /// The document that the issuer sent; empty for keys that were given.
    pub(super) document: Arc<[u8]>,
    pub(super) etag: Option<String>,
    /// When the request was sent that last confirmed the keys, or when they were read from a file.
    pub(super) confirmed_at: Duration,
    /// The age of the keys at `confirmed_at`.
    pub(super) age_when_confirmed: Duration,
    /// From this time on, the keys should have been fetched again.
    pub(super) fresh_until: Duration,
    /// From this time on, the keys are not trusted.
    pub(super) expires_at: Duration,
    pub(super) last_error: Option<FetchError>,
}

impl Held {
    /// The keys, if they may be used at `now`; else the last error.
    pub(crate) fn usable(&self, now: Duration) -> Result<&KeySet, FetchError> {
        if now < self.expires_at {
            return Ok(&self.keys);
        }
        Err(self.last_error.clone().unwrap_or(FetchError::NotFetched))
    }

    /// The state after `response` to a request sent at `asked_at`. The whole response is parsed before it
    /// replaces anything.
    pub(super) fn after(
        &self,
        response: Fetched,
        asked_at: Duration,
        kept_for: Duration,
    ) -> Result<Self, FetchError> {
        let fresh = freshness::fresh_for(response.max_age, response.age);
        let confirmed = Self {
            confirmed_at: asked_at,
            age_when_confirmed: Duration::ZERO,
            fresh_until: asked_at + fresh,
            // Keys that the issuer calls fresh may be used for that long in any case.
            expires_at: asked_at + kept_for.max(fresh),
            last_error: None,
            ..self.clone()
        };
        let Some(document) = response.document else {
            // A 304 confirms the document with the ETag of the request, and nothing else.
            return if self.etag.is_some() { Ok(confirmed) } else { Err(FetchError::Unexpected) };
        };
        let keys = KeySet::parse(&document)?;
        if keys.is_empty() {
            return Err(FetchError::NoUsableKey);
        }
        // Only while the held set is usable: after that, an issuer restored from a backup must be accepted.
        let (held, offered) = (self.keys.keys_version(), keys.keys_version());
        if asked_at < self.expires_at && offered < held {
            return Err(FetchError::RolledBack { held, offered });
        }
        Ok(Self { keys: Arc::new(keys), document: document.into(), etag: response.etag, ..confirmed })
    }

    /// The time since the issuer last confirmed the keys.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.confirmed_at) + self.age_when_confirmed
    }
}
