//! Roles: named sets of permissions.

use verifier::UnixTime;

use super::administrators::LastAdministrator;
use super::engine::database::Transaction;
use super::engine::row::{Row, arguments};
use super::transaction::Outcome::{Keep, Undo};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::authority::{Authority, permissions_of};
use crate::domain::user::PermissionSet;

/// The outcome of a change of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleWrite {
    /// A new role.
    Created,
    /// An existing role was changed or deleted.
    Changed,
    /// No such role.
    NotFound,
    /// The actor lacks permissions that the role has or would get.
    Escalation,
    /// Nobody would have full rights any more.
    LastAdministrator,
}

impl SqlStore {
    /// A page of roles with their permissions, ordered by name.
    pub async fn roles(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<(String, PermissionSet)>, StoreError> {
        let sql = "SELECT name, permissions FROM roles WHERE name > $1 ORDER BY name LIMIT $2";
        self.read(sql, arguments![after.unwrap_or_default(), i64::from(limit)], |rows| {
            rows.iter().map(read_role).collect()
        })
        .await
    }

    /// The permissions of a role.
    pub async fn find_role(&self, name: &str) -> Result<Option<PermissionSet>, StoreError> {
        let sql = "SELECT name, permissions FROM roles WHERE name = $1";
        let role = self.read(sql, arguments![name], |rows| rows.first().map(read_role).transpose()).await?;
        Ok(role.map(|(_, permissions)| permissions))
    }

    /// Creates a role or replaces its permissions, if `authority` covers what it had and gets. Refused if it would take the last
    /// administrator away. Takes effect at the next refresh.
    pub async fn put_role(
        &self,
        name: String,
        permissions: PermissionSet,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<RoleWrite, StoreError> {
        self.transaction(async move |tx| {
            // A new role reduces nobody's rights.
            let exists = tx.first("SELECT name FROM roles WHERE name = $1", arguments![name.as_str()]).await?;
            let (last, old) = if exists.is_some() {
                (LastAdministrator::lock(tx, &authority).await?, lock(tx, &name).await?)
            } else {
                (LastAdministrator::unaffected(), None)
            };
            let held = old.as_ref().map(|(permissions, _)| permissions);
            if !held.is_none_or(|held| authority.covers(held)) || !authority.covers(&permissions) {
                return Ok(Undo(RoleWrite::Escalation));
            }
            let (sql, written) = if old.is_some() {
                let sql = "UPDATE roles SET permissions = $3 WHERE name = $2 RETURNING {now} AS now";
                (sql, RoleWrite::Changed)
            } else {
                let sql = "INSERT INTO roles (name, permissions) VALUES ($2, $3) ON CONFLICT DO NOTHING RETURNING {now} AS now";
                (sql, RoleWrite::Created)
            };
            // The authority over a role that another operator created in between was not checked: leave it alone.
            let Some(row) = tx.first(sql, arguments![name.as_str(), permissions.to_string()]).await? else {
                return Ok(Undo(RoleWrite::Escalation));
            };
            if last.is_gone(tx).await? {
                return Ok(Undo(RoleWrite::LastAdministrator));
            }
            Ok(Keep(written, vec![event.at(row.time("now")?)]))
        })
        .await
    }

    /// Deletes a role and takes it from everyone who has it, if `authority` covers it. Refused if it would take the last administrator
    /// away.
    pub async fn delete_role(
        &self,
        name: String,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<RoleWrite, StoreError> {
        self.transaction(async move |tx| {
            let last = LastAdministrator::lock(tx, &authority).await?;
            let Some((permissions, now)) = lock(tx, &name).await? else {
                return Ok(Undo(RoleWrite::NotFound));
            };
            if !authority.covers(&permissions) {
                return Ok(Undo(RoleWrite::Escalation));
            }
            tx.fetch("DELETE FROM roles WHERE name = $1", arguments![name.as_str()]).await?;
            if last.is_gone(tx).await? {
                return Ok(Undo(RoleWrite::LastAdministrator));
            }
            Ok(Keep(RoleWrite::Changed, vec![event.at(now)]))
        })
        .await
    }
}

async fn lock(tx: &mut Transaction, name: &str) -> Result<Option<(PermissionSet, UnixTime)>, StoreError> {
    let sql = "UPDATE roles SET name = name WHERE name = $2 RETURNING name, permissions, {now} AS now";
    let Some(row) = tx.first(sql, arguments![name]).await? else { return Ok(None) };
    Ok(Some((read_role(&row)?.1, row.time("now")?)))
}

/// The name of a role, and its permissions.
fn read_role(row: &Row) -> Result<(String, PermissionSet), StoreError> {
    let name = row.text("name")?;
    let stored = super::users::permissions(Some(row.text("permissions")?))?;
    let permissions = permissions_of([name.as_str()], stored);
    Ok((name, permissions))
}
