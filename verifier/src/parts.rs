//! The parts of a verifier, and what it does with them as a whole.

use std::sync::Arc;

use crate::core::error::FetchError;
use crate::core::time::{Clock, Seconds};
use crate::core::token_cache::TokenCache;
use crate::core::verify::Expected;
use crate::feed::Feed;
use crate::feed::revoked::Revoked;
use crate::keys::cache::JwksCache;
#[cfg(feature = "metrics")]
use crate::outcomes::Outcomes;
use crate::snapshot::Keeper;
use crate::status::Status;

#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) expected: Expected,
    pub(crate) cache: Arc<JwksCache>,
    pub(crate) revoked: Arc<Revoked>,
    pub(crate) feed: Feed,
    pub(crate) deny_when_stale: Option<Seconds>,
    pub(crate) tokens: Option<TokenCache>,
    pub(crate) snapshot: Option<Keeper>,
    #[cfg(feature = "metrics")]
    pub(crate) outcomes: Outcomes,
    #[cfg(feature = "metrics")]
    pub(crate) reporter: crate::background::Background,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Parts {
    pub(crate) fn status(&self) -> Status {
        Status { keys: self.cache.status(), feed: self.feed.status() }
    }

    /// Starts the background tasks unless they are running, if called inside a runtime.
    pub(crate) fn keep_current(&self) {
        self.cache.keep_current();
        self.feed.keep_current();
        if let Some(snapshot) = &self.snapshot {
            snapshot.keep_current();
        }
    }

    /// Fails while knowledge of revocations is older than `deny_when_stale`.
    pub(crate) fn check_staleness(&self) -> Result<(), FetchError> {
        let Some(limit) = self.deny_when_stale else { return Ok(()) };
        let staleness = self.revoked.staleness(self.clock.unix_millis());
        match staleness {
            Some(millis) if millis <= limit.0.max(0).saturating_mul(1000) => Ok(()),
            _ => {
                let staleness =
                    staleness.map(|millis| Seconds(millis.unsigned_abs().div_ceil(1000).cast_signed()));
                Err(FetchError::StaleRevocations { staleness, limit })
            }
        }
    }

    pub(crate) fn is_ready(&self) -> Result<(), FetchError> {
        self.cache.held().usable(self.clock.monotonic())?;
        self.check_staleness()
    }
}
