//! Ends a session with one of its own tokens.

use verifier::VerifyError;

use super::refresh::check;
use crate::domain::audit::{AuditEvent, EventKind};
use crate::domain::listener::Listener;
use crate::domain::session::{EndReason, SessionId};
use crate::keys::keyring::RingError;
use crate::runtime::app::App;
use crate::store::StoreError;

/// A token of the session. An expired one is accepted, so that logging out is always possible.
#[derive(Debug)]
pub enum LogoutCredential {
    /// A refresh token of any generation.
    RefreshToken(secrecy::SecretString),
    /// An access token.
    Bearer(secrecy::SecretString),
}

/// Why a logout was refused.
#[derive(Debug, thiserror::Error)]
pub enum LogoutError {
    /// The token is neither a refresh token nor an access token of this service.
    #[error("the token is not valid")]
    Invalid,
    /// The key table cannot be read.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<VerifyError> for LogoutError {
    fn from(_: VerifyError) -> Self {
        Self::Invalid
    }
}

/// Ends the session. Succeeds also if it has already ended or expired.
pub async fn logout(app: &App, credential: LogoutCredential) -> Result<(), LogoutError> {
    let id = session_of(app, &credential).await?;
    let event = AuditEvent::new(EventKind::Logout).in_session(id);
    app.store.end_session(id, EndReason::Logout, event).await?;
    Ok(())
}

async fn session_of(app: &App, credential: &LogoutCredential) -> Result<SessionId, LogoutError> {
    use secrecy::ExposeSecret as _;
    match credential {
        LogoutCredential::RefreshToken(token) => {
            let claims = check(&app.keyring, &app.store, token.expose_secret()).await?;
            claims.map(|claims| claims.session_id).ok_or(LogoutError::Invalid)
        }
        LogoutCredential::Bearer(token) => {
            let snapshot = app.keyring.snapshot();
            // The audience may have been removed from the settings after the token was issued.
            let expected =
                app.expected(Listener::Public).danger_accept_expired().danger_accept_any_audience();
            let verified: verifier::Verified =
                expected.verify(token.expose_secret(), snapshot.key_set(), app.clock.now())?;
            verified.session_id().and_then(SessionId::parse).ok_or(LogoutError::Invalid)
        }
    }
}
