//! Why a token is refused, and what to tell the client about it.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use crate::key_set::JwksError;
use crate::time::{Seconds, UnixTime};

/// Why a request may not go on.
///
/// The variants are three different answers: the token is bad, the token is good but may not do this, and we
/// cannot tell. No message contains a token or any part of one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// 401: the token is not valid here. The client needs another one.
    #[error("token refused: {0}")]
    Invalid(#[from] Reason),
    /// 403: the token is valid and does not grant what is asked.
    #[error("{0}")]
    Forbidden(Missing),
    /// 503: there is no usable key set, or what has been revoked is not known well enough, so nothing can be
    /// said about the token. The client may retry.
    #[error("cannot tell: {0}")]
    Unavailable(#[from] FetchError),
}

impl VerifyError {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable code for the body of the answer: `invalid_token`, `insufficient_scope` or `unavailable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_token",
            Self::Forbidden(_) => "insufficient_scope",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// A stable label for logs and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Invalid(reason) => reason.label(),
            Self::Unavailable(FetchError::StaleRevocations { .. }) => "stale_revocations",
            _ => self.code(),
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3), for the answers that have one.
    ///
    /// It is the same for every bad token: the reason is for our logs, not for whoever sent it.
    pub fn www_authenticate(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Invalid(_) => Some(r#"Bearer error="invalid_token""#.into()),
            Self::Forbidden(missing) => Some(missing.challenge()),
            Self::Unavailable(_) => None,
        }
    }

    /// The value of `Retry-After`, for the answers that have one.
    pub fn retry_after(&self) -> Option<Seconds> {
        matches!(self, Self::Unavailable(_)).then_some(Seconds(2))
    }
}

/// Why a token is not valid here, in the order in which it is checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Longer than 8 KiB.
    #[error("longer than 8 KiB")]
    TooLong,
    /// Not three parts of canonical base64url.
    #[error("not three parts of base64url")]
    NotJws,
    /// The header is not a JSON object of the right types, or its `kid` is empty or longer than 256 bytes.
    #[error("header is malformed")]
    BadHeader,
    /// A name stands twice in the header or in the claims (RFC 7515 §4, RFC 7519 §4).
    #[error("a name stands twice")]
    DuplicateName,
    /// The header asks for an extension to be understood (RFC 7515 §4.1.11, RFC 7797); none is.
    #[error("header names a critical extension")]
    CriticalHeader,
    /// `typ` is not `at+jwt` (RFC 9068 §4): some other token of this issuer, not an access token.
    #[error("typ is another one")]
    WrongType,
    /// `alg` is not one of ours.
    #[error("algorithm is not accepted")]
    UnsupportedAlgorithm,
    /// The header names no key.
    #[error("header has no kid")]
    MissingKid,
    /// The issuer publishes no such key.
    #[error("key is unknown")]
    UnknownKey,
    /// The key belongs to another algorithm than the header says (RFC 8725 §3.1).
    #[error("algorithm does not belong to the key")]
    WrongAlgorithm,
    /// The signature is not the key's over this header and these claims.
    #[error("signature does not match")]
    BadSignature,
    /// The claims are not a JSON object.
    #[error("claims are malformed")]
    BadClaims,
    /// This claim has the wrong type, or a number out of range.
    #[error("claim {0} is malformed")]
    BadClaim(&'static str),
    /// This claim is required (RFC 9068 §2.2) and absent or empty.
    #[error("claim {0} is missing")]
    MissingClaim(&'static str),
    /// `iss` is not the expected issuer.
    #[error("issuer is another one")]
    WrongIssuer,
    /// `aud` names none of the expected audiences.
    #[error("audience is another one")]
    WrongAudience,
    /// The token ended at `exp`; leeway has been granted.
    #[error("expired at {}, now {}", exp.0, now.0)]
    Expired {
        /// When the token ended.
        exp: UnixTime,
        /// When it was shown.
        now: UnixTime,
    },
    /// The token starts at `nbf`; leeway has been granted.
    #[error("not valid before {}, now {}", nbf.0, now.0)]
    NotYetValid {
        /// When the token starts.
        nbf: UnixTime,
        /// When it was shown.
        now: UnixTime,
    },
    /// The token says it was issued later than now; leeway has been granted.
    #[error("issued at {}, now {}", iat.0, now.0)]
    IssuedInFuture {
        /// When the token says it was issued.
        iat: UnixTime,
        /// When it was shown.
        now: UnixTime,
    },
    /// The token lives longer than any access token should.
    #[error("lives for {} s, limit {} s", life.0, limit.0)]
    LivesTooLong {
        /// From `iat` to `exp`.
        life: Seconds,
        /// The longest life accepted.
        limit: Seconds,
    },
    /// The key that signed is known to be in other hands.
    #[error("key is revoked")]
    RevokedKey,
    /// The token's session was ended: by logout, by an administrator, or because a credential was stolen.
    #[error("session is revoked")]
    RevokedSession,
    /// The claims do not fit the type that the caller asked for.
    #[error("custom claims do not fit their type")]
    CustomClaims,
}

impl Reason {
    /// A stable label for logs and metrics, in `snake_case`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::NotJws => "not_jws",
            Self::BadHeader => "bad_header",
            Self::DuplicateName => "duplicate_name",
            Self::CriticalHeader => "critical_header",
            Self::WrongType => "wrong_type",
            Self::UnsupportedAlgorithm => "unsupported_algorithm",
            Self::MissingKid => "missing_kid",
            Self::UnknownKey => "unknown_key",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::BadClaims => "bad_claims",
            Self::BadClaim(_) => "bad_claim",
            Self::MissingClaim(_) => "missing_claim",
            Self::WrongIssuer => "wrong_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::IssuedInFuture { .. } => "issued_in_future",
            Self::LivesTooLong { .. } => "lives_too_long",
            Self::RevokedKey => "revoked_key",
            Self::RevokedSession => "revoked_session",
            Self::CustomClaims => "custom_claims",
        }
    }
}

/// The permissions that were asked for, when a valid token does not grant them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    permissions: Arc<[String]>,
    any: bool,
}

impl Missing {
    pub(crate) fn new(permissions: Arc<[String]>, any: bool) -> Self {
        Self { permissions, any }
    }

    /// What was asked for: all of these, or one of them.
    pub fn permissions(&self) -> &[String] {
        &self.permissions
    }

    /// Whether one of the permissions would have been enough.
    pub fn any(&self) -> bool {
        self.any
    }

    /// `scope` lists what is needed (RFC 6750 §3). Its grammar has no quotes or control characters; should a
    /// permission have one, the list is left out.
    fn challenge(&self) -> Cow<'static, str> {
        let scope = self.permissions.join(" ");
        if !scope.is_empty()
            && scope.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
        {
            format!(r#"Bearer error="insufficient_scope", scope="{scope}""#).into()
        } else {
            r#"Bearer error="insufficient_scope""#.into()
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let which = if self.any { "one of" } else { "all of" };
        write!(f, "token does not grant {which}: {}", self.permissions.join(" "))
    }
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
    #[error("key set has auth_ring {offered:?}, older than {held:?}")]
    RolledBack {
        /// `auth_ring` of the key set in hand.
        held: Option<u64>,
        /// `auth_ring` of the answer.
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
