//! Why a token is refused.

use crate::core::time::{Seconds, UnixTime};

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
