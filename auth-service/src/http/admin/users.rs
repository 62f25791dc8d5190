//! Users.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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
use crate::http::base::wire::{NO_STORE, Timestamp, private};
use crate::store::{UserPage, UserRow};

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct UserList {
        users: Vec<UserResponse>,
        next: Option<String>,
    }
    let after = query.after(|place| Some(place.to_owned()))?;
    let mut users = app.store.users(UserPage { after, limit: query.limit()? }).await?;
    let next = query.next(&mut users, |last| last.username.clone());
    Ok(private(UserList { users: users.into_iter().map(UserResponse::new).collect(), next }))
}

pub(in crate::http) async fn create(
    State(app): State<SharedApp>,
    operator: Operator,
    JsonBody(request): JsonBody<UserRequest>,
) -> Result<Response, Problem> {
    let user = users::create(&app, operator.actor(), request).await?;
    Ok((StatusCode::CREATED, [NO_STORE], Json(UserResponse::new(user))).into_response())
}

pub(in crate::http) async fn find(
    State(app): State<SharedApp>,
    _: Operator,
    id: Part,
) -> Result<Response, Problem> {
    let user = app.store.find_user(id.read(UserId::parse)?).await?;
    user.map(|user| private(UserResponse::new(user))).ok_or_else(|| Problem::new(Code::NotFound))
}

pub(in crate::http) async fn change(
    State(app): State<SharedApp>,
    operator: Operator,
    id: Part,
    JsonBody(patch): JsonBody<UserPatch>,
) -> Result<Response, Problem> {
    let user =
        users::change(&app.settings(), &app.store, operator.actor(), id.read(UserId::parse)?, patch).await?;
    Ok(private(UserResponse::new(user)))
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

#[derive(Serialize)]
struct UserResponse {
    id: String,
    username: String,
    roles: Vec<String>,
    permissions: Vec<String>,
    claims: Map<String, Value>,
    created_at: Timestamp,
    disabled_at: Option<Timestamp>,
}

impl UserResponse {
    fn new(user: UserRow) -> Self {
        Self {
            id: user.id.to_string(),
            username: user.username,
            roles: user.roles,
            permissions: user.permissions.iter().map(ToString::to_string).collect(),
            claims: user.claims,
            created_at: Timestamp(user.created_at),
            disabled_at: user.disabled_at.map(Timestamp),
        }
    }
}
