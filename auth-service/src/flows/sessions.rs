//! Users and operators end sessions.

use super::authenticate::Caller;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::authority::{Actor, AdminPermission};
use crate::domain::session::{EndReason, SessionId};
use crate::domain::user::UserId;
use crate::store::{SqlStore, StoreError};

/// Why a session was not ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no such session, or it belongs to another user.
    #[error("there is no such session")]
    NotFound,
    /// The actor lacks permissions that the session's user has.
    #[error("the session's user has permissions that you do not have")]
    Escalation,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Ends one of the caller's own sessions. Succeeds also if it has already ended.
pub async fn end_own(store: &SqlStore, caller: &Caller, id: SessionId) -> Result<(), SessionError> {
    let live = store.find_session(id).await?;
    if live.is_none_or(|live| live.session.user_id != caller.user_id) {
        return Err(SessionError::NotFound);
    }
    let event = AuditEvent::new(EventKind::SessionEnded).by(caller.user_id).in_session(id);
    store.end_session(id, EndReason::EndedByUser, event).await?;
    Ok(())
}

/// Ends all of the caller's sessions except the current one.
pub async fn end_others(store: &SqlStore, caller: &Caller) -> Result<(), SessionError> {
    let event = AuditEvent::new(EventKind::SessionEnded)
        .by(caller.user_id)
        .on(caller.user_id)
        .in_session(caller.session_id)
        .detail("all others");
    let (user, except) = (caller.user_id, Some(caller.session_id));
    store.end_sessions_of(user, except, EndReason::EndedByUser, event).await?;
    Ok(())
}

/// Ends a session for an operator. Succeeds also if it has already ended.
pub async fn end(store: &SqlStore, actor: Actor, id: SessionId) -> Result<(), SessionError> {
    let live = store.find_session(id).await?.ok_or(SessionError::NotFound)?;
    if !actor.authority.covers(&live.user.permissions) {
        return Err(SessionError::Escalation);
    }
    let event =
        AuditEvent::new(EventKind::SessionEnded).by_actor(&actor).on(live.session.user_id).in_session(id);
    store.end_session(id, EndReason::EndedByAdmin, event).await?;
    Ok(())
}

/// Ends all sessions of a user for an operator. Returns how many.
pub async fn end_all(store: &SqlStore, actor: Actor, user: UserId) -> Result<u64, SessionError> {
    let row = store.find_user(user).await?.ok_or(SessionError::NotFound)?;
    if !actor.authority.covers(&row.permissions) {
        return Err(SessionError::Escalation);
    }
    let event = AuditEvent::new(EventKind::SessionEnded).by_actor(&actor).on(user).detail("all");
    Ok(store.end_sessions_of(user, None, EndReason::EndedByAdmin, event).await?)
}

/// The greatest number of sessions that one transaction of [`end_everyone`] ends: the database's limit for a statement is far away, and
/// other writers of SQLite wait for a moment only.
const BATCH: u32 = 1_000;

/// Ends every live session for an operator, except those that begin meanwhile. Returns how many, and tells `progress` after each
/// transaction how many so far.
///
/// If it is cut off, the sessions that have ended stay ended, and another call ends the rest.
pub async fn end_everyone(
    store: &SqlStore,
    actor: &Actor,
    mut progress: impl FnMut(u64),
) -> Result<u64, SessionError> {
    if !actor.authority.covers(&AdminPermission::all()) {
        return Err(SessionError::Escalation);
    }
    let started_at = store.confirmation().await?.now;
    let mut event = Some(AuditEvent::new(EventKind::SessionEnded).by_actor(actor).detail("all sessions"));
    let (mut ended, mut after) = (0, String::new());
    loop {
        let batch = store.end_batch(after, BATCH, started_at, EndReason::EndedByAdmin, event.clone()).await?;
        let Some(last) = batch.last else { return Ok(ended) };
        if batch.count > 0 {
            // Recorded once, together with the first sessions that ended.
            event = None;
        }
        (ended, after) = (ended + batch.count, last);
        progress(ended);
    }
}
