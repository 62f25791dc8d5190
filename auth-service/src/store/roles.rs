//! Roles: named sets of permissions.

use verifier::UnixTime;

use super::engine::database::{Transaction, arguments};
use super::{SqlStore, StoreError};
use crate::domain::audit::AuditEvent;
use crate::domain::authority::{Authority, permissions_of};
use crate::domain::user::PermissionSet;

/// What became of a change of a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleWrite {
    /// A new role.
    Created,
    /// An existing role was changed or deleted.
    Changed,
    /// There is no such role.
    NotFound,
    /// The actor lacks permissions that the role has or would get.
    Escalation,
}

impl SqlStore {
    /// A page of roles with their permissions, ordered by name.
    pub async fn roles(
        &self,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<(String, PermissionSet)>, StoreError> {
        self.run(move |store| {
            let after = after.clone().unwrap_or_default();
            async move {
                let sql = "SELECT name, permissions FROM roles WHERE name > $1 ORDER BY name LIMIT $2";
                let rows = store.db.read(sql, arguments![after, i64::from(limit)]).await?;
                rows.iter()
                    .map(|row| {
                        let name = row.text(0)?;
                        let permissions = permissions(&name, row.text(1)?)?;
                        Ok((name, permissions))
                    })
                    .collect()
            }
        })
        .await
    }

    /// The permissions of a role.
    pub async fn find_role(&self, name: &str) -> Result<Option<PermissionSet>, StoreError> {
        let name = name.to_owned();
        self.run(move |store| {
            let name = name.clone();
            async move {
                let sql = "SELECT permissions FROM roles WHERE name = $1";
                let rows = store.db.read(sql, arguments![name.as_str()]).await?;
                rows.first().map(|row| permissions(&name, row.text(0)?)).transpose()
            }
        })
        .await
    }

    /// Creates a role or replaces its permissions, if `authority` covers what it had and gets. Acts at the next refresh.
    pub async fn put_role(
        &self,
        name: String,
        permissions: PermissionSet,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<RoleWrite, StoreError> {
        self.run(move |store| {
            let (name, permissions) = (name.clone(), permissions.clone());
            let (authority, event) = (authority.clone(), event.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let old = lock(&mut tx, &name).await?;
                let held = old.as_ref().map(|(permissions, _)| permissions);
                if !held.is_none_or(|held| authority.covers(held)) || !authority.covers(&permissions) {
                    audit.rollback(tx).await?;
                    return Ok(RoleWrite::Escalation);
                }
                // The authority over a role that another operator created in between was not checked: leave it alone.
                let sql = if old.is_some() {
                    "UPDATE roles SET permissions = $3 WHERE name = $2 RETURNING {now}"
                } else {
                    "INSERT INTO roles (name, permissions) VALUES ($2, $3) ON CONFLICT DO NOTHING RETURNING {now}"
                };
                let Some(row) = tx.first(sql, arguments![name.as_str(), permissions.to_string()]).await?
                else {
                    audit.rollback(tx).await?;
                    return Ok(RoleWrite::Escalation);
                };
                audit.append(&mut tx, row.time(0)?, &event).await?;
                audit.commit(tx).await?;
                Ok(if old.is_some() { RoleWrite::Changed } else { RoleWrite::Created })
            }
        })
        .await
    }

    /// Deletes a role and takes it from everyone who has it, if `authority` covers it.
    pub async fn delete_role(
        &self,
        name: String,
        authority: Authority,
        event: AuditEvent,
    ) -> Result<RoleWrite, StoreError> {
        self.run(move |store| {
            let (name, authority, event) = (name.clone(), authority.clone(), event.clone());
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let refused = match lock(&mut tx, &name).await? {
                    None => RoleWrite::NotFound,
                    Some((permissions, _)) if !authority.covers(&permissions) => RoleWrite::Escalation,
                    Some((_, now)) => {
                        tx.fetch("DELETE FROM roles WHERE name = $1", arguments![name.as_str()]).await?;
                        audit.append(&mut tx, now, &event).await?;
                        audit.commit(tx).await?;
                        return Ok(RoleWrite::Changed);
                    }
                };
                audit.rollback(tx).await?;
                Ok(refused)
            }
        })
        .await
    }
}

async fn lock(tx: &mut Transaction, name: &str) -> Result<Option<(PermissionSet, UnixTime)>, StoreError> {
    let sql = "UPDATE roles SET name = name WHERE name = $2 RETURNING permissions, {now}";
    let Some(row) = tx.first(sql, arguments![name]).await? else { return Ok(None) };
    Ok(Some((permissions(name, row.text(0)?)?, row.time(1)?)))
}

/// The permissions of the role with this name, given those in its row.
fn permissions(name: &str, stored: String) -> Result<PermissionSet, StoreError> {
    Ok(permissions_of([name], super::users::permissions(Some(stored))?))
}
