//! The permissions of the admin API, and the rule that operators grant only permissions that they hold.

use std::fmt;
use std::str::FromStr;

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

/// Whether a user with these permissions is an administrator with full rights: one who can do everything that
/// the admin API offers, and so can restore the rights of anyone else.
pub fn has_full_rights(permissions: &PermissionSet) -> bool {
    permissions.is_superset(&AdminPermission::all())
}

/// The author of a change, and their rights.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The name in the audit log.
    pub name: String,
    /// The rights with which they make it.
    pub authority: Authority,
    /// Why they make it. Part of every audit entry that they cause.
    pub reason: Option<Reason>,
}

impl Actor {
    /// A person who uses the command line on a machine with access to the database, such as `alice@db1`.
    pub fn command_line(person: impl fmt::Display, reason: Option<Reason>) -> Self {
        Self { name: format!("cli:{person}"), authority: Authority::Unlimited, reason }
    }

    /// The service itself, for changes that no person asked for.
    pub fn system() -> Self {
        Self { name: "system".to_owned(), authority: Authority::Unlimited, reason: None }
    }

    /// The same actor on the command line, who has confirmed that the last administrator may be taken away.
    /// Changes nothing for an operator of the admin API, who always leaves an administrator behind.
    #[must_use]
    pub fn even_the_last_administrator(self) -> Self {
        let authority = match self.authority {
            Authority::Unlimited => Authority::Unconditional,
            other => other,
        };
        Self { authority, ..self }
    }
}

/// The rights with which a user, a role or a session is changed.
#[derive(Clone, Debug)]
pub enum Authority {
    /// An operator with these permissions.
    Operator(PermissionSet),
    /// The command line: access to the database is enough.
    Unlimited,
    /// As `Unlimited`, and may take the last administrator away.
    Unconditional,
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
            Self::Unlimited | Self::Unconditional | Self::Own => true,
            Self::Operator(held) => has_full_rights(held) || held.is_superset(permissions),
        }
    }

    /// Whether a change with this authority may leave nobody with full rights.
    pub fn may_take_last_administrator(&self) -> bool {
        matches!(self, Self::Unconditional)
    }
}

/// Why an operator makes a change, in their own words: one line for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

/// Why a text is not a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReasonError {
    /// Nothing but white space.
    #[error("a reason must not be empty")]
    Empty,
    /// Longer than [`Reason::LONGEST`].
    #[error("a reason has at most {} characters", Reason::LONGEST)]
    TooLong,
    /// A line break, a tab or another control character.
    #[error("a reason is one line, without control characters")]
    ControlCharacter,
}

impl Reason {
    /// The maximum length in code points.
    pub const LONGEST: usize = 500;
}

/// Removes white space at both ends.
impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let text = text.trim();
        if text.is_empty() {
            Err(ReasonError::Empty)
        } else if text.chars().count() > Self::LONGEST {
            Err(ReasonError::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(ReasonError::ControlCharacter)
        } else {
            Ok(Self(text.to_owned()))
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
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
            let lacking: PermissionSet =
                all.iter().filter(|held| held.as_str() != permission.as_str()).cloned().collect();
            assert!(!has_full_rights(&lacking), "{permission:?}");
            assert!(!Authority::Operator(lacking).covers(&set("orders:write")), "{permission:?}");
        }
    }

    #[test]
    fn only_a_confirmed_command_may_take_the_last_administrator() {
        let command = Actor::command_line("alice@db1", None);
        assert_eq!(command.name, "cli:alice@db1");
        assert!(!command.authority.may_take_last_administrator());
        assert!(command.even_the_last_administrator().authority.may_take_last_administrator());
        let authority = Authority::Operator(AdminPermission::all());
        let operator = Actor { name: "operator".to_owned(), authority, reason: None };
        assert!(!operator.even_the_last_administrator().authority.may_take_last_administrator());
    }

    #[test]
    fn reason_is_one_line_of_limited_length() {
        let parse = |text: &str| text.parse::<Reason>();
        assert_eq!(
            parse("  ticket 4711: ä \t").map(|reason| reason.to_string()),
            Ok("ticket 4711: ä".to_owned())
        );
        assert!(parse(&"ä".repeat(500)).is_ok());
        assert_eq!(parse(&"a".repeat(501)), Err(ReasonError::TooLong));
        for empty in ["", " ", "\n"] {
            assert_eq!(parse(empty), Err(ReasonError::Empty));
        }
        for control in ["a\nb", "a\tb", "a\u{1b}[31mb", "a\u{85}b"] {
            assert_eq!(parse(control), Err(ReasonError::ControlCharacter), "{control:?}");
        }
    }
}
