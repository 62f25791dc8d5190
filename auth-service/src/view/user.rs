use serde::Serialize;
use serde_json::{Map, Value};

use super::Timestamp;
use crate::store::UserRow;

/// A user.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `User` in openapi.yaml")]
pub struct UserView {
    pub id: String,
    pub username: String,
    pub roles: Vec<String>,
    pub permissions: Vec<String>,
    pub claims: Map<String, Value>,
    pub created_at: Timestamp,
    pub disabled_at: Option<Timestamp>,
}

impl From<UserRow> for UserView {
    fn from(user: UserRow) -> Self {
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
