//! What users do about themselves.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use verifier::UnixTime;

use crate::domain::password::Password;
use crate::domain::session::{Session, SessionId};
use crate::domain::user::UserId;
use crate::flows;
use crate::flows::sessions;
use crate::http::base::Shared;
use crate::http::base::error::Problem;
use crate::http::base::extract::{Body, From, Me, Parameters, Part};
use crate::http::base::wire::{PageQuery, Timestamp, private};
use crate::runtime::app::App;

pub(in crate::http) async fn show(State(_): State<Shared>, Me(caller): Me) -> Response {
    #[derive(Serialize)]
    struct Answer {
        sub: String,
        username: String,
        roles: Vec<String>,
        permissions: Vec<String>,
        session_id: String,
    }
    private(Answer {
        sub: caller.user_id.to_string(),
        username: caller.username,
        roles: caller.roles,
        permissions: caller.permissions.iter().map(ToString::to_string).collect(),
        session_id: caller.session_id.to_string(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct PasswordBody {
    current_password: Password,
    new_password: Password,
}

pub(in crate::http) async fn change_password(
    State(app): State<Shared>,
    Me(caller): Me,
    From(origin): From,
    Body(body): Body<PasswordBody>,
) -> Result<StatusCode, Problem> {
    flows::change_own_password(&app, &caller, body.current_password, body.new_password, &origin).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) async fn list_sessions(
    State(app): State<Shared>,
    Me(caller): Me,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    session_page(&app, caller.user_id, Some(caller.session_id), &query).await
}

pub(in crate::http) async fn end_other_sessions(
    State(app): State<Shared>,
    Me(caller): Me,
) -> Result<StatusCode, Problem> {
    sessions::end_others(&app, &caller).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) async fn end_session(
    State(app): State<Shared>,
    Me(caller): Me,
    id: Part,
) -> Result<StatusCode, Problem> {
    sessions::end_own(&app, &caller, id.read(SessionId::parse)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page of a user's live sessions; `current` is the one of the caller's token, when they are the caller's own.
pub(in crate::http) async fn session_page(
    app: &App,
    user: UserId,
    current: Option<SessionId>,
    query: &PageQuery,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct Answer {
        sessions: Vec<SessionAnswer>,
        next: Option<String>,
    }
    let after = query.after(|place| {
        let (at, id) = place.split_once(' ')?;
        Some((UnixTime(at.parse().ok()?), SessionId::parse(id)?.to_string()))
    })?;
    let mut sessions = app.store.sessions_of(user, after, query.limit()?).await?;
    let next = query.next(&mut sessions, |last| format!("{} {}", last.created_at.0, last.id));
    let sessions = sessions.into_iter().map(|session| SessionAnswer::new(session, current)).collect();
    Ok(private(Answer { sessions, next }))
}

#[derive(Serialize)]
struct SessionAnswer {
    id: String,
    client_id: String,
    audience: String,
    scope: String,
    created_at: Timestamp,
    refreshed_at: Timestamp,
    auth_time: Timestamp,
    idle_expires_at: Timestamp,
    expires_at: Timestamp,
    user_agent: Option<String>,
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<bool>,
}

impl SessionAnswer {
    fn new(session: Session, current: Option<SessionId>) -> Self {
        Self {
            id: session.id.to_string(),
            client_id: session.client_id,
            audience: session.audience,
            scope: session.scope.unwrap_or_default(),
            created_at: Timestamp(session.created_at),
            refreshed_at: Timestamp(session.refresh.refreshed_at),
            auth_time: Timestamp(session.auth_time),
            idle_expires_at: Timestamp(session.idle_expires_at),
            expires_at: Timestamp(session.expires_at),
            user_agent: session.user_agent,
            address: session.address,
            current: current.map(|current| current == session.id),
        }
    }
}
