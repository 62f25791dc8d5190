//! Every refusal a client can get: one table of codes, one way to write them (RFC 9457).
//!
//! A [`Problem`] becomes a response without a body; the outermost middleware writes the body, because only it knows the
//! request's id. That way a panic and an unknown path look like every other refusal.

use std::error::Error;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use verifier::{Seconds, UnixTime};

use crate::http::base::wire::Timestamp;

/// What went wrong, as clients see it. Codes are never renamed; more may be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the table in `facts` says what each one is")]
pub enum Code {
    MalformedRequest,
    InvalidTarget,
    InvalidScope,
    PasswordTooWeak,
    InvalidUsername,
    InvalidClaims,
    InvalidRoleName,
    InvalidPermission,
    UnknownRole,
    AlgorithmNotEnabled,
    InvalidSettings,
    InvalidCredentials,
    InvalidRefreshToken,
    MissingToken,
    InvalidToken,
    InsufficientScope,
    PrivilegeEscalation,
    NotFound,
    MethodNotAllowed,
    UsernameTaken,
    RotationPending,
    SettingsChanged,
    BodyTooLarge,
    UnsupportedMediaType,
    TooManyAttempts,
    InternalError,
    Overloaded,
    Unavailable,
}

impl Code {
    /// Every code there is.
    pub const ALL: [Self; 28] = [
        Self::MalformedRequest,
        Self::InvalidTarget,
        Self::InvalidScope,
        Self::PasswordTooWeak,
        Self::InvalidUsername,
        Self::InvalidClaims,
        Self::InvalidRoleName,
        Self::InvalidPermission,
        Self::UnknownRole,
        Self::AlgorithmNotEnabled,
        Self::InvalidSettings,
        Self::InvalidCredentials,
        Self::InvalidRefreshToken,
        Self::MissingToken,
        Self::InvalidToken,
        Self::InsufficientScope,
        Self::PrivilegeEscalation,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::UsernameTaken,
        Self::RotationPending,
        Self::SettingsChanged,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::TooManyAttempts,
        Self::InternalError,
        Self::Overloaded,
        Self::Unavailable,
    ];

    /// Status, `code` and `title`.
    pub const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::MalformedRequest => (S::BAD_REQUEST, "malformed_request", "The request is malformed"),
            Self::InvalidTarget => (S::BAD_REQUEST, "invalid_target", "This audience cannot be had"),
            Self::InvalidScope => (S::BAD_REQUEST, "invalid_scope", "This scope cannot be had"),
            Self::PasswordTooWeak => (S::BAD_REQUEST, "password_too_weak", "The password is too weak"),
            Self::InvalidUsername => (S::BAD_REQUEST, "invalid_username", "This is no user name"),
            Self::InvalidClaims => (S::BAD_REQUEST, "invalid_claims", "These claims cannot be set"),
            Self::InvalidRoleName => (S::BAD_REQUEST, "invalid_role_name", "This is no role name"),
            Self::InvalidPermission => (S::BAD_REQUEST, "invalid_permission", "This is no permission"),
            Self::UnknownRole => (S::BAD_REQUEST, "unknown_role", "There is no such role"),
            Self::AlgorithmNotEnabled => {
                (S::BAD_REQUEST, "algorithm_not_enabled", "No keys of this algorithm are kept")
            }
            Self::InvalidSettings => (S::BAD_REQUEST, "invalid_settings", "These settings cannot be used"),
            Self::InvalidCredentials => {
                (S::UNAUTHORIZED, "invalid_credentials", "Wrong user name or password")
            }
            Self::InvalidRefreshToken => {
                (S::UNAUTHORIZED, "invalid_refresh_token", "The refresh token is not valid")
            }
            Self::MissingToken => (S::UNAUTHORIZED, "missing_token", "An access token is needed"),
            Self::InvalidToken => (S::UNAUTHORIZED, "invalid_token", "The access token is not valid"),
            Self::InsufficientScope => (S::FORBIDDEN, "insufficient_scope", "A permission is missing"),
            Self::PrivilegeEscalation => {
                (S::FORBIDDEN, "privilege_escalation", "This takes permissions that you do not have")
            }
            Self::NotFound => (S::NOT_FOUND, "not_found", "There is nothing here"),
            Self::MethodNotAllowed => {
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", "The path has no such method")
            }
            Self::UsernameTaken => (S::CONFLICT, "username_taken", "The user name is taken"),
            Self::RotationPending => (S::CONFLICT, "rotation_pending", "A rotation is already announced"),
            Self::SettingsChanged => {
                (S::PRECONDITION_FAILED, "settings_changed", "The settings were changed in the meantime")
            }
            Self::BodyTooLarge => (S::PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (S::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body must be JSON")
            }
            Self::TooManyAttempts => (S::TOO_MANY_REQUESTS, "too_many_attempts", "Too many failed attempts"),
            Self::InternalError => (S::INTERNAL_SERVER_ERROR, "internal_error", "Something went wrong here"),
            Self::Overloaded => {
                (S::SERVICE_UNAVAILABLE, "overloaded", "Too many passwords are being checked")
            }
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "This cannot be done at the moment"),
        }
    }
}

