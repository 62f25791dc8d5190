//! Users.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::domain::password::Password;
use crate::domain::user::UserId;
use crate::flows::users::{self, UserPatch, UserRequest};
use crate::http::base::SharedApp;
use crate::http::base::body::JsonBody;
use crate::http::base::caller::Operator;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::extract::{Parameters, Part};
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{NO_STORE, private};
use crate::store::UserPage;
use crate::view::UserView;

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct UserList {
        users: Vec<UserView>,
        next: Option<String>,
    }
    let after = query.after(|place| Some(place.to_owned()))?;
    let mut users = app.store.users(UserPage { after, limit: query.limit()? }).await?;
    let next = query.next(&mut users, |last| last.username.clone());
    Ok(private(UserList { users: users.into_iter().map(UserView::from).collect(), next }))
}

pub(in crate::http) async fn create(
    State(app): State<SharedApp>,
    operator: Operator,
    JsonBody(request): JsonBody<UserRequest>,
) -> Result<Response, Problem> {
    let user = users::create(&app, operator.actor(), request).await?;
    Ok((StatusCode::CREATED, [NO_STORE], Json(UserView::from(user))).into_response())
}

pub(in crate::http) async fn find(
    State(app): State<SharedApp>,
    _: Operator,
    id: Part,
) -> Result<Response, Problem> {
    let user = app.store.find_user(id.read(UserId::parse)?).await?;
    user.map(|user| private(UserView::from(user))).ok_or_else(|| Problem::new(Code::NotFound))
}

pub(in crate::http) async fn change(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
    JsonBody(patch): JsonBody<UserPatch>,
) -> Result<Response, Problem> {
    let user =
        users::change(&app.settings(), &app.store, operator.actor(), id.read(UserId::parse)?, patch).await?;
    Ok(private(UserView::from(user)))
}

pub(in crate::http) async fn delete(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
) -> Result<StatusCode, Problem> {
    users::delete(&app.store, operator.actor(), id.read(UserId::parse)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewPassword {
    password: Password,
}

pub(in crate::http) async fn set_password(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
    JsonBody(body): JsonBody<NewPassword>,
) -> Result<StatusCode, Problem> {
    users::set_password(&app, operator.actor(), id.read(UserId::parse)?, body.password).await?;
    Ok(StatusCode::NO_CONTENT)
}
