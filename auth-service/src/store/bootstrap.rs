//! The first administrator.

use super::engine::migrations::is_missing_table;
use super::engine::row::arguments;
use super::transaction::Outcome::{Keep, Undo};
use super::users::NewUser;
use super::{SqlStore, StoreError};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::ADMIN_ROLE;

/// Whether this replica created the first administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// This call did.
    Won,
    /// It was done before, or another replica did it.
    AlreadyDone,
}

impl SqlStore {
    /// Whether the bootstrap was ever done. Also for a database without a schema.
    pub async fn is_bootstrapped(&self) -> Result<bool, StoreError> {
        match self.read("SELECT id FROM installation", Vec::new(), |rows| Ok(!rows.is_empty())).await {
            Err(StoreError::Database(sqlx::Error::Database(error))) if is_missing_table(&*error) => Ok(false),
            found => found,
        }
    }

    /// Creates role and user `admin`, once in the life of an installation: one transaction, guarded by a marker row.
    pub async fn bootstrap(&self, admin: NewUser) -> Result<Bootstrap, StoreError> {
        self.transaction(async move |tx| {
            let sql = "INSERT INTO installation (id, bootstrapped_at) VALUES (1, {now})
                       ON CONFLICT DO NOTHING RETURNING bootstrapped_at";
            let Some(row) = tx.first(sql, Vec::new()).await? else {
                return Ok(Undo(Bootstrap::AlreadyDone));
            };
            super::administrators::ensure_admin_role(tx).await?;
            let created = super::users::insert(tx, &admin).await?.is_some();
            let sql = "INSERT INTO user_roles (user_id, role) SELECT id, $2 FROM users WHERE username = $1
                       ON CONFLICT DO NOTHING";
            tx.fetch(sql, arguments![admin.username.as_str(), ADMIN_ROLE]).await?;
            let event = AuditEvent::new(EventKind::Bootstrap).by("system").on(&admin.username);
            // The command line may have created a user of that name before the first start; they keep their password.
            let outcome = if created { Bootstrap::Won } else { Bootstrap::AlreadyDone };
            Ok(Keep(outcome, vec![event.at(row.time("bootstrapped_at")?)]))
        })
        .await
    }
}
