//! Log in, refresh, log out.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::domain::not_null;
use crate::flows::{self, LoginError, LoginRequest, LogoutCredential, RefreshError, TokenPair};
use crate::http::base::SharedApp;
use crate::http::base::body::{JsonBody, OptionalJsonBody};
use crate::http::base::caller::Bearer;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::extract::ClientOrigin;
use crate::http::base::wire::private;

pub(in crate::http) async fn login(
    State(app): State<SharedApp>,
    ClientOrigin(origin): ClientOrigin,
    JsonBody(request): JsonBody<LoginRequest>,
) -> Result<Response, Problem> {
    let outcome = flows::login(&app, LoginRequest { origin, ..request }).await;
    let label = match &outcome {
        Ok(_) => "success",
        Err(LoginError::InvalidCredentials) => "invalid_credentials",
        Err(LoginError::Throttled(_)) => "throttled",
        Err(LoginError::InvalidTarget | LoginError::InvalidScope) => "refused",
        Err(LoginError::Hash(_)) => "overloaded",
        Err(LoginError::Store(_) | LoginError::Issue(_) | LoginError::Entropy(_)) => "unavailable",
    };
    metrics::counter!("auth_logins_total", "outcome" => label).increment(1);
    let flows::Login { tokens, device } = outcome?;
    Ok(private(TokenResponse { device: Some(device.expose_secret()), ..TokenResponse::new(&tokens) }))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RefreshBody {
    refresh_token: SecretString,
    /// The device value of the login. Not used yet.
    #[serde(default, rename = "device", deserialize_with = "not_null")]
    _device: Option<SecretString>,
}

pub(in crate::http) async fn refresh(
    State(app): State<SharedApp>,
    JsonBody(body): JsonBody<RefreshBody>,
) -> Result<Response, Problem> {
    let outcome = flows::refresh(&app, body.refresh_token.expose_secret()).await;
    let label = match &outcome {
        Ok(_) => "success",
        Err(RefreshError::Invalid) => "invalid",
        Err(RefreshError::Reused) => "reused",
        Err(RefreshError::Contended | RefreshError::Store(_) | RefreshError::Issue(_)) => "unavailable",
    };
    metrics::counter!("auth_refreshes_total", "outcome" => label).increment(1);
    Ok(private(TokenResponse::new(&outcome?)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct LogoutBody {
    #[serde(default, deserialize_with = "not_null")]
    refresh_token: Option<SecretString>,
}

/// If both credentials are sent, the one in the body counts.
pub(in crate::http) async fn logout(
    State(app): State<SharedApp>,
    Bearer(bearer): Bearer,
    OptionalJsonBody(body): OptionalJsonBody<LogoutBody>,
) -> Result<StatusCode, Problem> {
    let in_body = body.and_then(|body| body.refresh_token);
    let (credential, refusal) = match (in_body, bearer) {
        (Some(token), _) => (LogoutCredential::RefreshToken(token), Code::InvalidRefreshToken),
        (None, Some(token)) => (LogoutCredential::Bearer(token), Code::InvalidToken),
        (None, None) => return Err(Problem::new(Code::MissingToken)),
    };
    flows::logout(&app, credential).await.map_err(|error| Problem::from_logout(error, refusal))?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Serialize)]
struct TokenResponse<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: i64,
    refresh_token: &'a str,
    refresh_expires_in: i64,
    scope: &'a str,
    session_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
}

impl<'a> TokenResponse<'a> {
    fn new(pair: &'a TokenPair) -> Self {
        Self {
            access_token: pair.access_token.expose_secret(),
            token_type: "Bearer",
            expires_in: pair.expires_in.0,
            refresh_token: pair.refresh_token.expose_secret(),
            refresh_expires_in: pair.refresh_expires_in.0,
            scope: &pair.scope,
            session_id: &pair.session_id,
            device: None,
        }
    }
}
