//! What went wrong between the issuer and us: key sets and revocations.

use std::fmt;
use std::sync::Arc;

use super::reason::Reason;
use crate::core::jwk::Kid;
use crate::core::time::Seconds;

/// Why a document is not a key set, as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// More than 256 KiB.
    #[error("key set is larger than 256 KiB")]
    TooLarge,
    /// Not JSON with an array `keys` and, if at all, a number `keys_version`.
    #[error("not a key set")]
    Malformed,
    /// More than 64 keys.
    #[error("key set has more than 64 keys")]
    TooManyKeys,
    /// Two keys with one name: which of them is meant cannot be told.
    #[error("key set names {0:?} twice")]
    DuplicateKid(Kid),
}

/// Why nothing can be said about tokens: what could not be had from the issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No fetch has ended yet; also what a sync call says that comes before the first fetch.
    #[error("not fetched yet")]
    NotFetched,
    /// The issuer did not answer in time.
    #[error("issuer did not answer in time")]
    TimedOut,
    /// The connection failed.
    #[error("issuer cannot be reached: {0}")]
    Transport(Arc<str>),
    /// The issuer answered with another status than 200. Redirects are not followed.
    #[error("issuer answered {0}")]
    Status(u16),
    /// The answer is compressed, or says that nothing has changed when nothing was held.
    #[error("issuer sent an answer that was not asked for")]
    Unexpected,
    /// The answer is not a key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The answer has no key that can be used.
    #[error("key set has no usable key")]
    NoUsableKey,
    /// The answer is older than the key set in hand: some cache replays it.
    #[error("key set has keys_version {offered:?}, lower than {held:?}")]
    RolledBack {
        /// `keys_version` of the key set in hand.
        held: Option<u64>,
        /// `keys_version` of the answer.
        offered: Option<u64>,
    },
    /// What has been revoked is not known well enough, and the verifier was told to
    /// [`deny_when_stale`](crate::VerifierBuilder::deny_when_stale).
    #[error("revocations are known as of {}, limit {} s", age(*staleness), limit.0)]
    StaleRevocations {
        /// How long ago everything was known, in seconds rounded up; `None`: never.
        staleness: Option<Seconds>,
        /// The limit that was set.
        limit: Seconds,
    },
    /// Fetching needs a Tokio runtime, and the caller is not inside one.
    #[error("not inside a Tokio runtime")]
    NoRuntime,
}

impl FetchError {
    /// A failure to reach the issuer, in a few words that contain no secret.
    pub fn transport(cause: impl fmt::Display) -> Self {
        Self::Transport(cause.to_string().into())
    }
}

fn age(staleness: Option<Seconds>) -> String {
    staleness.map_or_else(|| "never".to_owned(), |seconds| format!("{} s ago", seconds.0))
}

/// Why the stream of revocations was lost, could not be opened, or has a document that is not believed.
///
/// Never a reason to refuse a token: what was heard before stays known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The issuer has no feed: it answered 404, and was never heard. Later that is a [`Status`](Self::Status).
    #[error("issuer has no revocation feed")]
    NoFeed,
    /// The issuer did not answer in time.
    #[error("issuer did not answer in time")]
    TimedOut,
    /// The connection failed.
    #[error("stream failed: {0}")]
    Transport(Arc<str>),
    /// The issuer answered with another status than 200. Redirects are not followed.
    #[error("issuer answered {0}")]
    Status(u16),
    /// The answer is compressed, or not `text/event-stream`.
    #[error("issuer sent something other than a stream of events")]
    NotEvents,
    /// The stream came to its end, as it does when a replica is stopped.
    #[error("stream ended")]
    Ended,
    /// For 5 s nothing came that could be verified.
    #[error("stream fell silent")]
    Silent,
    /// Documents come, but none that is newer: the replica has lost sight of its database.
    #[error("stream goes on without news")]
    StandsStill,
    /// A document of more than 16 MiB, or a line without an end.
    #[error("document is larger than 16 MiB")]
    TooLarge,
    /// Not server-sent events in UTF-8, or an event with a value it cannot have.
    #[error("event is malformed")]
    BadEvent,
    /// A document continues another one that was not heard.
    #[error("stream has a gap")]
    Gap,
    /// A document does not pass its checks, which are those of tokens.
    #[error("document refused: {0}")]
    Document(#[from] Reason),
}

impl FeedError {
    /// A failure to reach the issuer, in a few words that contain no secret.
    pub fn transport(cause: impl fmt::Display) -> Self {
        Self::Transport(cause.to_string().into())
    }

    /// A stable label for logs and metrics, in `snake_case`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoFeed => "no_feed",
            Self::TimedOut => "timed_out",
            Self::Transport(_) => "transport",
            Self::Status(_) => "status",
            Self::NotEvents => "not_events",
            Self::Ended => "ended",
            Self::Silent => "silent",
            Self::StandsStill => "stands_still",
            Self::TooLarge => "too_large",
            Self::BadEvent => "bad_event",
            Self::Gap => "gap",
            Self::Document(reason) => reason.label(),
        }
    }
}
