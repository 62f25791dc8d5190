//! The permissions of the admin API, and the rule that operators grant only permissions that they hold.

use super::user::{Permission, PermissionSet};

/// Generates [`AdminPermission`] from rows: name, permission.
macro_rules! admin_permissions {
    ($($name:ident, $permission:literal;)+) => {
        /// A permission that the admin API requires. Every route of the admin listener under `/admin/v1`
        /// names one of them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(missing_docs, reason = "the names are those of the permissions")]
        pub enum AdminPermission {
            $($name),+
        }

        impl AdminPermission {
            /// All of them, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The permission as tokens and roles contain it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $permission),+
                }
            }
        }
    };
}

admin_permissions! {
    AuditRead, "audit:read";
    KeysRead, "keys:read";
    KeysWrite, "keys:write";
    ReplicasRead, "replicas:read";
    ReplicasWrite, "replicas:write";
    RolesRead, "roles:read";
    RolesWrite, "roles:write";
    SessionsWrite, "sessions:write";
    SettingsRead, "settings:read";
    SettingsWrite, "settings:write";
    UsersRead, "users:read";
    UsersWrite, "users:write";
}

impl AdminPermission {
    /// The set of all admin permissions.
    pub fn all() -> PermissionSet {
        Self::ALL.iter().filter_map(|permission| Permission::parse(permission.as_str()).ok()).collect()
    }
}

/// The built-in role with every admin permission of the running release. It can be granted, but not changed
/// or deleted.
pub const ADMIN_ROLE: &str = "admin";

/// The permissions of `roles`, given the permissions `stored` for them. Adds every admin permission if
/// [`ADMIN_ROLE`] is among the roles, because a release with fewer permissions may have written its row.
pub fn permissions_of<'a>(roles: impl IntoIterator<Item = &'a str>, stored: PermissionSet) -> PermissionSet {
    if roles.into_iter().any(|role| role == ADMIN_ROLE) {
        stored.union(&AdminPermission::all())
    } else {
        stored
    }
}

/// The author of a change, and their rights.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name in the audit log.
    pub name: String,
    /// The rights with which they make it.
    pub authority: Authority,
}

impl Actor {
    /// The command line on a machine with access to the database.
    pub fn command_line() -> Self {
        Self { name: "cli".to_owned(), authority: Authority::Unlimited }
    }
}

/// The rights with which a user, a role or a session is changed.
#[derive(Clone, Debug)]
pub enum Authority {
    /// An operator with these permissions.
    Operator(PermissionSet),
    /// The command line: access to the database is enough.
    Unlimited,
    /// A user who changes their own password.
    Own,
}

impl Authority {
    /// Whether this authority allows granting `permissions`, or changing a user who holds them.
    ///
    /// Operators must hold all of them, so that they cannot extend their own permissions. An operator with
    /// every admin permission may define the permissions of applications, and therefore covers everything.
    pub fn covers(&self, permissions: &PermissionSet) -> bool {
        match self {
            Self::Unlimited | Self::Own => true,
            Self::Operator(held) => {
                held.is_superset(&AdminPermission::all()) || held.is_superset(permissions)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_permissions_are_valid_and_sorted() {
        assert_eq!(AdminPermission::all().iter().count(), AdminPermission::ALL.len());
        assert!(AdminPermission::ALL.is_sorted_by_key(|permission| permission.as_str()));
    }

    #[test]
    fn admin_role_has_every_admin_permission_regardless_of_stored_ones() {
        let stored = || PermissionSet::parse("orders:read users:read").unwrap();
        let all = permissions_of(["clerk", ADMIN_ROLE], stored());
        assert!(all.is_superset(&AdminPermission::all()) && all.contains("orders:read"));
        for roles in [&["clerk"][..], &["administrator", "Admin"], &[]] {
            assert_eq!(permissions_of(roles.iter().copied(), stored()), stored());
        }
    }

    #[test]
    fn operator_covers_own_permissions_and_full_admin_covers_all() {
        let set = |text: &str| PermissionSet::parse(text).unwrap();
        let some = Authority::Operator(set("users:write orders:read"));
        assert!(some.covers(&set("orders:read")) && some.covers(&set("")));
        assert!(!some.covers(&set("orders:read orders:write")));
        assert!(Authority::Operator(AdminPermission::all()).covers(&set("orders:write")));
        for permission in AdminPermission::ALL {
            let all = AdminPermission::all();
            let lacking = all.iter().filter(|held| held.as_str() != permission.as_str()).cloned().collect();
            assert!(!Authority::Operator(lacking).covers(&set("orders:write")), "{permission:?}");
        }
    }
}
