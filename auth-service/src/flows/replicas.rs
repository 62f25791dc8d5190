//! Operators take replicas out of the rotation, and return them.

use super::heartbeat::beat;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Actor;
use crate::runtime::app::App;
use crate::store::{SqlStore, StoreError};

/// Why a replica was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// There is no such replica.
    #[error("there is no such replica")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Asks a replica to leave the rotation, or to return. It applies this with its next heartbeat, within a few
/// seconds.
pub async fn drain(store: &SqlStore, actor: &Actor, id: &str, wanted: bool) -> Result<(), ReplicaError> {
    let kind = if wanted { EventKind::ReplicaDrained } else { EventKind::ReplicaReturned };
    let event = AuditEvent::new(kind).by_actor(actor).on(id);
    if store.want_drain(id, wanted, event).await? { Ok(()) } else { Err(ReplicaError::NotFound) }
}

/// As [`drain`], for this replica; already applied when this returns.
pub async fn drain_this(app: &App, actor: &Actor, wanted: bool) -> Result<(), ReplicaError> {
    // Its row may not exist yet.
    beat(app).await?;
    drain(&app.store, actor, app.store.replica(), wanted).await?;
    app.drain.decide(wanted);
    Ok(())
}
