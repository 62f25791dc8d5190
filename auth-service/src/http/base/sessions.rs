//! Lists of sessions, for users and for operators.

use axum::response::Response;
use serde::Serialize;
use verifier::UnixTime;

use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::http::base::error::Problem;
use crate::http::base::page::PageQuery;
use crate::http::base::wire::private;
use crate::runtime::app::App;
use crate::view::SessionView;

/// A page of a user's live sessions. `current` is the caller's session if the sessions are the caller's own.
pub(in crate::http) async fn session_page(
    app: &App,
    user: UserId,
    current: Option<SessionId>,
    query: &PageQuery,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct SessionList {
        sessions: Vec<SessionView>,
        next: Option<String>,
    }
    let after = query.after(|place| {
        let (at, id) = place.split_once(' ')?;
        Some((UnixTime(at.parse().ok()?), SessionId::parse(id)?.to_string()))
    })?;
    let mut sessions = app.store.sessions_of(user, after, query.limit()?).await?;
    let next = query.next(&mut sessions, |last| format!("{} {}", last.created_at.0, last.id));
    let sessions = sessions.into_iter().map(|session| SessionView::new(session, current)).collect();
    Ok(private(SessionList { sessions, next }))
}
