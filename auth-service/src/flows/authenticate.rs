//! Authenticates callers of the service's own endpoints.

use verifier::{NoExtra, Verified, VerifyError};

use crate::domain::authority::Authority;
use crate::domain::listener::Listener;
use crate::domain::session::SessionId;
use crate::domain::user::{PermissionSet, UserId};
use crate::keys::keyring::RingError;
use crate::runtime::app::App;
use crate::store::StoreError;

/// A caller with a valid token and a live session.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's id.
    pub user_id: UserId,
    /// The normalised user name.
    pub username: String,
    /// The session of the token.
    pub session_id: SessionId,
    /// The application acting for the user.
    pub client_id: String,
    /// The user's current roles.
    pub roles: Vec<String>,
    /// The permissions in the token that the user still has.
    pub permissions: PermissionSet,
}

impl Caller {
    /// The rights with which the caller may grant permissions and change users.
    pub fn authority(&self) -> Authority {
        Authority::Operator(self.permissions.clone())
    }
}

/// Why a caller was refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token is not valid.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The session has ended since the token was issued.
    #[error("the session has ended")]
    SessionEnded,
    /// The key table cannot be read.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Verifies the token as any resource server would, then looks up its session, so that a logout takes effect
/// here immediately.
pub async fn authenticate(app: &App, bearer: &str, listener: Listener) -> Result<Caller, AuthError> {
    let token = verify(app, bearer, listener)?;
    let session_id = token.session_id().and_then(SessionId::parse).ok_or(AuthError::SessionEnded)?;
    let live = app.store.find_session(session_id).await?.ok_or(AuthError::SessionEnded)?;
    // The key table has changed since the check: the token's key may have been compromised.
    if app.keyring.catch_up(&app.store, &live.seen).await? {
        verify(app, bearer, listener)?;
    }
    if !live.session.is_alive(live.seen.now) || live.user.disabled_at.is_some() {
        return Err(AuthError::SessionEnded);
    }
    let in_token: String = token.scopes().collect::<Vec<_>>().join(" ");
    let in_token = PermissionSet::parse(&in_token).unwrap_or_default();
    Ok(Caller {
        user_id: live.session.user_id,
        username: live.user.username,
        session_id,
        client_id: live.session.client_id,
        roles: live.user.roles,
        permissions: live.user.permissions.intersection(&in_token),
    })
}

fn verify(app: &App, bearer: &str, listener: Listener) -> Result<Verified<NoExtra>, VerifyError> {
    app.expected(listener).verify(bearer, app.keyring.snapshot().key_set(), app.clock.now())
}
