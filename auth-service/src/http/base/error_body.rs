//! The body of an error response. The group of a route decides which of the two it gets.

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use verifier::Seconds;

use crate::http::base::code::Code;
use crate::http::base::error::Unwritten;
use crate::http::base::wire::NO_STORE;
use crate::view::Timestamp;

/// The format of the error responses of a group of routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorBody {
    /// A problem document (RFC 9457).
    #[default]
    Problem,
    /// `error` and `error_description` (RFC 6749 §5.2), for OAuth endpoints.
    OAuth,
}

impl ErrorBody {
    /// Writes the body and the headers that belong to it. `jitter` (0 to 255) adds up to a few seconds to `Retry-After`, so
    /// that clients which were refused together do not come back together.
    pub(in crate::http) fn write(
        self,
        error: &Unwritten,
        response: &mut Response,
        request_id: &str,
        jitter: u8,
    ) {
        let body = match self {
            Self::Problem => problem(error, request_id),
            Self::OAuth => {
                *response.status_mut() = oauth_status(error.code);
                response.headers_mut().extend([NO_STORE]);
                oauth(error)
            }
        };
        let content_type = match self {
            Self::Problem => "application/problem+json",
            Self::OAuth => "application/json",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        if let Some(Seconds(wait)) = error.retry_after {
            let spread = wait.clamp(8, 40) / 4;
            let wait = wait.max(1) + i64::from(jitter) * spread / 255;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        *response.body_mut() = body.into();
    }
}

fn problem(error: &Unwritten, request_id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct ProblemBody<'a> {
        r#type: &'static str,
        title: &'static str,
        status: u16,
        code: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<&'a str>,
        request_id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        earliest_at: Option<Timestamp>,
    }
    let body = ProblemBody {
        r#type: "about:blank",
        title: error.code.title(),
        status: error.code.status().as_u16(),
        code: error.code.as_str(),
        detail: error.detail.as_deref(),
        request_id,
        earliest_at: error.earliest_at.map(Timestamp),
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

fn oauth(error: &Unwritten) -> Vec<u8> {
    #[derive(Serialize)]
    struct OAuthBody {
        error: &'static str,
        error_description: String,
    }
    let description = error.detail.as_deref().unwrap_or(error.code.title());
    let body = OAuthBody {
        error: oauth_error(error.code),
        // RFC 6749 §5.2 allows printable ASCII without quotation mark and backslash.
        error_description: description
            .chars()
            .map(|c| if matches!(c, ' '..='!' | '#'..='[' | ']'..='~') { c } else { '\'' })
            .collect(),
    };
    serde_json::to_vec(&body).unwrap_or_default()
}

/// The value of `error`: RFC 6749 §5.2, RFC 8707 §2 for audiences; for faults on our side those of RFC 6749 §4.1.2.1.
fn oauth_error(code: Code) -> &'static str {
    match code {
        Code::InvalidCredentials | Code::InvalidRefreshToken => "invalid_grant",
        Code::InvalidScope => "invalid_scope",
        Code::InvalidTarget => "invalid_target",
        Code::InternalError => "server_error",
        Code::TooManyAttempts | Code::Overloaded | Code::Unavailable => "temporarily_unavailable",
        _ => "invalid_request",
    }
}

/// A grant that is not valid is 400 there (RFC 6749 §5.2): 401 is about the authentication of the client.
fn oauth_status(code: Code) -> StatusCode {
    match code {
        Code::InvalidCredentials | Code::InvalidRefreshToken => StatusCode::BAD_REQUEST,
        other => other.status(),
    }
}
