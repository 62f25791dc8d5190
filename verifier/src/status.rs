//! How a verifier is doing: what it holds, how old that is, and what went wrong last.

use std::time::Duration;

use crate::core::error::{FeedError, FetchError};

/// How a [`Verifier`](crate::Verifier) is doing. Taken from memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The key set.
    pub keys: KeysStatus,
    /// What is known about revocations.
    pub feed: FeedStatus,
}

/// How the key set is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeysStatus {
    /// Whether the keys can be used.
    pub state: KeysState,
    /// How many keys are in hand.
    pub count: usize,
    /// Since the issuer last confirmed them; `None` if it never did.
    pub age: Option<Duration>,
    /// The version of the key set, which grows with each change, if the issuer publishes one.
    pub keys_version: Option<u64>,
    /// Why the last fetch failed; `None` after one that did not.
    pub last_error: Option<FetchError>,
    /// How many fetches have ended.
    pub fetches: u64,
    /// How many of them brought nothing usable.
    pub failures: u64,
    /// Whether a token with an unknown `kid` is refused without a fetch, because there was one for another such
    /// token less than 10 s ago.
    pub is_cooling_down: bool,
}

/// Whether the keys can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeysState {
    /// There are none yet: [`VerifyError::Unavailable`](crate::VerifyError::Unavailable).
    None,
    /// The issuer says that they need not be asked for again yet.
    Fresh,
    /// The issuer should have confirmed them and did not; they are used all the same.
    Stale,
    /// The issuer has not confirmed them for too long:
    /// [`VerifyError::Unavailable`](crate::VerifyError::Unavailable).
    Expired,
    /// They were given when the verifier was built and never change.
    Fixed,
}

impl KeysState {
    /// Whether tokens are checked with these keys.
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Fresh | Self::Stale | Self::Fixed)
    }
}

/// How the revocation feed is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStatus {
    /// Whether news arrive.
    pub state: FeedState,
    /// How long ago everything was known, by the wall clock; `None` if it never was. Up to three seconds are
    /// normal: the first document may be two seconds old, and the next comes up to a second later. May show less than
    /// the truth by what the issuer's clock is ahead of ours.
    pub staleness: Option<Duration>,
    /// How many revoked sessions are remembered.
    pub sessions: usize,
    /// How many revoked keys are remembered.
    pub keys: usize,
    /// How often the stream was lost or could not be opened.
    pub losses: u64,
    /// Why the stream was lost last; `None` while it is live.
    pub last_error: Option<FeedError>,
}

/// Whether news of revocations arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedState {
    /// The verifier was built without a feed, or the issuer has none
    /// ([`last_error`](FeedStatus::last_error) is then [`FeedError::NoFeed`]).
    Off,
    /// Nothing has been heard yet.
    Connecting,
    /// The stream is open, and documents arrive.
    Live,
    /// The stream was lost. What was heard before stays known.
    Disconnected {
        /// For how long.
        lasting: Duration,
    },
}