/// A refusal, on its way to the client.
#[derive(Debug)]
pub(in crate::http) struct Problem {
    code: Code,
    detail: Option<String>,
    retry_after: Option<Seconds>,
    earliest_at: Option<UnixTime>,
    /// The permissions that are needed and not all there, for the challenge.
    permission: Option<String>,
    /// For the log only.
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    /// A refusal that its code explains.
    pub(in crate::http) fn new(code: Code) -> Self {
        Self { code, detail: None, retry_after: None, earliest_at: None, permission: None, cause: None }
    }

    /// Says more to the client. Never a secret, and nothing the client sent.
    pub(in crate::http) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Says when to come back, at the earliest.
    pub(in crate::http) fn retry_after(mut self, wait: Seconds) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says from when on the operation is possible.
    pub(in crate::http) fn earliest_at(mut self, at: UnixTime) -> Self {
        self.earliest_at = Some(at);
        self
    }

    /// Names what is needed: permissions separated by single spaces.
    pub(in crate::http) fn permission(mut self, needed: impl Into<String>) -> Self {
        self.permission = Some(needed.into());
        self
    }

    /// Keeps the cause for the log.
    pub(in crate::http) fn cause(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// What RFC 6750 §3 wants to read in `WWW-Authenticate`.
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
        let (status, code, _) = self.code.facts();
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
        let (status, code, title) = self.code.facts();
        let mut response = status.into_response();
        if let Some(challenge) = self.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if matches!(self.code, Code::InvalidCredentials | Code::InvalidRefreshToken) {
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let earliest_at = self.earliest_at.map(Timestamp);
        let needs_wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after = needs_wait.then(|| self.retry_after.unwrap_or(Seconds(1)));
        response.extensions_mut().insert(Unwritten {
            status,
            code,
            title,
            detail: self.detail,
            earliest_at,
            retry_after,
        });
        response
    }
}

/// A problem whose body is still to be written.
#[derive(Clone, Debug)]
pub(in crate::http) struct Unwritten {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: Option<String>,
    earliest_at: Option<Timestamp>,
    retry_after: Option<Seconds>,
}

impl Unwritten {
    /// Writes the body, and `Retry-After` with up to `jitter` (0 to 255) of a few seconds, so that clients which were turned
    /// away together do not come back together.
    pub(in crate::http) fn write(self, response: &mut Response, request_id: &str, jitter: u8) {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: &'static str,
            title: &'static str,
            status: u16,
            code: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            detail: Option<&'a str>,
            request_id: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            earliest_at: Option<&'a Timestamp>,
        }
        let body = Body {
            r#type: "about:blank",
            title: self.title,
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail.as_deref(),
            request_id,
            earliest_at: self.earliest_at.as_ref(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(Seconds(wait)) = self.retry_after {
            let spread = wait.clamp(8, 40) / 4;
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait.max(1) + i64::from(jitter) * spread / 255),
            );
        }
        *response.body_mut() = body.into();
    }
}

/// What a path without a route answers.
pub(in crate::http) async fn not_found() -> Problem {
    Problem::new(Code::NotFound)
}

/// What a path without this method answers; the router adds `Allow`.
pub(in crate::http) async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}
