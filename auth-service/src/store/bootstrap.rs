//! The first administrator.

use super::engine::database::arguments;
use super::users::NewUser;
use super::{SqlStore, StoreError};
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::ADMIN_ROLE;

/// Whether this replica created the first administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// This call did.
    Won,
    /// It had been done before, or another replica did it.
    AlreadyDone,
}

impl SqlStore {
    /// Whether the bootstrap was done, now or ever.
    pub async fn is_bootstrapped(&self) -> Result<bool, StoreError> {
        self.run(|store| async move {
            Ok(!store.db.read("SELECT id FROM installation", Vec::new()).await?.is_empty())
        })
        .await
    }

    /// Creates role and user `admin`, once for ever: one transaction, guarded by a marker row.
    pub async fn bootstrap(&self, admin: NewUser) -> Result<Bootstrap, StoreError> {
        self.run(move |store| {
            let admin = admin.clone();
            async move {
                let mut audit = store.audit.open().await?;
                let mut tx = store.db.begin().await?;
                let sql = "INSERT INTO installation (id, bootstrapped_at) VALUES (1, {now})
                           ON CONFLICT DO NOTHING RETURNING bootstrapped_at";
                let Some(row) = tx.first(sql, Vec::new()).await? else {
                    audit.rollback(tx).await?;
                    return Ok(Bootstrap::AlreadyDone);
                };
                let now = row.time(0)?;
                super::users::ensure_admin_role(&mut tx).await?;
                let created = super::users::insert(&mut tx, &admin).await?.is_some();
                let sql =
                    "INSERT INTO user_roles (user_id, role) SELECT id, $2 FROM users WHERE username = $1
                           ON CONFLICT DO NOTHING";
                tx.fetch(sql, arguments![admin.username.as_str(), ADMIN_ROLE]).await?;
                let event = AuditEvent::new(EventKind::Bootstrap).by("system").on(&admin.username);
                audit.append(&mut tx, now, &event).await?;
                audit.commit(tx).await?;
                // A user of that name whom the command line made before the first start keeps their password.
                Ok(if created { Bootstrap::Won } else { Bootstrap::AlreadyDone })
            }
        })
        .await
    }
}
