//! What to tell the client whose request may not go on.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use super::issuer::FetchError;
use super::reason::Reason;
use crate::core::time::Seconds;

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
