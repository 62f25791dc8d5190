//! Why a token is refused.

use crate::core::time::{Seconds, UnixTime};

/// Why a token is not valid here, in the order of the checks.
///
/// [`label`](Self::label) is stable between releases, the message is not. No message contains any part of a
/// token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The token is longer than 8 KiB.
    #[error("token longer than 8 KiB")]
    TooLong,
    /// The token is not three parts of canonical base64url (RFC 7515 §7.1).
    #[error("not three parts of base64url")]
    NotJws,
    /// The header is not a JSON object of the right types, or its `kid` is empty or longer than 256 bytes.
    #[error("malformed header")]
    BadHeader,
    /// The header or the claims have two members of one name (RFC 7515 §4, RFC 7519 §4).
    #[error("duplicate member")]
    DuplicateName,
    /// The header requires an extension (RFC 7515 §4.1.11, RFC 7797); none is supported.
    #[error("unsupported critical header extension")]
    CriticalHeader,
    /// `typ` is not `at+jwt` (RFC 9068 §4): this may be another token of the issuer, but it is not an access
    /// token.
    #[error("unexpected typ: not an access token")]
    WrongType,
    /// `alg` is not one of [`Algorithm::ALL`](crate::Algorithm::ALL).
    #[error("unsupported algorithm")]
    UnsupportedAlgorithm,
    /// The header has no `kid`.
    #[error("missing kid")]
    MissingKid,
    /// The issuer does not publish a key with this `kid`.
    #[error("unknown key")]
    UnknownKey,
    /// The key is for another algorithm than the header names (RFC 8725 §3.1).
    #[error("algorithm does not match the key")]
    WrongAlgorithm,
    /// The signature does not match header and claims.
    #[error("invalid signature")]
    BadSignature,
    /// The claims are not a JSON object.
    #[error("malformed claims")]
    BadClaims,
    /// This claim has the wrong type, or a number out of range.
    #[error("malformed claim {0}")]
    BadClaim(&'static str),
    /// This required claim (RFC 9068 §2.2) is absent or empty.
    #[error("missing claim {0}")]
    MissingClaim(&'static str),
    /// `iss` is not the expected issuer.
    #[error("unexpected issuer")]
    WrongIssuer,
    /// `aud` contains none of the expected audiences.
    #[error("unexpected audience")]
    WrongAudience,
    /// The token expired at `exp`, and the leeway after it is over.
    #[error("expired at {}, now {}", exp.0, now.0)]
    Expired {
        /// When the token expired.
        exp: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The token is not valid before `nbf`, which is later than now by more than the leeway.
    #[error("not valid before {}, now {}", nbf.0, now.0)]
    NotYetValid {
        /// When the token becomes valid.
        nbf: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// `iat` is later than now by more than the leeway.
    #[error("issued in the future: at {}, now {}", iat.0, now.0)]
    IssuedInFuture {
        /// When the token claims to have been issued.
        iat: UnixTime,
        /// The time of the check.
        now: UnixTime,
    },
    /// The lifetime exceeds the limit; see [`max_token_life`](crate::VerifierBuilder::max_token_life).
    #[error("lifetime of {} s exceeds the limit of {} s", life.0, limit.0)]
    LivesTooLong {
        /// The time from `iat` to `exp`.
        life: Seconds,
        /// The longest lifetime accepted.
        limit: Seconds,
    },
    /// The issuer has revoked the signing key: somebody else may have it.
    #[error("revoked key")]
    RevokedKey,
    /// The session of the token was ended: by logout, by an administrator, or because a credential was
    /// stolen.
    #[error("revoked session")]
    RevokedSession,
    /// The custom claims do not deserialize into the type that the caller asked for.
    #[error("custom claims do not match their type")]
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
