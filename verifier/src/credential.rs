//! The token in a request, and the answer when it does not suffice. Shared by all adapters.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::error::VerifyError;

/// Why a request is not let through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// 401 without an error code (RFC 6750 §3.1): no token was sent.
    #[error("no access token")]
    MissingToken,
    /// 400: more than one credential, or one that is no token.
    #[error("more than one credential, or a malformed one")]
    MalformedCredential,
    /// The token is bad, does not suffice, or cannot be checked.
    #[error(transparent)]
    Refused(#[from] VerifyError),
    /// 500: the route asks who is calling, and no `VerifyLayer` lies around it.
    #[error("no VerifyLayer lies around this route")]
    NoLayer,
}

impl AuthError {
    /// The HTTP status that says it.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken => StatusCode::UNAUTHORIZED,
            Self::MalformedCredential => StatusCode::BAD_REQUEST,
            Self::Refused(error) => error.status(),
            Self::NoLayer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable code in the body of the answer: `missing_token`, `invalid_request`, `internal_error`, or
    /// that of the [`VerifyError`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::MalformedCredential => "invalid_request",
            Self::Refused(error) => error.code(),
            Self::NoLayer => "internal_error",
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3), for the answers that have one.
    pub fn www_authenticate(&self) -> Option<Cow<'static, str>> {
        match self {
            // No error code, and still at least one parameter: RFC 6750 §3 wants one after the scheme.
            Self::MissingToken => Some(r#"Bearer realm="api""#.into()),
            Self::MalformedCredential => Some(r#"Bearer error="invalid_request""#.into()),
            Self::Refused(error) => error.www_authenticate(),
            Self::NoLayer => None,
        }
    }

    /// The whole answer: status, challenge, `Retry-After`, and an RFC 9457 body with `code`. The reason why a
    /// token is bad is not in it; log `self` for that.
    pub fn into_response<B: From<String>>(self) -> Response<B> {
        let (status, title) = (self.status(), self.title());
        let body = serde_json::json!({
            "type": "about:blank", "title": title, "status": status.as_u16(), "code": self.code(),
        });
        let mut response = Response::new(B::from(body.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(challenge) = self.www_authenticate().and_then(|text| HeaderValue::try_from(&*text).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Self::Refused(error) = &self
            && let Some(seconds) = error.retry_after()
        {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.0));
        }
        response
    }

    /// The same for every answer of one `code`.
    fn title(&self) -> &'static str {
        match self {
            Self::MissingToken => "An access token is required",
            Self::MalformedCredential => "The credential is malformed",
            Self::Refused(VerifyError::Invalid(_)) => "The access token is not valid",
            Self::Refused(VerifyError::Forbidden(_)) => "The access token does not grant this",
            Self::Refused(VerifyError::Unavailable(_)) => "Access tokens cannot be checked at the moment",
            Self::NoLayer => "Something went wrong on our side",
        }
    }
}

/// The token of `Authorization: Bearer …` (RFC 6750 §2.1); the scheme in any case.
///
/// ```
/// use http::header::{AUTHORIZATION, HeaderMap};
/// use verifier::{AuthError, bearer_token};
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(bearer_token(&headers), Err(AuthError::MissingToken));
/// headers.insert(AUTHORIZATION, "bearer abc".parse()?);
/// assert_eq!(bearer_token(&headers), Ok("abc"));
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
///
/// # Errors
/// [`AuthError::MissingToken`] without the header or with another scheme. [`AuthError::MalformedCredential`]
/// when the header stands twice, since a proxy may have looked at the other one, or holds more or less than
/// one token.
pub fn bearer_token(headers: &HeaderMap) -> Result<&str, AuthError> {
    let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
    let credential = credentials.next().ok_or(AuthError::MissingToken)?;
    if credentials.next().is_some() {
        return Err(AuthError::MalformedCredential);
    }
    let credential = credential.to_str().map_err(|_| AuthError::MalformedCredential)?;
    let (scheme, token) = credential.split_once(' ').unwrap_or((credential, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::MissingToken);
    }
    // RFC 9110 §11.4 allows several spaces after the scheme, and none inside a token.
    let token = token.trim_start_matches(' ');
    if token.is_empty() || token.contains([' ', '\t', ',']) {
        return Err(AuthError::MalformedCredential);
    }
    Ok(token)
}
