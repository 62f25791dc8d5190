//! What users can see and do with their own account.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use crate::domain::not_null;
use crate::domain::password::Password;
use crate::domain::session::SessionId;
use crate::flows;
use crate::flows::sessions;
use crate::http::base::SharedApp;
use crate::http::base::body::JsonBody;
use crate::http::base::caller::Me;
use crate::http::base::error::Problem;
use crate::http::base::extract::{ClientOrigin, Parameters, Part};
use crate::http::base::page::PageQuery;
use crate::http::base::sessions::session_page;
use crate::http::base::wire::private;

pub(in crate::http) async fn show(State(_): State<SharedApp>, Me(caller): Me) -> Response {
    #[derive(Serialize)]
    struct Profile {
        sub: String,
        username: String,
        roles: Vec<String>,
        permissions: Vec<String>,
        session_id: String,
    }
    private(Profile {
        sub: caller.user_id.to_string(),
        username: caller.username,
        roles: caller.roles,
        permissions: caller.permissions.iter().map(ToString::to_string).collect(),
        session_id: caller.session_id.to_string(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PasswordChange {
    current_password: Password,
    new_password: Password,
    /// The caller's device value. A client that sends one gets the new one.
    #[serde(default, deserialize_with = "not_null")]
    device: Option<SecretString>,
}

pub(in crate::http) async fn change_password(
    State(app): State<SharedApp>,
    Me(caller): Me,
    ClientOrigin(origin): ClientOrigin,
    JsonBody(body): JsonBody<PasswordChange>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Changed<'a> {
        device: &'a str,
    }
    let PasswordChange { current_password, new_password, device } = body;
    let new = flows::change_own_password(&app, &caller, current_password, new_password, &origin).await?;
    Ok(match device {
        Some(_) => private(Changed { device: new.expose_secret() }),
        None => StatusCode::NO_CONTENT.into_response(),
    })
}

pub(in crate::http) async fn list_sessions(
    State(app): State<SharedApp>,
    Me(caller): Me,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    session_page(&app, caller.user_id, Some(caller.session_id), &query).await
}

pub(in crate::http) async fn end_other_sessions(
    State(app): State<SharedApp>,
    Me(caller): Me,
) -> Result<StatusCode, Problem> {
    sessions::end_others(&app.store, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) async fn end_session(
    State(app): State<SharedApp>,
    Me(caller): Me,
    id: Part,
) -> Result<StatusCode, Problem> {
    sessions::end_own(&app.store, &caller, id.read(SessionId::parse)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
