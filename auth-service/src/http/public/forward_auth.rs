//! Forward authentication: a proxy checks a request here before it forwards it (nginx `auth_request`, Caddy and Traefik
//! `forward_auth`). The status of the response decides; its headers name the caller to the service.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any};
use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;

use crate::config::Settings;
use crate::domain::user::{Permission, PermissionSet};
use crate::flows::{Admitted, Needed, forward_auth};
use crate::http::base::SharedApp;
use crate::http::base::caller::Bearer;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::extract::Parameters;
use crate::http::base::wire::NO_STORE;

const SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
const ROLES: HeaderName = HeaderName::from_static("x-auth-roles");
const PERMISSIONS: HeaderName = HeaderName::from_static("x-auth-permissions");
const SESSION: HeaderName = HeaderName::from_static("x-auth-session");

/// Accepts every method: some proxies use that of the original request.
pub(in crate::http) fn route() -> MethodRouter<SharedApp> {
    any(verify)
}

async fn verify(
    State(app): State<SharedApp>,
    Parameters(query): Parameters<Vec<(String, String)>>,
    Bearer(token): Bearer,
) -> Result<Response, Problem> {
    let needed = needed(&query, &app.settings())?;
    let token = token.ok_or_else(|| Problem::new(Code::MissingToken))?;
    let admitted = forward_auth(&app, token.expose_secret(), &needed).await?;
    headers(&admitted).map_err(|cause| Problem::new(Code::InternalError).cause(cause))
}

/// What the proxy requires, from the query. Anything unknown is refused, so that a mistake in the proxy's configuration does
/// not grant access.
fn needed(query: &[(String, String)], settings: &Settings) -> Result<Needed, Problem> {
    let (mut audiences, mut permissions) = (Vec::new(), Vec::new());
    for (name, value) in query {
        match name.as_str() {
            "audience" if settings.audiences.contains(value) => audiences.push(value.clone()),
            "audience" => {
                return Err(Problem::new(Code::InvalidTarget).detail("`audience` must be one of `audiences`"));
            }
            "permission" => {
                for permission in value.split(' ') {
                    let refusal = |error: crate::domain::user::PermissionError| {
                        Problem::new(Code::InvalidPermission).detail(error.to_string())
                    };
                    permissions.push(Permission::parse(permission).map_err(refusal)?);
                }
            }
            _ => {
                return Err(Problem::new(Code::MalformedRequest)
                    .detail("the query parameters are `audience` and `permission`"));
            }
        }
    }
    if audiences.is_empty() {
        // As at login, the first audience is the default.
        audiences.extend(settings.audiences.first().cloned());
    }
    Ok(Needed { audiences, permissions: permissions.into_iter().collect::<PermissionSet>() })
}

/// Always sets all four headers, empty ones included: a proxy that copies them must overwrite those of the client.
fn headers(Admitted { token, session_id }: &Admitted) -> Result<Response, http::header::InvalidHeaderValue> {
    let permissions = token.scopes().collect::<Vec<_>>().join(" ");
    let headers = [
        NO_STORE,
        (SUBJECT, HeaderValue::from_str(token.subject())?),
        (ROLES, HeaderValue::from_str(&token.roles().join(" "))?),
        (PERMISSIONS, HeaderValue::from_str(&permissions)?),
        (SESSION, HeaderValue::try_from(session_id.to_string())?),
    ];
    Ok(headers.into_response())
}
