//! Sessions of any user.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;

use crate::domain::session::SessionId;
use crate::domain::user::UserId;
use crate::flows::sessions;
use crate::http::base::SharedApp;
use crate::http::base::caller::Operator;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::extract::{Parameters, Part};
use crate::http::base::page::PageQuery;
use crate::http::base::sessions::session_page;

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    id: Part,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    let user = id.read(UserId::parse)?;
    if app.store.find_user(user).await?.is_none() {
        return Err(Problem::new(Code::NotFound));
    }
    session_page(&app, user, None, &query).await
}

pub(in crate::http) async fn end_all(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
) -> Result<StatusCode, Problem> {
    sessions::end_all(&app.store, operator.actor(), id.read(UserId::parse)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(in crate::http) async fn end(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
) -> Result<StatusCode, Problem> {
    sessions::end(&app.store, operator.actor(), id.read(SessionId::parse)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
