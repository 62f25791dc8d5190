//! The state of a verifier: what it holds, how old that is, and the last errors.

use std::time::Duration;

use crate::core::error::{FeedError, FetchError};

/// The state of a [`Verifier`](crate::Verifier), from [`Verifier::status`](crate::Verifier::status).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The key set.
    pub keys: KeysStatus,
    /// Revocations and the feed.
    pub feed: FeedStatus,
}

/// The state of the key set.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysStatus {
    /// Whether the keys can be used.
    pub state: KeysState,
    /// The number of keys.
    pub count: usize,
    /// The time since the issuer last confirmed the keys; `None` if it never did.
    pub age: Option<Duration>,
    /// The version of the key set, which grows with each change, if the issuer publishes one.
    pub keys_version: Option<u64>,
    /// Why the last fetch failed; `None` if it succeeded.
    pub last_error: Option<FetchError>,
    /// The number of fetches that have ended.
    pub fetches: u64,
    /// The number of fetches that failed.
    pub failures: u64,
    /// Whether a token with an unknown `kid` is refused without a fetch, because the last fetch for such a
    /// token was less than 10 s ago.
    pub is_cooling_down: bool,
}

/// Whether the keys can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeysState {
    /// No keys yet: [`VerifyError::Unavailable`](crate::VerifyError::Unavailable).
    None,
    /// The keys are within the freshness that the issuer declared.
    Fresh,
    /// The keys should have been confirmed by the issuer, but are still used.
    Stale,
    /// The issuer has not confirmed the keys for too long:
    /// [`VerifyError::Unavailable`](crate::VerifyError::Unavailable).
    Expired,
    /// The keys were given when the verifier was built and never change.
    Fixed,
}

impl KeysState {
    /// Returns whether tokens are checked with these keys.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale | Self::Fixed)
    }
}

/// The state of the revocation feed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// Whether documents arrive.
    pub state: FeedState,
    /// How long ago all revocations were known, by the wall clock; `None` if they never were. Up to three
    /// seconds are normal: the first document can be two seconds old, and the next arrives up to a second
    /// later. It is too small by the difference if the issuer's clock is ahead of this one.
    pub staleness: Option<Duration>,
    /// The number of revoked sessions in memory.
    pub sessions: usize,
    /// The number of revoked keys in memory.
    pub keys: usize,
    /// The number of times that the stream was lost or could not be opened.
    pub losses: u64,
    /// Why the stream was last lost; `None` while it is live.
    pub last_error: Option<FeedError>,
}

/// Whether documents of the revocation feed arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedState {
    /// The verifier was built without a feed, or the issuer has none
    /// ([`last_error`](FeedStatus::last_error) is then [`FeedError::NoFeed`]).
    Off,
    /// No document has arrived yet.
    Connecting,
    /// The stream is open, and documents arrive.
    Live,
    /// The stream was lost. Revocations received before stay in effect.
    Disconnected {
        /// The time since the loss.
        lasting: Duration,
    },
}
