//! What an operator may hand out: never more than they hold.

use super::user::PermissionSet;

/// Every permission that the admin API asks for.
pub const ADMIN_PERMISSIONS: [&str; 12] = [
    "audit:read",
    "keys:read",
    "keys:write",
    "replicas:read",
    "replicas:write",
    "roles:read",
    "roles:write",
    "sessions:write",
    "settings:read",
    "settings:write",
    "users:read",
    "users:write",
];

/// The role that the bootstrap creates, with every admin permission.
pub const ADMIN_ROLE: &str = "admin";

/// The rights with which a user, a role or a session is changed.
#[derive(Clone, Debug)]
pub enum Authority {
    /// An operator with these permissions.
    Operator(PermissionSet),
    /// The command line: whoever can open the database needs no permission.
    Unlimited,
    /// The users themselves, for their own password. It grants nothing and reaches nobody else.
    Own,
}

impl Authority {
    /// Whether someone with this authority may grant `permissions`, or change someone who holds them.
    ///
    /// Operators must hold them all themselves, so that nobody can make themselves more powerful. Whoever holds every admin
    /// permission may define what applications call a permission, and so covers everything.
    pub fn covers(&self, permissions: &PermissionSet) -> bool {
        match self {
            Self::Unlimited | Self::Own => true,
            Self::Operator(held) => {
                ADMIN_PERMISSIONS.iter().all(|permission| held.contains(permission))
                    || held.is_superset(permissions)
            }
        }
    }
}

/// Who makes a change, and with which rights.
#[derive(Clone, Debug)]
pub struct Actor {
    /// As the audit log names them.
    pub name: String,
    /// What they may grant and whom they may change.
    pub authority: Authority,
}

impl Actor {
    /// The command line of a machine that can open the database.
    pub fn command_line() -> Self {
        Self { name: "cli".to_owned(), authority: Authority::Unlimited }
    }
}
