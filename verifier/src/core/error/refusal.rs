//! What to tell a client whose request is refused.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use super::issuer::FetchError;
use super::reason::Reason;
use crate::core::time::Seconds;

/// Why a request is refused.
///
/// The variants lead to three different responses: the token is invalid, the token is valid but lacks a
/// permission, or the token cannot be checked. No message contains any part of a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// 401: the token is not valid here. The client needs a new one.
    #[error("invalid token: {0}")]
    Invalid(#[from] Reason),
    /// 403: the token is valid but does not grant the permission.
    #[error("{0}")]
    Forbidden(Missing),
    /// 503: the token cannot be checked, because there is no usable key set or because knowledge of
    /// revocations is too old. The client may retry.
    #[error("cannot check the token: {0}")]
    Unavailable(#[from] FetchError),
}

impl VerifyError {
    /// The HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Invalid(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The stable `code` in the body of the response: `invalid_token`, `insufficient_scope` or `unavailable`.
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

    /// The value of `WWW-Authenticate` (RFC 6750 §3); `None` for a response without it.
    ///
    /// It is the same for every invalid token: the reason is for the log, not for the sender.
    pub fn www_authenticate(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Invalid(_) => Some(r#"Bearer error="invalid_token""#.into()),
            Self::Forbidden(missing) => Some(missing.challenge()),
            Self::Unavailable(_) => None,
        }
    }

    /// The value of `Retry-After`; `None` for a response without it.
    pub fn retry_after(&self) -> Option<Seconds> {
        matches!(self, Self::Unavailable(_)).then_some(Seconds(2))
    }
}

/// The required permissions, when a valid token does not grant them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    permissions: Arc<[String]>,
    any: bool,
}

impl Missing {
    pub(crate) fn new(permissions: Arc<[String]>, any: bool) -> Self {
        Self { permissions, any }
    }

    /// The required permissions: all of them, or one if [`any`](Self::any).
    pub fn permissions(&self) -> &[String] {
        &self.permissions
    }

    /// Returns whether one of the permissions would have been enough.
    pub fn any(&self) -> bool {
        self.any
    }

    /// `scope` lists the required permissions (RFC 6750 §3). Its grammar excludes quotes and control
    /// characters; if a permission contains one, the list is left out.
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
