//! Lists of sessions, for users and for operators.

use axum::response::Response;
use serde::Serialize;
use verifier::UnixTime;

use crate::domain::session::{Session, SessionId};
use crate::domain::user::UserId;
use crate::http::base::error::Problem;
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{Timestamp, private};
use crate::runtime::app::App;

/// A page of a user's live sessions. `current` is the caller's session if the sessions are the caller's own.
pub(in crate::http) async fn session_page(
    app: &App,
    user: UserId,
    current: Option<SessionId>,
    query: &PageQuery,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct SessionList {
        sessions: Vec<SessionResponse>,
        next: Option<String>,
    }
    let after = query.after(|place| {
        let (at, id) = place.split_once(' ')?;
        Some((UnixTime(at.parse().ok()?), SessionId::parse(id)?.to_string()))
    })?;
    let mut sessions = app.store.sessions_of(user, after, query.limit()?).await?;
    let next = query.next(&mut sessions, |last| format!("{} {}", last.created_at.0, last.id));
    let sessions = sessions.into_iter().map(|session| SessionResponse::new(session, current)).collect();
    Ok(private(SessionList { sessions, next }))
}

#[derive(Serialize)]
struct SessionResponse {
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

impl SessionResponse {
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
