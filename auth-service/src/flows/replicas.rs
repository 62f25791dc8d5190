//! Operators take replicas out of the rotation, and put them back.

use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::Actor;
use crate::runtime::app::App;
use crate::runtime::heartbeat;
use crate::store::StoreError;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// There is no such replica.
    #[error("there is no such replica")]
    NotFound,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Says that a replica shall leave the rotation, or come back. It does so with its next beat, within a few seconds.
pub async fn drain(app: &App, actor: &Actor, id: &str, wanted: bool) -> Result<(), ReplicaError> {
    let kind = if wanted { EventKind::ReplicaDrained } else { EventKind::ReplicaReturned };
    let event = AuditEvent::new(kind).by(&actor.name).on(id);
    if app.store.want_drain(id, wanted, event).await? { Ok(()) } else { Err(ReplicaError::NotFound) }
}

/// As [`drain`], for this replica: it has done so when this returns.
pub async fn drain_this(app: &App, actor: &Actor, wanted: bool) -> Result<(), ReplicaError> {
    // It may not have told of itself yet.
    heartbeat::beat(app).await?;
    drain(app, actor, app.store.replica(), wanted).await?;
    app.drain.decide(wanted);
    Ok(())
}
