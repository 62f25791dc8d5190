//! Administrators with full rights: who they are, and that the last one stays.

use super::engine::database::Transaction;
use super::engine::row::{Argument, Row, arguments};
use super::{SqlStore, StoreError};
use crate::domain::authority::{ADMIN_ROLE, AdminPermission, Authority, has_full_rights, permissions_of};
use crate::domain::user::PermissionSet;

/// Enabled users with the built-in role, or with a role that has one certain permission of the admin API. Whoever has all permissions
/// has that one; few others do, so few rows are read however many users there are.
const CANDIDATES: &str = "SELECT username,
    (SELECT string_agg(role, ' ') FROM user_roles WHERE user_roles.user_id = users.id) AS roles,
    (SELECT string_agg(permissions, ' ') FROM roles JOIN user_roles ON role = name
      WHERE user_roles.user_id = users.id AND permissions <> '') AS permissions
    FROM users WHERE disabled_at IS NULL AND id IN
        (SELECT user_id FROM user_roles JOIN roles ON role = name
          WHERE name = $1 OR ' ' || permissions || ' ' LIKE $2)
    ORDER BY username";

impl SqlStore {
    /// The names of the enabled users with full rights, in order.
    pub async fn administrators(&self) -> Result<Vec<String>, StoreError> {
        self.read(CANDIDATES, candidate_arguments(), |rows| administrators(&rows)).await
    }
}

/// Keeps the last administrator from being taken away by a change that may reduce rights.
///
/// Every such transaction takes one lock, on the row of the built-in role, before any other. So these transactions run one after the
/// other: each decides on what those before it have committed, and of two administrators who disable each other one stays. All other
/// transactions can only add administrators.
///
/// The lock causes no deadlock: a transaction that waits for it holds no other lock that an existing user or role needs, and one that
/// holds it only waits for transactions that do not ask for it. Two more ways to touch the row keep to this. A foreign key that refers
/// to it does not wait (FOR KEY SHARE beside FOR NO KEY UPDATE; for that, the lock must not assign the name, a key column).
/// [`ensure_admin_role`] does wait, and so comes first in its transaction, too.
pub(super) struct LastAdministrator {
    must_stay: bool,
}

impl LastAdministrator {
    /// Takes the lock. Must come first in a transaction that may reduce the rights of anyone.
    pub(super) async fn lock(tx: &mut Transaction, authority: &Authority) -> Result<Self, StoreError> {
        let sql = "INSERT INTO roles (name, permissions) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET permissions = roles.permissions";
        tx.fetch(sql, arguments![ADMIN_ROLE, AdminPermission::all().to_string()]).await?;
        let must_stay = !authority.may_take_last_administrator() && is_any_left(tx).await?;
        Ok(Self { must_stay })
    }

    /// For a transaction that reduces nobody's rights.
    pub(super) fn unaffected() -> Self {
        Self { must_stay: false }
    }

    /// Whether the transaction has taken the last administrator away, and must be rolled back.
    pub(super) async fn is_gone(&self, tx: &mut Transaction) -> Result<bool, StoreError> {
        Ok(self.must_stay && !is_any_left(tx).await?)
    }
}

/// Creates the row of the built-in role if it is missing. Waits for a transaction that holds the row.
pub(super) async fn ensure_admin_role(tx: &mut Transaction) -> Result<(), StoreError> {
    let sql = "INSERT INTO roles (name, permissions) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    tx.fetch(sql, arguments![ADMIN_ROLE, AdminPermission::all().to_string()]).await.map(drop)
}

async fn is_any_left(tx: &mut Transaction) -> Result<bool, StoreError> {
    let rows = tx.fetch(CANDIDATES, candidate_arguments()).await?;
    Ok(!administrators(&rows)?.is_empty())
}

fn candidate_arguments() -> Vec<Argument> {
    arguments![ADMIN_ROLE, format!("% {} %", AdminPermission::ALL[0].as_str())]
}

fn administrators(rows: &[Row]) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for row in rows {
        let (roles, stored) = (row.text_if_any("roles")?, row.text_if_any("permissions")?);
        let stored = PermissionSet::parse(&stored.unwrap_or_default()).map_err(|_| unreadable())?;
        if has_full_rights(&permissions_of(roles.unwrap_or_default().split(' '), stored)) {
            names.push(row.text("username")?);
        }
    }
    Ok(names)
}

fn unreadable() -> StoreError {
    StoreError::Unreadable { table: "roles", what: "permissions".to_owned() }
}
