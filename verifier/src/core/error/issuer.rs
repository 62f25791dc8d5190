//! Why a key set or revocations could not be obtained from the issuer.

use std::fmt;
use std::sync::Arc;

use super::reason::Reason;
use crate::core::jwk::Kid;
use crate::core::time::Seconds;

/// Why a document as a whole is refused as a key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The document is larger than 256 KiB.
    #[error("key set is larger than 256 KiB")]
    TooLarge,
    /// The document is not JSON with an array `keys` and an optional number `keys_version`.
    #[error("not a key set")]
    Malformed,
    /// The set has more than 64 keys.
    #[error("key set has more than 64 keys")]
    TooManyKeys,
    /// Two keys have the same `kid`, so a `kid` does not name one key.
    #[error("key set has two keys with kid {0:?}")]
    DuplicateKid(Kid),
}

/// Why tokens cannot be checked: what could not be obtained from the issuer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No fetch has ended yet. A call that does not wait returns this before the first fetch.
    #[error("not fetched yet")]
    NotFetched,
    /// The issuer did not respond in time.
    #[error("issuer did not respond in time")]
    TimedOut,
    /// The connection failed.
    #[error("issuer cannot be reached: {0}")]
    Transport(Arc<str>),
    /// The issuer responded with a status other than 200. Redirects are not followed.
    #[error("issuer responded with status {0}")]
    Status(u16),
    /// The response is compressed, or is a 304 although no `ETag` was sent.
    #[error("unexpected response from the issuer")]
    Unexpected,
    /// The response is not a key set.
    #[error(transparent)]
    Jwks(#[from] JwksError),
    /// The response has no usable key.
    #[error("key set has no usable key")]
    NoUsableKey,
    /// The response is older than the key set in use: it comes from a cache.
    #[error("key set has keys_version {offered:?}, lower than {held:?}")]
    RolledBack {
        /// `keys_version` of the key set in use.
        held: Option<u64>,
        /// `keys_version` of the response.
        offered: Option<u64>,
    },
    /// Knowledge of revocations is older than the limit set with
    /// [`deny_when_stale`](crate::VerifierBuilder::deny_when_stale).
    #[error("revocations last complete {}, limit {} s", age(*staleness), limit.0)]
    StaleRevocations {
        /// How long ago all revocations were known, in seconds rounded up; `None` if they never were.
        staleness: Option<Seconds>,
        /// The configured limit.
        limit: Seconds,
    },
    /// Fetching needs a Tokio runtime, and the call came from outside one.
    #[error("not inside a Tokio runtime")]
    NoRuntime,
}

impl FetchError {
    /// A [`Transport`](Self::Transport) error. `cause` is shown in logs and must not contain secrets.
    pub fn transport(cause: impl fmt::Display) -> Self {
        Self::Transport(cause.to_string().into())
    }
}

fn age(staleness: Option<Seconds>) -> String {
    staleness.map_or_else(|| "never".to_owned(), |seconds| format!("{} s ago", seconds.0))
}

/// Why the revocation feed was lost or could not be opened, or why a document from it was refused.
///
/// This alone never refuses a token: revocations received before stay in effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The issuer has no feed: it responded with 404, and no document was ever received. After the first
    /// document, a 404 is a [`Status`](Self::Status).
    #[error("issuer has no revocation feed")]
    NoFeed,
    /// The issuer did not respond in time.
    #[error("issuer did not respond in time")]
    TimedOut,
    /// The connection failed.
    #[error("stream failed: {0}")]
    Transport(Arc<str>),
    /// The issuer responded with a status other than 200. Redirects are not followed.
    #[error("issuer responded with status {0}")]
    Status(u16),
    /// The response is compressed, or not `text/event-stream`.
    #[error("response is not an event stream")]
    NotEvents,
    /// The stream ended, for example because a replica was stopped.
    #[error("stream ended")]
    Ended,
    /// No document could be verified for 5 s.
    #[error("no verified document for 5 s")]
    Silent,
    /// Documents arrive, but `as_of` does not advance: the replica has lost its database.
    #[error("documents no longer advance")]
    StandsStill,
    /// A document or line exceeds 16 MiB.
    #[error("document is larger than 16 MiB")]
    TooLarge,
    /// The stream is not UTF-8 server-sent events, or the data of an event is invalid.
    #[error("malformed event")]
    BadEvent,
    /// A delta continues a document that was not received.
    #[error("gap in the stream")]
    Gap,
    /// A document failed a check. The checks are those of tokens.
    #[error("document refused: {0}")]
    Document(#[from] Reason),
}

impl FeedError {
    /// A [`Transport`](Self::Transport) error. `cause` is shown in logs and must not contain secrets.
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
