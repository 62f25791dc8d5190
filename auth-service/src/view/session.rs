use serde::Serialize;

use super::Timestamp;
use crate::domain::session::{Session, SessionId};
use crate::store::LiveSession;

/// A session.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `Session` in openapi.yaml")]
pub struct SessionView {
    pub id: String,
    pub client_id: String,
    pub audience: String,
    pub scope: String,
    pub created_at: Timestamp,
    pub refreshed_at: Timestamp,
    pub auth_time: Timestamp,
    pub idle_expires_at: Timestamp,
    pub expires_at: Timestamp,
    pub user_agent: Option<String>,
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<bool>,
}

impl SessionView {
    /// A session in a list. `current` is the caller's session if the list is of the caller's own sessions.
    pub fn new(session: Session, current: Option<SessionId>) -> Self {
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

/// A session in a list of the sessions of many users.
#[derive(Clone, Debug, Serialize)]
pub struct SessionOfUserView {
    /// The id of the user.
    pub user_id: String,
    /// The name of the user.
    pub username: String,
    /// The session.
    #[serde(flatten)]
    pub session: SessionView,
}

impl From<LiveSession> for SessionOfUserView {
    fn from(live: LiveSession) -> Self {
        Self {
            user_id: live.session.user_id.to_string(),
            username: live.user.username,
            session: SessionView::new(live.session, None),
        }
    }
}
