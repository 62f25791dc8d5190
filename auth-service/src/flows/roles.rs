//! Operators manage roles.

use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::{ADMIN_ROLE, Actor};
use crate::domain::user::{PermissionSet, RoleName};
use crate::store::{RoleWrite, SqlStore, StoreError};

/// Why a role was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// There is no such role.
    #[error("there is no such role")]
    NotFound,
    /// The role is [`ADMIN_ROLE`].
    #[error("the role `admin` is built in: it can be granted, but not changed or deleted")]
    BuiltIn,
    /// The actor lacks permissions that the role has or would get.
    #[error("the role has, or would get, permissions that you do not have")]
    Escalation,
    /// Nobody would have full rights any more.
    #[error("nobody would have full rights any more; give a user the role `admin` first")]
    LastAdministrator,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Creates a role or replaces its permissions; takes effect at each user's next refresh. Returns whether the
/// role is new.
pub async fn put(
    store: &SqlStore,
    actor: Actor,
    name: &RoleName,
    permissions: PermissionSet,
) -> Result<bool, RoleError> {
    refuse_built_in(name)?;
    let event = AuditEvent::new(EventKind::RoleChanged).by_actor(&actor).on(name).detail(&permissions);
    let outcome = store.put_role(name.to_string(), permissions, actor.authority, event).await?;
    done(outcome).map(|()| outcome == RoleWrite::Created)
}

/// Deletes a role and removes it from all users.
pub async fn delete(store: &SqlStore, actor: Actor, name: &RoleName) -> Result<(), RoleError> {
    refuse_built_in(name)?;
    let event = AuditEvent::new(EventKind::RoleDeleted).by_actor(&actor).on(name);
    done(store.delete_role(name.to_string(), actor.authority, event).await?)
}

fn refuse_built_in(name: &RoleName) -> Result<(), RoleError> {
    if name.as_str() == ADMIN_ROLE { Err(RoleError::BuiltIn) } else { Ok(()) }
}

fn done(outcome: RoleWrite) -> Result<(), RoleError> {
    match outcome {
        RoleWrite::Created | RoleWrite::Changed => Ok(()),
        RoleWrite::NotFound => Err(RoleError::NotFound),
        RoleWrite::Escalation => Err(RoleError::Escalation),
        RoleWrite::LastAdministrator => Err(RoleError::LastAdministrator),
    }
}
