//! The permissions of the admin API, and what an operator may grant: never more than they hold.

use super::user::{Permission, PermissionSet};

/// Makes [`AdminPermission`] of rows: name, permission.
macro_rules! admin_permissions {
    ($($name:ident, $permission:literal;)+) => {
        /// A permission that the admin API requires. Every route of the admin listener under `/admin/v1` names one of them.
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
    /// The set of all of them.
    pub fn all() -> PermissionSet {
        Self::ALL.iter().filter_map(|permission| Permission::parse(permission.as_str()).ok()).collect()
    }
}

/// The built-in role: it has every admin permission of the running release. It can be granted, not changed or deleted.
pub const ADMIN_ROLE: &str = "admin";

/// The permissions of `roles`, given those that are `stored` for them. Adds every admin permission if [`ADMIN_ROLE`] is among
/// the roles, because its row may have been written by a release that had fewer.
pub fn permissions_of<'a>(roles: impl IntoIterator<Item = &'a str>, stored: PermissionSet) -> PermissionSet {
    if roles.into_iter().any(|role| role == ADMIN_ROLE) {
        stored.union(&AdminPermission::all())
    } else {
        stored
    }
}

/// Who makes a change, and with which rights.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name in the audit log.
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

/// The rights with which a user, a role or a session is changed.
#[derive(Clone, Debug)]
pub enum Authority {
    /// An operator with these permissions.
    Operator(PermissionSet),
    /// The command line: whoever can open the database needs no permission.
    Unlimited,
    /// Users who change their own password.
    Own,
}

impl Authority {
    /// Whether someone with this authority may grant `permissions`, or change someone who holds them.
    ///
    /// Operators must hold all of them, so that nobody can extend their own permissions. An operator with every admin
    /// permission may define the permissions of applications, and therefore covers everything.
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
    fn every_admin_permission_is_one_and_they_are_in_order() {
        assert_eq!(AdminPermission::all().iter().count(), AdminPermission::ALL.len());
        assert!(AdminPermission::ALL.is_sorted_by_key(|permission| permission.as_str()));
    }

    #[test]
    fn the_admin_role_has_every_admin_permission_whatever_is_stored() {
        let stored = || PermissionSet::parse("orders:read users:read").unwrap();
        let all = permissions_of(["clerk", ADMIN_ROLE], stored());
        assert!(all.is_superset(&AdminPermission::all()) && all.contains("orders:read"));
        for roles in [&["clerk"][..], &["administrator", "Admin"], &[]] {
            assert_eq!(permissions_of(roles.iter().copied(), stored()), stored());
        }
    }

    #[test]
    fn an_operator_covers_what_they_hold_and_with_every_admin_permission_everything() {
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
