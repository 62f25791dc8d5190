//! Finds the token in a request, and makes the response if it is refused. Shared by all adapters.

use std::borrow::Cow;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use crate::core::base64url;
use crate::core::error::VerifyError;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// 401 without an error code (RFC 6750 §3.1): the request has no token.
    #[error("no access token")]
    MissingToken,
    /// 400: the request has more than one credential, or a malformed one.
    #[error("more than one credential, or a malformed one")]
    MalformedCredential,
    /// The token is invalid, lacks a permission, or cannot be checked.
    #[error(transparent)]
    Refused(#[from] VerifyError),
    /// 500: the route needs a token, but there is no `VerifyLayer` around it.
    #[error("no VerifyLayer around this route")]
    NoLayer,
}

impl AuthError {
    /// The HTTP status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken => StatusCode::UNAUTHORIZED,
            Self::MalformedCredential => StatusCode::BAD_REQUEST,
            Self::Refused(error) => error.status(),
            Self::NoLayer => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The stable `code` in the body of the response: `missing_token`, `invalid_request`, `internal_error`,
    /// or that of the [`VerifyError`].
    pub fn code(&self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::MalformedCredential => "invalid_request",
            Self::Refused(error) => error.code(),
            Self::NoLayer => "internal_error",
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3); `None` for a response without it.
    pub fn www_authenticate(&self) -> Option<Cow<'static, str>> {
        match self {
            // No error code, but RFC 6750 §3 requires a parameter after the scheme.
            Self::MissingToken => Some(r#"Bearer realm="api""#.into()),
            Self::MalformedCredential => Some(r#"Bearer error="invalid_request""#.into()),
            Self::Refused(error) => error.www_authenticate(),
            Self::NoLayer => None,
        }
    }

    /// The complete response: status, challenge, `Retry-After`, and an RFC 9457 body with `code`. It does not
    /// contain the reason why a token is invalid; log `self` for that.
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

    /// The `title` of the body, the same for every response with one `code`.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            Self::MissingToken => "An access token is required",
            Self::MalformedCredential => "The credential is malformed",
            Self::Refused(VerifyError::Invalid(_)) => "The access token is not valid",
            Self::Refused(VerifyError::Forbidden(_)) => {
                "The access token does not grant the required permission"
            }
            Self::Refused(VerifyError::Unavailable(_)) => "Access tokens cannot be checked at the moment",
            Self::NoLayer => "Internal error",
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
/// if there are two such headers, since a proxy may have checked the other one, or if the value is not
/// exactly one token.
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

/// The prefix of the entry of `Sec-WebSocket-Protocol` with the token. It is the one of Kubernetes, and not
/// configurable, so that a client works with every server.
const WEBSOCKET_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Removes the token from the opening handshake of a WebSocket (RFC 6455 §4.1) and returns it. This is for
/// browsers, which cannot send `Authorization` there.
///
/// The client offers two subprotocols or more: `base64url.bearer.authorization.k8s.io.` with the token in
/// base64url without padding appended, and those it wants to speak. In a browser:
///
/// ```js
/// new WebSocket(url, ["chat", "base64url.bearer.authorization.k8s.io." + base64url(token)])
/// ```
///
/// The entry is removed, so that a handler cannot select it and echo the token. Subprotocols can appear in
/// logs, although less often than query strings: keep such tokens short-lived.
///
/// ```
/// use http::header::{HeaderMap, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION};
/// use verifier::take_websocket_token;
///
/// let mut headers = HeaderMap::new();
/// headers.insert(SEC_WEBSOCKET_VERSION, "13".parse()?);
/// headers.insert(SEC_WEBSOCKET_PROTOCOL, "chat, base64url.bearer.authorization.k8s.io.YS5iLmM".parse()?);
/// assert_eq!(take_websocket_token(&mut headers), Ok("a.b.c".to_owned()));
/// assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "chat");
/// # Ok::<(), http::header::InvalidHeaderValue>(())
/// ```
///
/// # Errors
/// [`AuthError::MissingToken`] if there is no such entry, or if the request is not an opening handshake (it
/// has no `Sec-WebSocket-Version`). [`AuthError::MalformedCredential`] if there are several entries, a
/// malformed one, no other subprotocol, or also an `Authorization` header.
pub fn take_websocket_token(headers: &mut HeaderMap) -> Result<String, AuthError> {
    if !headers.contains_key(header::SEC_WEBSOCKET_VERSION) {
        return Err(AuthError::MissingToken);
    }
    let (mut token, mut others) = (None, Vec::new());
    for line in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
        let line = line.to_str().map_err(|_| AuthError::MalformedCredential)?;
        for entry in line.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let Some(encoded) = entry.strip_prefix(WEBSOCKET_PREFIX) else {
                others.push(entry);
                continue;
            };
            if token.replace(encoded).is_some() {
                return Err(AuthError::MalformedCredential);
            }
        }
    }
    let encoded = token.ok_or(AuthError::MissingToken)?;
    // Another subprotocol must remain to be selected: a browser closes the connection if none is.
    if others.is_empty() || headers.contains_key(header::AUTHORIZATION) {
        return Err(AuthError::MalformedCredential);
    }
    let token = base64url::decode(encoded).and_then(|token| String::from_utf8(token).ok());
    let token = token.filter(|token| !token.is_empty()).ok_or(AuthError::MalformedCredential)?;
    let others = HeaderValue::try_from(others.join(", ")).map_err(|_| AuthError::MalformedCredential)?;
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    Ok(token)
}
