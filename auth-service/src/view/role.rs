use serde::Serialize;

use crate::domain::user::PermissionSet;

/// A role.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the members are those of `Role` in openapi.yaml")]
pub struct RoleView {
    pub name: String,
    pub permissions: Vec<String>,
}

impl RoleView {
    /// The role with this name and these permissions.
    pub fn new(name: String, permissions: &PermissionSet) -> Self {
        Self { name, permissions: permissions.iter().map(ToString::to_string).collect() }
    }
}
