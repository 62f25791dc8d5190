//! The error response to a request, as handlers return it.
//!
//! A [`Problem`] becomes a response without a body. The outermost middleware writes the body, because only it knows the
//! request's id and which body the route's group gets. A panic and an unknown path take the same way.

use std::error::Error;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use verifier::{Seconds, UnixTime};

use crate::http::base::code::Code;
use crate::http::base::wire::NO_STORE;

/// An error response in the making.
#[derive(Debug)]
pub(in crate::http) struct Problem {
    code: Code,
    detail: Option<String>,
    retry_after: Option<Seconds>,
    earliest_at: Option<UnixTime>,
    /// The required permissions, for the challenge.
    permission: Option<String>,
    /// For the log only.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// An error with nothing but its code.
    pub(in crate::http) fn new(code: Code) -> Self {
        Self { code, detail: None, retry_after: None, earliest_at: None, permission: None, cause: None }
    }

    /// Adds a text for the client. It must contain no secret and nothing that the client sent.
    pub(in crate::http) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the time to wait before a retry, 1 s by default. Sent with 429 and 503.
    pub(in crate::http) fn retry_after(mut self, wait: Seconds) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Sets the time from which the operation is possible.
    pub(in crate::http) fn earliest_at(mut self, at: UnixTime) -> Self {
        self.earliest_at = Some(at);
        self
    }

    /// A caller without the required permissions, which are separated by single spaces.
    pub(in crate::http) fn insufficient_scope(needed: &str) -> Self {
        let problem = Self::new(Code::InsufficientScope).detail(format!("requires {needed}"));
        Self { permission: Some(needed.to_owned()), ..problem }
    }

    /// Keeps the cause for the log.
    pub(in crate::http) fn cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3).
    fn challenge(&self) -> Option<String> {
        match (self.code, &self.permission) {
            (Code::MissingToken, _) => Some("Bearer".to_owned()),
            (Code::InvalidToken, _) => Some(r#"Bearer error="invalid_token""#.to_owned()),
            (Code::InsufficientScope, Some(permission)) => {
                Some(format!(r#"Bearer error="insufficient_scope", scope="{permission}""#))
            }
            (Code::InsufficientScope, None) => Some(r#"Bearer error="insufficient_scope""#.to_owned()),
            _ => None,
        }
    }

    fn log(&self) {
        let (status, code) = (self.code.status(), self.code.as_str());
        let cause = self.cause.as_ref().map(tracing::field::display);
        if self.code == Code::InternalError {
            tracing::error!(code, cause, "refused");
        } else if status.is_server_error() {
            tracing::warn!(code, cause, "refused");
        } else {
            tracing::debug!(code, cause, "refused");
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        self.log();
        let status = self.code.status();
        let mut response = status.into_response();
        let challenge = self.challenge().and_then(|text| HeaderValue::try_from(text).ok());
        let headers = response.headers_mut();
        headers.extend(challenge.map(|challenge| (header::WWW_AUTHENTICATE, challenge)));
        if matches!(self.code, Code::InvalidCredentials | Code::InvalidRefreshToken) {
            headers.extend([NO_STORE]);
        }
        let needs_wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        response.extensions_mut().insert(Unwritten {
            code: self.code,
            detail: self.detail,
            earliest_at: self.earliest_at,
            retry_after: needs_wait.then(|| self.retry_after.unwrap_or(Seconds(1))),
        });
        response
    }
}

/// An error whose body has not been written yet; an extension of the response.
#[derive(Clone, Debug)]
pub(in crate::http) struct Unwritten {
    pub(in crate::http) code: Code,
    pub(in crate::http) detail: Option<String>,
    pub(in crate::http) earliest_at: Option<UnixTime>,
    pub(in crate::http) retry_after: Option<Seconds>,
}

/// The response for a path without a route.
pub(in crate::http) async fn not_found() -> Problem {
    Problem::new(Code::NotFound)
}

/// The response for a path without this method; the router adds `Allow`.
pub(in crate::http) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}
