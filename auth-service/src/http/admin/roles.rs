//! Roles.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::domain::user::{Permission, PermissionSet, RoleName};
use crate::flows::roles;
use crate::http::base::SharedApp;
use crate::http::base::body::JsonBody;
use crate::http::base::caller::Operator;
use crate::http::base::code::Code;
use crate::http::base::error::Problem;
use crate::http::base::extract::{Parameters, Part};
use crate::http::base::page::PageQuery;
use crate::http::base::wire::{NO_STORE, private};
use crate::view::RoleView;

pub(in crate::http) async fn list(
    State(app): State<SharedApp>,
    _: Operator,
    Parameters(query): Parameters<PageQuery>,
) -> Result<Response, Problem> {
    #[derive(Serialize)]
    struct RoleList {
        roles: Vec<RoleView>,
        next: Option<String>,
    }
    let after = query.after(|place| RoleName::parse(place).ok())?;
    let after = after.map(|name| name.to_string());
    let mut roles = app.store.roles(after, query.limit()?).await?;
    let next = query.next(&mut roles, |(name, _)| name.clone());
    let roles = roles.into_iter().map(|(name, permissions)| RoleView::new(name, &permissions)).collect();
    Ok(private(RoleList { roles, next }))
}

pub(in crate::http) async fn find(
    State(app): State<SharedApp>,
    _: Operator,
    name: Part,
) -> Result<Response, Problem> {
    let name = name.read(|text| RoleName::parse(text).ok())?;
    let permissions = app.store.find_role(name.as_str()).await?;
    permissions
        .map(|permissions| private(RoleView::new(name.to_string(), &permissions)))
        .ok_or_else(|| Problem::new(Code::NotFound))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct RoleBody {
    permissions: Vec<String>,
}

/// 201 when the role is new, 200 when its permissions were replaced.
pub(in crate::http) async fn put(
    State(app): State<SharedApp>,
    operator: Operator,
    Part(name): Part,
    JsonBody(body): JsonBody<RoleBody>,
) -> Result<Response, Problem> {
    let name = RoleName::parse(&name)
        .map_err(|error| Problem::new(Code::InvalidRoleName).detail(error.to_string()))?;
    let permissions =
        body.permissions.iter().map(|text| Permission::parse(text)).collect::<Result<PermissionSet, _>>();
    let permissions =
        permissions.map_err(|error| Problem::new(Code::InvalidPermission).detail(error.to_string()))?;
    let is_new = roles::put(&app.store, operator.actor(), &name, permissions.clone()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [NO_STORE], Json(RoleView::new(name.to_string(), &permissions))).into_response())
}

pub(in crate::http) async fn delete(
    State(app): State<SharedApp>,
    operator: Operator,
    name: Part,
) -> Result<StatusCode, Problem> {
    let name = name.read(|text| RoleName::parse(text).ok())?;
    roles::delete(&app.store, operator.actor(), &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
